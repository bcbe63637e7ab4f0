"""From a loss's values to one number per example: what counts in it, and what it may not leave out without a word."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.shapes import same_shape, same_size
from keras_kd.keras_private import keras_mask


class PerExample(NamedTuple):
    """A loss before its reduction.

    Attributes:
        values: float32 `[batch]`; a scalar for a loss that returns a single number for the batch.
        weights: `[batch]`, the sample weights still to be applied, 0 for a row that is absent; None if all weigh 1.
    """

    values: Any
    weights: Any = None

    @property
    def is_scalar(self) -> bool:
        return len(self.values.shape) == 0

    def scaled(self, factor: Any) -> PerExample:
        """The values times a scalar or `[batch]`, which rows are present unchanged."""
        return self._replace(values=ops.multiply(self.values, factor))


class Reduction(keras.losses.Loss):
    """Keras' own weighting and reduction, replicas included, of a loss that has been computed per example."""

    def __call__(self, per_example: PerExample) -> Any:
        values, weights = per_example
        if per_example.is_scalar:
            values = ops.expand_dims(values, 0)
        return super().__call__(values, values, sample_weight=weights)

    def call(self, y_true, y_pred):
        return y_pred


def mask_of(student: Any) -> Any:
    """The Keras mask of what a loss reads of the student, the first where it reads several, or None."""
    masks = map(keras_mask, keras.tree.flatten(student))
    return next((mask for mask in masks if mask is not None), None)


def as_weights(mask: Any, sample_weight: Any) -> tuple[Any, Any]:
    """A mask over whole examples, `[batch]`, becomes a weight of 0 for those; any other stays a mask."""
    if mask is None or len(mask.shape) > 1:
        return mask, sample_weight
    rows = ops.cast(mask, "float32")
    return None, rows if sample_weight is None else expand_like(rows, sample_weight) * ops.cast(
        sample_weight, rows.dtype
    )


def has_weight(sample_weight: Any) -> Any:
    """Bool, in the shape of the weights: where they are not 0; None where all count."""
    return None if sample_weight is None else ops.not_equal(ops.convert_to_tensor(sample_weight), 0)


def any_position(counts: Any) -> Any:
    """`[batch, ...]` to `[batch]`: whether anything in a row counts."""
    if counts is None or len(counts.shape) == 1:
        return counts
    return ops.any(ops.cast(counts, "bool"), axis=tuple(range(1, len(counts.shape))))


def what_counts(features: Any, *parts: Any) -> Any:
    """Bool `[batch, ..., 1]`, to be broadcast to `features`: what counts by all of `parts`; None where all does.

    A part, `[batch]` or `[batch, positions]` (any number of axes), is about positions where its axes are the first ones
    of the features, without the last. Where they are not (features of another resolution), a row counts if any of it
    does.

    >>> tuple(what_counts(ops.ones((2, 3, 5)), ops.ones((2, 3)), ops.ones(2)).shape)
    (2, 3, 1)
    """
    counts = None
    for part in parts:
        if part is None:
            continue
        fits = len(part.shape) < len(features.shape) and same_shape(part.shape, features.shape[: len(part.shape)])
        part = ops.cast(part if fits else any_position(part), "bool")
        part = expand_like(part, features)
        counts = part if counts is None else ops.logical_and(counts, part)
    return counts


def only(features: Any, counts: Any) -> Any:
    """The features with 0 where `counts`, from `what_counts`, is False."""
    return features if counts is None else ops.where(counts, features, ops.zeros_like(features))


def expand_like(value: Any, like: Any) -> Any:
    """`value` with as many axes as `like`, the new ones of size 1 at the end."""
    for _ in range(len(like.shape) - len(value.shape)):
        value = ops.expand_dims(value, axis=-1)
    return value


def mean_per_example(values: Any, mask: Any, sample_weight: Any) -> PerExample:
    """`[batch, ...]` to `[batch]`: the mean over the unmasked positions, and the weights still to be applied.

    Weights with more axes than the values are averaged over these, without padding. A scalar stays one.
    """
    if len(values.shape) == 0:
        return PerExample(values)
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, values.dtype)
        if len(sample_weight.shape) > len(values.shape):
            sample_weight = _mean(sample_weight, mask, first=len(values.shape))
    if len(values.shape) == 1:
        return PerExample(values, sample_weight)
    if sample_weight is not None and len(sample_weight.shape) > 1:
        values, sample_weight = values * expand_like(sample_weight, values), None
    return PerExample(_mean(values, mask, first=1), sample_weight)


