"""Contrastive representation distillation (Tian et al., 2020): identifies the teacher's embedding of each example."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.linear_embedding import check_known_sizes, linear_embedding
from keras_kd.losses.numerics import flatten, l2_normalize, upcast
from keras_kd.losses.reduction import expand_like
from keras_kd.tasks.tensors import class_indices

UNLABELED = -1


def contrastive_kd(
    teacher_embedding: Any,
    student_embedding: Any,
    *,
    teacher_negatives: Any = None,
    student_negatives: Any = None,
    labels: Any = None,
    negative_labels: Any = None,
    negatives_present: Any = None,
    temperature: float = 0.07,
    mean_score: float | None = None,
    present: Any = None,
) -> Any:
    """The contrastive loss in both directions, with student anchors among teacher embeddings and the reverse.

        noise_contrastive(student, teacher) + noise_contrastive(teacher, student)

    Gradients do not flow into the candidates that an anchor is compared with, as in the published code (RepDistiller
    `crd/`, mdistiller), where they come from a memory: the first term trains the student's embedding, the second the
    teacher's.

    Source: Tian, Krishnan & Isola, "Contrastive Representation Distillation", 2020, section 3.

    Args:
        teacher_embedding, student_embedding: `[batch, size]`, unit vectors; equal rows form the positive pairs.
        teacher_negatives, student_negatives: additional negatives `[memory, size]`, or None.
        labels: class indices `[batch]`. Rows of the anchor's class are excluded from its negatives, as in the paper's
            variant that samples negatives from other classes; -1 (unlabeled) excludes nothing. With None, all other
            rows are negatives.
        negative_labels: labels `[memory]` of the additional negatives; None treats all as unlabeled.
        negatives_present: `[memory]`, the additional negatives to include; None includes all.
        temperature: a number, at least 0.01.
        mean_score: the mean of exp(cosine / temperature) over the data, see `noise_contrastive`; None uses that of
            random directions, `random_mean_score(size, temperature)`.
        present: `[batch]`, the rows to include; None includes all. The result is 0 for the others.

    Returns:
        `[batch]`.
    """
    teacher, student = upcast(teacher_embedding, student_embedding)
    bank = [
        None if extra is None else ops.cast(extra, teacher.dtype) for extra in (teacher_negatives, student_negatives)
    ]
    teacher_all, student_all = (
        ops.stop_gradient(own if extra is None else ops.concatenate([own, extra]))
        for own, extra in zip((teacher, student), bank, strict=True)
    )
    negatives = _negatives(teacher, bank[0], labels, negative_labels, negatives_present, present)
    mean_score = random_mean_score(teacher.shape[-1], temperature) if mean_score is None else mean_score
    settings = {"temperature": temperature, "log_mean_score": math.log(mean_score)}
    values = noise_contrastive(student, teacher_all, negatives, **settings)
    values = values + noise_contrastive(teacher, student_all, negatives, **settings)
    return values if present is None else values * ops.cast(present, values.dtype)


def noise_contrastive(
    anchors: Any, candidates: Any, negatives: Any, *, temperature: float, log_mean_score: float = 0.0
) -> Any:
    """The loss of classifying, for each anchor, its positive candidate against its m negatives.

        D(i, j) = P / (P + m Pn),  P = exp(a_i . c_j / temperature) / Z,  Pn = 1 / n
        row i: -log D(i, i) - sum over its negatives j of log(1 - D(i, j))

    With n examples and Z = n * the mean score, as in published code, n cancels out:

        D(i, j) = sigmoid(a_i . c_j / temperature - log(mean score) - log m)

    This is computed with log-sigmoids and is finite at any score. (The published code also adds 1e-7 to the
    denominator.) The loss of a row without negatives is 0.

    Source: Gutmann & Hyvarinen, "Noise-contrastive estimation", 2010, as in Tian et al., 2020.

    Args:
        anchors: `[batch, size]`.
        candidates: `[batch + memory, size]`; the first `batch` rows are the positives of the anchors, in order.
        negatives: `[batch, batch + memory]`, 1 if a candidate is a negative of the anchor, else 0.
        temperature: a positive scalar.
        log_mean_score: log of the mean of exp(a . c / temperature) over the data.

    Returns:
        `[batch]`.
    """
    count = ops.sum(negatives, axis=-1)
    offset = ops.log(ops.maximum(count, 1.0)) + log_mean_score
    scores = ops.matmul(anchors, ops.transpose(candidates)) / temperature - offset[:, None]
    positive = ops.sum(anchors * candidates[: ops.shape(anchors)[0]], axis=-1) / temperature - offset
    missed = ops.softplus(-positive) + ops.sum(negatives * ops.softplus(scores), axis=-1)
    return ops.where(count > 0, missed, 0.0)


def random_mean_score(size: int, temperature: float) -> float:
    """The mean of exp(u . v / temperature) over random unit vectors u and v, which is that of an untrained memory.

    It is the sum over k of `x^k / (k! (size / 2) (size / 2 + 1) ... (size / 2 + k - 1))` for
    `x = 1 / (4 temperature^2)`; close to `exp(1 / (2 size temperature^2))` for a large size.

    >>> round(random_mean_score(128, 0.07), 3)
    2.209
    """
    total = term = 1.0
    k = 0
    while term > 1e-12 * total:
        term *= 1.0 / (4.0 * temperature**2) / ((k + 1) * (size / 2.0 + k))
        total += term
        k += 1
    return total


def _negatives(own: Any, extra: Any, labels: Any, extra_labels: Any, extra_present: Any, present: Any) -> Any:
    """A mask `[batch, batch + memory]` of present rows other than the anchor that are not labeled with its class."""
    like = ops.ones_like(own[:, 0])
    included = like if present is None else ops.cast(present, own.dtype)
    labels = ops.cast(UNLABELED * like if labels is None else labels, "int32")
    row = ops.cast(ops.cumsum(like), "int32")
    all_counts, all_labels, all_rows = included, labels, row
    if extra is not None:
        like = ops.ones_like(extra[:, 0])
        memory_labels = ops.cast(UNLABELED * like if extra_labels is None else extra_labels, "int32")
        memory_counts = like if extra_present is None else ops.cast(extra_present, own.dtype)
        all_counts = ops.concatenate([included, memory_counts])
        all_labels = ops.concatenate([labels, memory_labels])
        all_rows = ops.concatenate([row, ops.zeros_like(memory_labels)])  # row indices start at 1: 0 equals none
    same = ops.logical_and(labels[:, None] == all_labels[None, :], all_labels[None, :] != UNLABELED)
    excluded = ops.logical_or(same, row[:, None] == all_rows[None, :])
    return ops.where(excluded, 0.0, all_counts[None, :])


@registry.register
class ContrastiveKD(DistillationLoss):
    """Pulls the student's embedding of an example toward the teacher's and away from those of other examples.

    The features of each model are flattened, passed through a learned linear layer and normalized to length 1;
    `contrastive_kd` compares the results. The two layers are trained with the student and belong to the loss.

    Differences from the published code (RepDistiller `crd/`, at weight 0.8 on pooled features): that code keeps one
    slot per example of the data set, found by the example's index and updated with momentum 0.5, and draws 16384
    negatives of other classes for each row; the positive comes from this memory too. A batch does not carry indices, so
    here the positive is the other model's embedding in this batch, and the negatives are the other rows of the batch
    and the last `memory_size` rows before it, without momentum. If `memory_size` is close to the size of the data set
    and there are no labels, an earlier embedding of an example can be one of its own negatives. The published code
    estimates Z from the first batch, when its memory is random; here the mean score is that of random directions, which
    needs no state. Everything else is as in that code.

    Args:
        embedding_size: the output size of the two linear layers.
        temperature: the temperature of the cosines, at least 0.01; independent of the distiller's.
        memory_size: the number of embeddings of earlier batches to keep as negatives, in non-trainable weights of the
            loss; 0 uses only those of the batch. The memory is updated in training only, and not by rows of weight 0.
        use_labels: whether to exclude rows of the anchor's own class from its negatives if the batch has labels: class
            indices (-1 for unlabeled) or one-hot.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = ContrastiveKD(teacher="pool", student="pool", embedding_size=16, memory_size=64)
    >>> float(loss([[1.0, 2.0]], [[3.0]]))  # a single row has no negatives
    0.0
    >>> [tuple(weight.shape) for weight in loss.trainable_weights]
    [(2, 16), (16,), (1, 16), (16,)]
    """

    excludes_padding = True

    def __init__(
        self,
        *,
        embedding_size: int = 128,
        temperature: float = 0.07,
        memory_size: int = 0,
        use_labels: bool = True,
        **options: Any,
    ):
        super().__init__(**options)
        self.embedding_size = check_integer("embedding_size", embedding_size, at_least=1)
        self.temperature = check_number("temperature", temperature, at_least=0.01)
        self.memory_size = check_integer("memory_size", memory_size, at_least=0)
        self.use_labels = bool(use_labels)

    def build(self, teacher_shape, student_shape):
        self._embed_teacher = linear_embedding("embed_teacher", self.embedding_size, teacher_shape)
        self._embed_student = linear_embedding("embed_student", self.embedding_size, student_shape)
        if self.memory_size:
            self._teacher_memory = self._add_memory("teacher_memory", self.embedding_size)
            self._student_memory = self._add_memory("student_memory", self.embedding_size)
            self._memory_labels = self._add_memory("memory_labels", dtype="int32")
            self._memory_filled = self._add_memory("memory_filled")

    def _add_memory(self, name: str, *size: int, dtype: str = "float32") -> Any:
        settings = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
        return self.add_weight(shape=(self.memory_size, *size), name=name, dtype=dtype, **settings)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_known_sizes(self.name, teacher_outputs.shape, student_outputs.shape)

    def call(self, teacher, student, context):
        teacher, student = upcast(*without_padding(teacher, student, context))
        teacher = l2_normalize(self._embed_teacher(flatten(teacher)))
        student = l2_normalize(self._embed_student(flatten(student)))
        labels = self._class_indices(context.labels)
        memory = {}
        if self.memory_size:
            memory = {
                "teacher_negatives": ops.convert_to_tensor(self._teacher_memory),
                "student_negatives": ops.convert_to_tensor(self._student_memory),
                "negative_labels": ops.convert_to_tensor(self._memory_labels),
                "negatives_present": ops.convert_to_tensor(self._memory_filled),
            }
        values = contrastive_kd(
            teacher, student, labels=labels, temperature=self.temperature, present=context.present, **memory
        )
        if self.memory_size and context.training:
            self._remember(teacher, student, labels, context.present)
        return values

    def _class_indices(self, labels: Any) -> Any:
        """Class indices `[batch]`, or None if there are no labels or `use_labels` is off."""
        if labels is None or not self.use_labels:
            return None
        labels = class_indices(labels, num_axes=1)
        if len(labels.shape) != 1:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} cannot determine the class of each example.",
                    received=f"labels of shape {tuple(labels.shape)}",
                    expected="(batch,), (batch, 1) or one-hot (batch, classes)",
                    fix="Use use_labels=False, which treats all other examples as negatives.",
                )
            )
        return labels

    def _remember(self, teacher: Any, student: Any, labels: Any, present: Any) -> None:
        """Inserts the present rows at the front of the memory and drops the oldest entries."""
        like = ops.ones_like(teacher[:, 0])
        labels = ops.cast(UNLABELED * like if labels is None else labels, "int32")
        present = like if present is None else ops.cast(present, like.dtype)
        filled = ops.concatenate([present, ops.cast(self._memory_filled, like.dtype)])
        kept = _filled_first(filled)[: self.memory_size]
        memories = (self._teacher_memory, self._student_memory, self._memory_labels, self._memory_filled)
        for memory, rows in zip(memories, (teacher, student, labels, present), strict=True):
            rows = ops.stop_gradient(ops.cast(rows, memory.dtype))
            rows = ops.where(expand_like(present, rows) > 0, rows, ops.zeros_like(rows))  # 0, like empty slots
            memory.assign(ops.take(ops.concatenate([rows, ops.convert_to_tensor(memory)]), kept, axis=0))

    def get_config(self):
        return {
            **super().get_config(),
            "embedding_size": self.embedding_size,
            "temperature": self.temperature,
            "memory_size": self.memory_size,
            "use_labels": self.use_labels,
        }


def _filled_first(filled: Any) -> Any:
    """The indices of the filled rows (1) in their order, followed by those of the empty rows (0)."""
    order = ops.cumsum(ops.ones_like(filled))
    return ops.argsort(order + (1.0 - filled) * ops.sum(ops.ones_like(filled)))
