"""Reduces the values of a loss to one number per example, excluding padding and rows of weight 0."""

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
        """Multiplies the values by a scalar or `[batch]`; which rows are present does not change."""
        return self._replace(values=ops.multiply(self.values, factor))


class Reduction(keras.losses.Loss):
    """Applies Keras' own weighting and reduction, including replicas, to a loss that was computed per example."""

    def __call__(self, per_example: PerExample) -> Any:
        values, weights = per_example
        if per_example.is_scalar:
            values = ops.expand_dims(values, 0)
        return super().__call__(values, values, sample_weight=weights)

    def call(self, y_true, y_pred):
        return y_pred


def mask_of(student: Any) -> Any:
    """The Keras mask of the student's tensors that a loss reads: the first one found, or None."""
    masks = map(keras_mask, keras.tree.flatten(student))
    return next((mask for mask in masks if mask is not None), None)


def as_weights(mask: Any, sample_weight: Any) -> tuple[Any, Any]:
    """Converts a mask over whole examples, `[batch]`, to sample weights of 0; other masks are returned unchanged."""
    if mask is None or len(mask.shape) > 1:
        return mask, sample_weight
    rows = ops.cast(mask, "float32")
    return None, rows if sample_weight is None else expand_like(rows, sample_weight) * ops.cast(
        sample_weight, rows.dtype
    )


def has_weight(sample_weight: Any) -> Any:
    """Bool in the shape of the weights, True for nonzero weights; None without weights."""
    return None if sample_weight is None else ops.not_equal(ops.convert_to_tensor(sample_weight), 0)


def any_in_row(included: Any) -> Any:
    """Whether any entry of a row is included: `[batch, ...]` to `[batch]`."""
    if included is None or len(included.shape) == 1:
        return included
    return ops.any(ops.cast(included, "bool"), axis=tuple(range(1, len(included.shape))))


def included_entries(features: Any, *parts: Any) -> Any:
    """The entries of features that all `parts` include: bool `[batch, ..., 1]`, broadcastable; None includes all.

    A part is `[batch]` or `[batch, positions]` (with any number of axes). It applies to positions if its axes are the
    leading axes of the features, without the last one. Otherwise (features of another resolution), a row is included if
    any of its positions is.

    >>> tuple(included_entries(ops.ones((2, 3, 5)), ops.ones((2, 3)), ops.ones(2)).shape)
    (2, 3, 1)
    """
    included = None
    for part in parts:
        if part is None:
            continue
        fits = len(part.shape) < len(features.shape) and same_shape(part.shape, features.shape[: len(part.shape)])
        part = ops.cast(part if fits else any_in_row(part), "bool")
        part = expand_like(part, features)
        included = part if included is None else ops.logical_and(included, part)
    return included


def zero_excluded(features: Any, included: Any) -> Any:
    """Sets features to 0 where `included`, from `included_entries`, is False."""
    return features if included is None else ops.where(included, features, ops.zeros_like(features))


def expand_like(value: Any, like: Any) -> Any:
    """Appends axes of size 1 until `value` has as many axes as `like`."""
    for _ in range(len(like.shape) - len(value.shape)):
        value = ops.expand_dims(value, axis=-1)
    return value


def mean_per_example(values: Any, mask: Any, sample_weight: Any) -> PerExample:
    """Averages `[batch, ...]` over the unmasked positions; the result contains the weights still to be applied.

    Weights with more axes than the values are averaged over those axes, excluding padding. A scalar is unchanged.
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


def mean_over_positions(values: Any, included: Any) -> Any:
    """The mean over the included positions: `[batch, ...]` to `[batch]`.

    `included` is from `included_entries` of features with these positions; None includes all.
    """
    if len(values.shape) == 1:
        return values
    return _mean(values, None if included is None else ops.squeeze(included, axis=-1), first=1)


def _mean(values: Any, mask: Any, first: int) -> Any:
    """The mean over the axes from `first` on, over the unmasked entries if the mask has these axes."""
    axes = tuple(range(first, len(values.shape)))
    if mask is None or not first < len(mask.shape) <= len(values.shape):
        return ops.mean(values, axis=axes)
    mask = ops.cast(expand_like(mask, values), values.dtype) * ops.ones_like(values)
    return ops.sum(values * mask, axis=axes) / ops.maximum(ops.sum(mask, axis=axes), 1.0)


def checked_values(loss: Any, values: Any, student: Any, mask: Any, sample_weight: Any) -> Any:
    """Validates what a loss returned and converts it to a tensor.

    Raises:
        ConfigurationError: if it is not a value per example, or if weights or a mask cannot be applied to it (a scalar
            under either; a value per example under a mask).
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
                expected=f"({batch[0] if batch else 'batch'},), with or without further axes, or a scalar",
                fix="Reduce over the last axis, keras.ops.mean(..., axis=-1), and keep the batch axis first.",
            )
        )
    if mask is not None and not loss.excludes_padding and not _has_positions_of(mask, values):
        refuse_padding(loss.name, mask, f"values of shape {tuple(values.shape)}")
    if values.shape[0] is None:  # fails when the step runs if the size differs from the batch's
        values = ops.reshape(values, (ops.shape(keras.tree.flatten(student)[0])[0], *ops.shape(values)[1:]))
    return values


def refuse_padding(name: str, mask: Any, compared: str) -> None:
    """Raises `ConfigurationError` for a loss that would include padding."""
    raise ConfigurationError(
        explain(
            f"The loss {name!r} would include padding, which it cannot exclude.",
            received=f"features with a mask of shape {tuple(mask.shape)}, compared by {compared}",
            expected="features without a mask, or a value for each position of the mask",
            fix="Name a layer after the pooling, or choose a loss that supports masks. In a custom class that respects "
            "context.mask, declare excludes_padding = True.",
        )
    )


def _has_positions_of(mask: Any, values: Any) -> bool:
    return len(mask.shape) <= len(values.shape) and same_shape(mask.shape, values.shape[: len(mask.shape)])


def _refuse_scalar(loss: Any, values: Any, what: str) -> None:
    raise ConfigurationError(
        explain(
            f"The loss {loss.name!r} returns a scalar for the batch, to which {what} cannot be applied.",
            received=f"shape {tuple(values.shape)}",
            expected="a value per example, [batch] or [batch, positions] (required by sample weights, class weights, "
            "masks and unlabeled examples)",
            fix="Reduce over the last axis alone: keras.ops.mean(..., axis=-1).",
        )
    )