def mean_of_positions(values: Any, counts: Any) -> Any:
    """`[batch, ...]` to `[batch]`: the mean over the positions that count.

    `counts` is from `what_counts` of features with these positions; None where all do.
    """
    if len(values.shape) == 1:
        return values
    return _mean(values, None if counts is None else ops.squeeze(counts, axis=-1), first=1)


def _mean(values: Any, mask: Any, first: int) -> Any:
    """The mean over the axes from `first` on, over what the mask leaves where it has these axes."""
    axes = tuple(range(first, len(values.shape)))
    if mask is None or not first < len(mask.shape) <= len(values.shape):
        return ops.mean(values, axis=axes)
    mask = ops.cast(expand_like(mask, values), values.dtype) * ops.ones_like(values)
    return ops.sum(values * mask, axis=axes) / ops.maximum(ops.sum(mask, axis=axes), 1.0)


def checked_values(loss: Any, values: Any, student: Any, mask: Any, sample_weight: Any) -> Any:
    """What a loss returned, as a tensor.

    Raises:
        ConfigurationError: it is not of one value per example; or it is one number, or one per example, where weights
            or a mask would have to count in it and cannot.
    """
    values = None if values is None else ops.convert_to_tensor(values)
    if values is None or keras.backend.standardize_dtype(values.dtype) == "string":
        raise ConfigurationError(
            explain(
                f"The loss {loss.name!r} does not return numbers.",
                received="None" if values is None else "text",
                expected="a value per example, [batch]",
            )
        )
    if len(values.shape) == 0:
        if sample_weight is not None or mask is not None:
            _refuse_scalar(loss, values, "weights" if mask is None else "a mask")
        return values
    shape = tuple(keras.tree.flatten(student)[0].shape)
    batch = shape[:1]
    if not batch or not (same_size(values.shape[0], batch[0]) and (batch[0] is not None or values.shape[0] is None)):
        raise ConfigurationError(
            explain(
                f"The loss {loss.name!r} does not return a value per example.",
                received=f"shape {tuple(values.shape)} for outputs of shape {shape}",
                expected=f"({batch[0] if batch else 'batch'},), with or without further axes, or one number",
                fix="Reduce over the last axis, keras.ops.mean(..., axis=-1), and keep the batch axis first.",
            )
        )
    if mask is not None and not loss.leaves_out_padding and not _has_positions_of(mask, values):
        refuse_padding(loss.name, mask, f"values of shape {tuple(values.shape)}")
    if values.shape[0] is None:  # a size that shows only when the step runs: other than the batch's, it fails there
        values = ops.reshape(values, (ops.shape(keras.tree.flatten(student)[0])[0], *ops.shape(values)[1:]))
    return values


def refuse_padding(name: str, mask: Any, compared: str) -> None:
    """Raises `ConfigurationError` for a loss that would count what a mask leaves out."""
    raise ConfigurationError(
        explain(
            f"The loss {name!r} would count padding, which it cannot leave out.",
            received=f"features with a mask of shape {tuple(mask.shape)}, compared by {compared}",
            expected="features without a mask, or a value for each position of the mask",
            fix="Name a layer behind the pooling, or take a loss that knows masks. In a class of your own that leaves "
            "out what context.mask does, write leaves_out_padding = True.",
        )
    )


def _has_positions_of(mask: Any, values: Any) -> bool:
    return len(mask.shape) <= len(values.shape) and same_shape(mask.shape, values.shape[: len(mask.shape)])


def _refuse_scalar(loss: Any, values: Any, what: str) -> None:
    raise ConfigurationError(
        explain(
            f"The loss {loss.name!r} returns one number for the batch, in which {what} cannot count.",
            received=f"shape {tuple(values.shape)}",
            expected="a value per example, [batch] or [batch, positions] (sample weights and class weights need it, a "
            "mask does, and examples without a label)",
            fix="Reduce over the last axis alone: keras.ops.mean(..., axis=-1).",
        )
    )
