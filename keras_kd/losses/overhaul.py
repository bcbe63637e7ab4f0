"""Feature overhaul (Heo et al., 2019): matches pre-ReLU features by a partial distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.losses.base import registry
from keras_kd.losses.connected_pairs import ConnectedPairs
from keras_kd.losses.numerics import flatten, upcast
from keras_kd.losses.reduction import expand_like


def feature_overhaul(teacher_map: Any, student_map: Any, margin: Any = None, present: Any = None) -> Any:
    """The partial squared distance to the teacher's features after a margin ReLU, summed over all but the batch axis.

    With `target = max(teacher, margin)`, the sum of `(student - target)^2` over the entries with `target > 0` or
    `student > target`: at negative targets the student only has to be as low or lower, since a ReLU follows.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation", 2019, section 3.

    Args:
        teacher_map, student_map: `[batch, ..., channels]`, of equal shape, before the ReLU.
        margin: `[channels]`, at most 0: the mean of the teacher's negative values in each channel, from
            `margins_from_batch_norm`. None estimates it from this batch with `margins_from_features`.
        present: `[batch]` or `[batch, positions]`, the entries to include here and in the estimate; None includes all.
            The result is 0 for excluded rows.

    Returns:
        `[batch]`.
    """
    teacher_map, student_map = upcast(teacher_map, student_map)
    if margin is None:
        margin = margins_from_features(teacher_map, present)
    target = ops.maximum(teacher_map, ops.cast(margin, teacher_map.dtype))
    included = ops.logical_or(target > 0, student_map > target)
    if present is not None:
        included = ops.logical_and(included, expand_like(ops.cast(present, "bool"), included))
    return ops.sum(flatten(ops.where(included, ops.square(student_map - target), 0.0)), axis=-1)


def margins_from_features(teacher_map: Any, present: Any = None) -> Any:
    """The mean of the negative values of each channel; 0 for a channel without any, where it has no effect.

    Args:
        teacher_map: `[batch, ..., channels]`, before the ReLU.
        present: `[batch]` or `[batch, positions]`, the entries to include; None includes all.

    Returns:
        `[channels]`, without a gradient.
    """
    (teacher_map,) = upcast(teacher_map)
    is_negative = teacher_map < 0
    if present is not None:
        is_negative = ops.logical_and(is_negative, expand_like(ops.cast(present, "bool"), is_negative))
    axes = tuple(range(len(teacher_map.shape) - 1))
    total = ops.sum(ops.where(is_negative, teacher_map, 0.0), axis=axes)
    count = ops.sum(ops.cast(is_negative, teacher_map.dtype), axis=axes)
    return ops.stop_gradient(total / ops.maximum(count, 1.0))


def margins_from_batch_norm(gamma: Any, beta: Any) -> list[float]:
    """`E[x | x < 0]` of each channel for normally distributed `x` with mean `beta` and standard deviation `|gamma|`.

    `beta - s * phi(beta / s) / Phi(-beta / s)` with `s = |gamma|`, `phi` and `Phi` the normal density and distribution;
    `-3 s` where `Phi(-beta / s) <= 0.001`, as in the authors' code (clovaai/overhaul-distillation).

    For a `keras.layers.BatchNormalization` right before the ReLU, call `margins_from_batch_norm(layer.gamma,
    layer.beta)`.

    Args:
        gamma, beta: `[channels]` each.

    Returns:
        One plain float per channel, so that the list can be part of a config.

    >>> [round(margin, 4) for margin in margins_from_batch_norm([1.0, 2.0], [0.0, 8.0])]
    [-0.7979, -6.0]
    """
    gamma, beta = (ops.convert_to_numpy(values).tolist() for values in (gamma, beta))
    if len(gamma) != len(beta):
        received = f"{len(gamma)} and {len(beta)} channels"
        raise ConfigurationError(
            explain("gamma and beta have different lengths.", received=received, expected="those of one layer")
        )
    return [_negative_mean(mean, abs(deviation)) for deviation, mean in zip(gamma, beta, strict=True)]


def _negative_mean(mean: float, deviation: float) -> float:
    """`E[x | x < 0]` of a normally distributed x."""
    if deviation == 0.0:
        return min(mean, 0.0)
    ratio = mean / deviation
    below_zero = math.erfc(ratio / math.sqrt(2.0)) / 2.0
    if below_zero <= 0.001:
        return -3.0 * deviation
    return mean - deviation * math.exp(-(ratio**2) / 2.0) / math.sqrt(2.0 * math.pi) / below_zero


@registry.register
class FeatureOverhaul(ConnectedPairs):
    """Trains the student to match the teacher's pre-ReLU features, see `feature_overhaul`, on one or more layer pairs.

    Name the inputs of ReLUs, in layer order: `stage_1_preact` in the models of this package, `"relu:input"` or
    `"conv:preactivation"` in others. Pair `i` of `n` (from 0) has weight `1 / 2^(n - 1 - i)`: 1 for the last, 1/2 for
    the one before. The authors' scripts divide the loss by 1000 (CIFAR-100) or 10000 (ImageNet); here, set that as the
    weight of the loss.

    Args:
        margins: for each pair, one number per channel of the teacher, or None to use the mean of the negative values in
            each batch; None does so for all pairs. The paper's margins come from `margins_from_batch_norm`.
        projector: maps the student's features to the teacher's shape. `"conv"`, as published, always learns a 1x1
            convolution with batch normalization, `"auto"` only if the channels differ, None never. If the sizes differ,
            the student's map is resized; mdistiller pools the teacher's.
        options: `teacher`, `student` (a layer or a list of layers), `name`, `reduction`, see `DistillationLoss`.

    >>> loss = FeatureOverhaul(teacher="stage_3_preact", student="stage_3_preact", margins=[[-0.5]], projector=None)
    >>> float(loss([[[[-1.0]]]], [[[[1.5]]]]))
    4.0
    """

    def __init__(self, *, margins: Sequence[Any] | None = None, projector: str | None = "conv", **options: Any):
        super().__init__(projector=projector, **options)
        self.margins = None if margins is None else [_checked_margin(margin) for margin in margins]

    def compare_pair(self, index, teacher_map, student_map, present):
        margin = None if self.margins is None else self.margins[index]
        return feature_overhaul(teacher_map, student_map, margin, present)

    def check_shapes(self, teacher_shapes, student_shapes):
        super().check_shapes(teacher_shapes, student_shapes)
        channels = [shape[-1] for shape in teacher_shapes]
        given = None if self.margins is None else [margin and len(margin) for margin in self.margins]
        if given is not None and (
            len(given) != len(channels) or any(a not in (None, b) for a, b in zip(given, channels, strict=True))
        ):
            raise ConfigurationError(
                explain(
                    f"The margins of the loss {self.name!r} do not match the teacher's layers.",
                    received=f"margins for {given} channels",
                    expected=f"one list per layer, for {channels} channels",
                    fix="Compute each with margins_from_batch_norm(layer.gamma, layer.beta), from the batch "
                    "normalization before the ReLU.",
                )
            )

    def get_config(self):
        return {**super().get_config(), "margins": self.margins}


def _checked_margin(margin: Any) -> list[float] | None:
    """Validates one margin and returns it as plain floats, one per channel."""
    if margin is None:
        return None
    if not isinstance(margin, Iterable) or isinstance(margin, str):
        raise ConfigurationError(
            explain(
                "'margins' is not valid.",
                received=repr(margin),
                expected="a list with one number per channel for each pair of layers",
                fix="For a single pair, pass a list of one list.",
            )
        )
    return [check_number("margins", value, at_most=0.0) for value in margin]
