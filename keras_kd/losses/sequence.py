"""Distillation of sequence models (Kim & Rush, 2016): at the word level and at the sequence level."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features.shapes import same_size
from keras_kd.losses.base import Context, DistillationLoss, registry
from keras_kd.losses.logits import LogitsLoss, check_same_classes
from keras_kd.losses.numerics import upcast
from keras_kd.tasks.tensors import class_indices


def token_level(teacher_logits: Any, student_logits: Any, temperature: Any = 1.0, mask: Any = None) -> Any:
    """`-T^2 * sum over the vocabulary of softmax(teacher / T) * log softmax(student / T)`, averaged over the tokens.

    Its gradient is that of `soft_targets` at the same temperature; the value is larger by T^2 times the teacher's
    entropy, so it is not 0 when the student equals the teacher. The paper has no temperature (T = 1) and sums over the
    tokens of a sentence; the mean over the unmasked tokens gives long and short sequences equal weight.

    Source: Kim & Rush, "Sequence-Level Knowledge Distillation", 2016, section 3.1 (word-level).

    Args:
        teacher_logits, student_logits: `[batch, tokens, vocabulary]`, both conditioned on the same preceding tokens.
        temperature: a positive scalar.
        mask: `[batch, tokens]`, False for padding; None includes all positions.

    Returns:
        `[batch]`, in nats times T^2; 0 for a row that is all padding.
    """
    return _mean_over_tokens(_word_losses(teacher_logits, student_logits, temperature), mask)


def sequence_level(teacher: Any, student_logits: Any, mask: Any = None) -> Any:
    """`-log softmax(student)[token of the teacher's best sequence]`, averaged over the tokens.

    The paper decodes the best sequence by beam search and trains on it as if it were the data; pass its token ids, and
    the logits of a student that was given that sequence up to each position. With teacher logits instead, the target is
    the most likely token at each position, given the input tokens, rather than a sequence decoded by the teacher. The
    paper sums over the tokens of a sentence; this function averages over the unmasked tokens.

    Source: Kim & Rush, "Sequence-Level Knowledge Distillation", 2016, section 3.2.

    Args:
        teacher: token ids `[batch, tokens]`, negative for padding; or logits `[batch, tokens, vocabulary]`.
        student_logits: `[batch, tokens, vocabulary]`.
        mask: `[batch, tokens]`, False for padding; None includes all positions.

    Returns:
        `[batch]`, in nats; 0 for a row that is all padding.
    """
    tokens = _best_tokens(teacher)
    is_token = tokens >= 0
    mask = is_token if mask is None else ops.logical_and(is_token, ops.cast(mask, "bool"))
    return _mean_over_tokens(_negative_log_likelihood(tokens, student_logits), mask)


def _word_losses(teacher_logits: Any, student_logits: Any, temperature: Any) -> Any:
    teacher_logits, student_logits, temperature = upcast(teacher_logits, student_logits, temperature)
    probabilities = ops.softmax(teacher_logits / temperature, axis=-1)
    student_log = ops.log_softmax(student_logits / temperature, axis=-1)
    return -(temperature**2) * ops.sum(probabilities * student_log, axis=-1)


def _best_tokens(teacher: Any) -> Any:
    teacher = ops.convert_to_tensor(teacher)
    return ops.cast(teacher if len(teacher.shape) == 2 else ops.argmax(teacher, axis=-1), "int32")


def _negative_log_likelihood(tokens: Any, student_logits: Any) -> Any:
    (student_logits,) = upcast(student_logits)
    is_token = ops.equal(ops.expand_dims(tokens, -1), ops.arange(student_logits.shape[-1], dtype="int32"))
    return -ops.sum(ops.where(is_token, ops.log_softmax(student_logits, axis=-1), 0.0), axis=-1)


def _mean_over_tokens(values: Any, mask: Any) -> Any:
    if mask is None:
        return ops.mean(values, axis=-1)
    mask = ops.cast(mask, values.dtype)
    return ops.sum(values * mask, axis=-1) / ops.maximum(ops.sum(mask, axis=-1), 1.0)


@registry.register
class TokenLevel(LogitsLoss):
    """Trains the student to match the teacher's distribution at each token, see `token_level`.

    Respects the student's Keras mask, and sample weights per token, `[batch, tokens]`.

    Args:
        temperature: a number or a schedule; None uses the distiller's. The paper's is 1.0.
        padding: the id of the padding token. Positions with this label are excluded (without labels, those with this
            most likely token of the teacher). None if there is a mask, or no padding.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = TokenLevel()
    >>> round(float(loss([[[2.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]])), 4)
    0.6931
    """

    def __init__(self, temperature: Any = 1.0, *, padding: int | None = None, **options: Any):
        super().__init__(temperature, **options)
        self.padding = _check_padding(padding)

    def call(self, teacher, student, context):
        values = _word_losses(teacher, student, self.temperature_in(context))
        included = None if self.padding is None else ops.not_equal(self._tokens(teacher, context), self.padding)
        return _only(values, included, context.mask)

    def _tokens(self, teacher: Any, context: Context) -> Any:
        return _best_tokens(teacher) if context.labels is None else _label_tokens(self.name, context.labels, teacher)

    def validate_outputs(self, teacher_outputs, student_outputs):
        _check_shapes(self.name, teacher_outputs.shape, student_outputs.shape, ids_allowed=False)

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


@registry.register
class SequenceLevel(DistillationLoss):
    """Trains the student to predict the teacher's best sequence, see `sequence_level`.

    Respects the student's Keras mask, and sample weights per token, `[batch, tokens]`.

    Args:
        padding: the id of the padding token. If the teacher outputs token ids, positions with this id are excluded; if
            it outputs logits, positions with this label (without labels, those with this most likely token of the
            teacher). None if there is a mask, or no padding.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = SequenceLevel(padding=0)
    >>> round(float(loss([[2, 1, 0]], [[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]])), 4)
    1.0986
    """

    def __init__(self, *, padding: int | None = None, **options: Any):
        super().__init__(**options)
        self.padding = _check_padding(padding)

    def call(self, teacher, student, context):
        tokens = _best_tokens(teacher)
        included = tokens >= 0
        if self.padding is not None:
            has_labels = len(teacher.shape) == 3 and context.labels is not None
            ids = _label_tokens(self.name, context.labels, student) if has_labels else tokens
            included = ops.logical_and(included, ops.not_equal(ids, self.padding))
        return _only(_negative_log_likelihood(tokens, student), included, context.mask)

    def validate_outputs(self, teacher_outputs, student_outputs):
        _check_shapes(self.name, teacher_outputs.shape, student_outputs.shape, ids_allowed=True)

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


def _only(values: Any, included: Any, mask: Any) -> Any:
    """Rescales values `[batch, tokens]` so that their mean over `mask` is the mean over the included tokens within it.

    The base class takes the mean over `mask`; this way it can still apply weights per token.
    """
    if included is None:
        return values
    mask = ops.ones_like(values) if mask is None else ops.cast(mask, values.dtype)
    included = ops.cast(included, values.dtype) * mask
    sizes = [ops.maximum(ops.sum(part, axis=-1, keepdims=True), 1.0) for part in (mask, included)]
    return values * included * (sizes[0] / sizes[1])


def _label_tokens(name: str, labels: Any, logits: Any) -> Any:
    """The labels as token ids `[batch, tokens]`."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) not in (2, 3):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} finds padding by the labels, but they are not one per token.",
                received=f"labels of shape {tuple(labels.shape)}",
                expected="token ids [batch, tokens]",
                fix="Omit padding=..., and use mask_zero=True in the student's Embedding.",
            )
        )
    return class_indices(labels, len(logits.shape) - 1)


def _check_padding(padding: Any) -> int | None:
    fix = "Pass the id of the padding token, or None."
    return None if padding is None else check_integer("padding", padding, fix=fix)


def _check_shapes(name: str, teacher_shape: Any, student_shape: Any, *, ids_allowed: bool) -> None:
    teacher_shape, student_shape = tuple(teacher_shape), tuple(student_shape)
    ranks = (2, 3) if ids_allowed else (3,)
    same_length = len(teacher_shape) < 2 or len(student_shape) < 2 or same_size(teacher_shape[1], student_shape[1])
    if len(student_shape) != 3 or len(teacher_shape) not in ranks or not same_length:
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares sequences of the same tokens.",
                received=f"teacher {teacher_shape}, student {student_shape}",
                expected="logits (batch, tokens, vocabulary)"
                + (", or token ids from the teacher" if ids_allowed else ""),
                fix="For one prediction per example, use SoftTargets.",
            )
        )
    if len(teacher_shape) == 3:
        check_same_classes(name, teacher_shape, student_shape)
