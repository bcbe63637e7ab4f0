"""Self-supervised distillation (SSKD, Xu et al., 2020): matches which image the teacher takes a rotated one to be."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.features.projectors import published_uniform
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.numerics import l2_normalize, non_negative, upcast
from keras_kd.losses.trained import fixed_copy, unset
from keras_kd.serialization import deserialize, serialize

EXCLUDED = -1e30  # a logit whose probability is exactly 0, and finite


def self_supervised_kd(
    teacher_views: Any, student_views: Any, temperature: float = 0.5, keep_wrong: float = 0.75, present: Any = None
) -> Any:
    """`T^2 * KL` between the models' distributions over the images of a batch, for the selected transformed views.

        A[i, v, j] = cosine(transformed view v of example i, original view of example j)
        row (i, v): T^2 * KL(softmax_j(A_teacher / T) || softmax_j(A_student / T))

    A row is wrong if the teacher finds another image more similar than the right one, j = i. All others are selected,
    and of the wrong ones the share `keep_wrong` with the best rank of the right image (rounded down; of equal rank,
    those with a higher probability of it, where the published code depends on the order of the batch).

    The mean over the batch is the mean over the selected rows, as in the authors' code (xuguodong03/SSKD).

    Source: Xu et al., "Knowledge Distillation Meets Self-Supervision", 2020, section 3.

    Args:
        teacher_views, student_views: `[batch, views, features]`, the first view being the original; sizes of the
            features may differ.
        temperature: a positive scalar.
        keep_wrong: from 0 to 1.
        present: `[batch]`, the examples to include; None includes all. The others are 0.

    Returns:
        `[batch]`.
    """
    teacher_views, student_views = upcast(ops.stop_gradient(teacher_views), student_views)
    present = _as_mask(present, teacher_views)
    teacher_log, student_log = (_log_probabilities(x, temperature, present) for x in (teacher_views, student_views))
    divergences = non_negative(ops.sum(ops.exp(teacher_log) * (teacher_log - student_log), axis=-1))
    selected = ops.cast(_selected(teacher_log, keep_wrong, present), divergences.dtype)
    num_present = ops.sum(ops.cast(present, divergences.dtype))
    scale = temperature**2 * num_present / ops.maximum(ops.sum(selected), 1.0)
    return scale * ops.sum(selected * divergences, axis=1)


def contrastive_prediction(views: Any, present: Any = None) -> Any:
    """The cross-entropy of recognizing the original of each transformed view among those of the batch, by the cosine.

    It trains the head on the teacher's features. Without a temperature, as published.

    Source: Xu et al., 2020, section 3.2.

    Args:
        views: `[batch, views, features]`, the first view being the original.
        present: `[batch]`, the examples to include; None includes all. The others are 0.

    Returns:
        `[batch]`, the mean over the transformed views.
    """
    (views,) = upcast(views)
    present = _as_mask(present, views)
    losses = -ops.mean(_of_right_image(_log_probabilities(views, 1.0, present)), axis=1)
    return ops.where(present, losses, 0.0)


def _as_mask(present: Any, views: Any) -> Any:
    return ops.ones_like(views[:, 0, 0], dtype="bool") if present is None else ops.cast(present, "bool")


def _log_probabilities(views: Any, temperature: Any, present: Any) -> Any:
    """Log-softmax over the images present, `[batch, transformed views, batch]`."""
    views = l2_normalize(views)
    cosines = ops.einsum("ivf,jf->ivj", views[:, 1:], views[:, 0])
    return ops.log_softmax(ops.where(present, cosines / temperature, EXCLUDED), axis=-1)


def _of_right_image(values: Any) -> Any:
    """The entry of each row at its own image, `[batch, transformed views]`."""
    return ops.transpose(ops.diagonal(values, axis1=0, axis2=2))


def _selected(teacher_log: Any, keep_wrong: float, present: Any) -> Any:
    """Which transformed views are matched, bool `[batch, transformed views]`."""
    right = _of_right_image(teacher_log)
    rank = ops.sum(ops.cast(teacher_log > right[..., None], right.dtype), axis=-1)
    rows = ops.logical_and(present[:, None], ops.ones_like(right, dtype="bool"))
    error = ops.where(rows, rank - 0.999 * ops.exp(right), 1e30)  # of equal rank, the more probable first
    order = ops.reshape(ops.argsort(ops.argsort(ops.reshape(error, (-1,)))), ops.shape(error))
    num_wrong = ops.sum(ops.cast(ops.logical_and(rows, rank > 0), right.dtype))
    kept = ops.floor(keep_wrong * num_wrong + 1e-4)  # against rounding of the product
    num_selected = ops.sum(ops.cast(rows, right.dtype)) - num_wrong + kept
    return ops.logical_and(rows, ops.cast(order, right.dtype) < num_selected)


@registry.register
class SelfSupervisedKD(DistillationLoss):
    """Trains the student to relate rotated images to the others of a batch as the teacher does.

    See `self_supervised_kd`. It reads `[batch, views, features]`: all views of an image are one example, so weights,
    shuffling and replicas work as for any loss. `keras_kd.features.with_rotations` builds models that provide them.

    Each model has a head, two linear layers with a ReLU between them, on its features. The student's is trained by this
    loss. The paper trains the teacher's first, by `contrastive_prediction` with the teacher fixed, and then keeps it
    fixed: pass it as `teacher_head`. By default it is learned in the same steps, and its `contrastive_prediction` is
    added to the loss; no gradient of one term reaches the head of the other.

    The authors use weight 10, 0.1 for the labels, and soft targets (T = 4) of weight 0.9 on the image and 2.7 on its
    rotations, which is `Weighted(SoftTargets(4.0, teacher="logits_of_views", student="logits_of_views"), 3.6)`.

    Args:
        temperature: the paper's 0.5; not the distiller's.
        keep_wrong: the share of the rows that the teacher gets wrong that are matched.
        teacher_head: a trained Keras layer from the teacher's features to a representation, of which a copy is used;
            None learns one.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = SelfSupervisedKD(teacher="views", student="views")
    >>> loss.build((None, 4, 8), (None, 4, 6))
    >>> [tuple(weight.shape) for weight in loss.trainable_weights]
    [(8, 8), (8,), (8, 8), (8,), (6, 6), (6,), (6, 6), (6,)]
    """

    def __init__(
        self,
        *,
        temperature: float = 0.5,
        keep_wrong: float = 0.75,
        teacher_head: keras.layers.Layer | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.temperature = check_number("temperature", temperature, at_least=1e-3)
        self.keep_wrong = check_number("keep_wrong", keep_wrong, at_least=0.0, at_most=1.0)
        self.learns_teacher_head = teacher_head is None
        self._teacher_head = None if teacher_head is None else [fixed_copy(teacher_head, "teacher_head")]

    def build(self, teacher_shape, student_shape):
        self._check(teacher_shape, student_shape)
        if self.learns_teacher_head:
            self._teacher_head = _head(teacher_shape)
        self._student_head = _head(student_shape)

    @property
    def trained_layers(self):
        return [] if self.learns_teacher_head else self._teacher_head

    def call(self, teacher, student, context):
        teacher, student = upcast(teacher, student)
        teacher, student = _apply(self._teacher_head, teacher), _apply(self._student_head, student)
        losses = self_supervised_kd(teacher, student, self.temperature, self.keep_wrong, context.present)
        if self.learns_teacher_head:
            losses = losses + contrastive_prediction(teacher, context.present)
        return losses

    def validate_outputs(self, teacher_outputs, student_outputs):
        self._check(teacher_outputs.shape, student_outputs.shape)

    def _check(self, *shapes: Any) -> None:
        teacher, student = map(tuple, shapes)
        fits = all(len(shape) == 3 and None not in shape[1:] and shape[1] > 1 for shape in (teacher, student))
        if not fits or teacher[1] != student[1]:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares views of the same images.",
                    received=f"teacher {teacher}, student {student}",
                    expected="(batch, views, features) with the same number of views, at least 2",
                    fix="Build both models with keras_kd.features.with_rotations, and name their layer 'views'.",
                )
            )

    def get_config(self):
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "keep_wrong": self.keep_wrong,
            "teacher_head": None if self.learns_teacher_head else serialize(self._teacher_head[0]),
        }

    @classmethod
    def from_config(cls, config):
        return unset(cls(**{**config, "teacher_head": deserialize(config["teacher_head"])}))


def _head(shape: Any) -> list[layers.Layer]:
    size = shape[-1]
    head = [
        layers.Dense(size, activation=activation, kernel_initializer=published_uniform(), dtype="float32")
        for activation in ("relu", None)
    ]
    for layer in head:
        layer.build((None, size))
    return head


def _apply(head: list[layers.Layer], views: Any) -> Any:
    """The head on each view, as on a batch of vectors."""
    features = ops.reshape(views, (-1, views.shape[-1]))
    for layer in head:
        features = layer(features)
    return ops.reshape(features, (-1, views.shape[1], features.shape[-1]))
