"""Magnitude pruning: weights of small magnitude become zero while the model is trained."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_kd import schedules
from keras_kd.compression.pruning.masking import Mask
from keras_kd.compression.pruning.patterns import Blocks, NOfM, Pattern, get_pattern
from keras_kd.compression.selection import matrix_view
from keras_kd.compression.stripping import check_model, reparametrized_layers
from keras_kd.compression.transform import WeightTransform
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.surgery.weights import weights_by_name

_CHECKED_STEPS = (0, *(10**power for power in range(8)))


class Pruning(WeightTransform):
    """Prunes kernels and embedding tables by magnitude, each to the same sparsity.

        prune = kd.compression.Pruning(kd.schedules.Polynomial(0.0, 0.8, steps=2000), begin=200)
        sparse = prune.apply(student)
        kd.Distiller(teacher, sparse).fit(...)
        small = prune.strip(sparse)

    The masks are state of the model. They change in the forward pass of a training step, so that `fit` needs no
    callback. A pruned weight is exactly zero in every forward pass, in what `strip` returns and in what is exported,
    whatever the optimizer does: it trains a weight behind the mask.

    Zeros make a compressed file smaller (`gzip`, an app package), but not the `.tflite` file itself, nor is it faster,
    except where XNNPACK's sparse kernels apply.

    Source: M. Zhu & S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
    2017 (the cubic schedule: `Polynomial(start, end, steps=...)`).

    Args:
        sparsity: the fraction of zeros of each kernel, 0 to 1: a number, or a schedule over the steps since `begin`.
            None is the sparsity of the pattern, 0.5 for `"2:4"`. Where a schedule falls, pruned weights stay pruned. At
            least one weight is kept.
        pattern: `"unstructured"`; a block of inputs by outputs that is pruned as a whole, such as `"1x4"` or `(1, 4)`;
            or `"2:4"`: at most 2 nonzero of 4 neighboring inputs of an output.
        begin: the step at which pruning begins.
        frequency: the masks are computed every so many steps, from `begin` on. Steps are forward passes in training
            mode.
        skip: the paths of layers that stay as they are.

    Raises:
        ConfigurationError: a setting out of range.
    """

    def __init__(
        self,
        sparsity: Any = None,
        *,
        pattern: Any = "unstructured",
        begin: int = 0,
        frequency: int = 100,
        skip: Collection[str] = (),
    ):
        super().__init__(skip)
        self.pattern = get_pattern(pattern)
        self.sparsity = _schedule(sparsity, self.pattern)
        self.begin = check_integer("begin", begin, at_least=0)
        self.frequency = check_integer("frequency", frequency, at_least=1)

    def function(self, layer, weight, calls):
        view = matrix_view(layer, weight)
        if self.pattern.needs_matrix:
            if view is None:
                return f"does not sum over inputs, which {self.pattern} needs"
            shape = tuple(weights_by_name(layer)[weight].shape)
            if problem := self._misfit(_matrix_shape(view, shape)):
                return problem
        return Mask(
            self.sparsity,
            str(self.pattern),
            view if self.pattern.needs_matrix else None,
            begin=self.begin,
            frequency=self.frequency,
            calls=calls,
            name=f"{weight.replace('/', '_')}_mask",
        )

    def _misfit(self, shape: tuple[int, int]) -> str | None:
        pattern, (inputs, outputs) = self.pattern, shape
        if isinstance(pattern, NOfM) and inputs < pattern.m:
            return f"{inputs} inputs, fewer than the {pattern.m} of {pattern}"
        if isinstance(pattern, Blocks) and (inputs < pattern.height or outputs < pattern.width):
            return f"{inputs} inputs and {outputs} outputs, smaller than a block of {pattern}"
        return None


def sparsity(model: keras.Model) -> dict[str, float]:
    """The fraction of exact zeros in each kernel of a model that is being pruned, by path of the layer and weight.

    Raises:
        ConfigurationError: the model was not made by `apply`.
    """
    check_model(model)
    found = {
        f"{path}/{name}": value
        for path, layer in reparametrized_layers(model).items()
        for name, value in layer.effective_weights().items()
    }
    if not found:
        raise ConfigurationError(
            explain(
                f"{model.name!r} is not being pruned.",
                received="a model without compressed layers",
                expected="a model made by `apply`",
            )
        )
    return {path: float(np.mean(keras.ops.convert_to_numpy(value) == 0)) for path, value in found.items()}


def _schedule(sparsity: Any, pattern: Pattern) -> schedules.Schedule:
    least = pattern.least_sparsity
    if sparsity is None and not least:
        raise ConfigurationError(
            explain(
                "'sparsity' is missing.",
                received=f"None, with the pattern {pattern}",
                expected="the fraction of zeros, 0 to 1, or a schedule of it",
            )
        )
    sparsity = least if sparsity is None else sparsity
    if isinstance(sparsity, numbers.Real):
        own = f"The pattern {pattern} alone gives {least:g}." if least else None
        return schedules.get(float(check_number("sparsity", sparsity, at_least=least, at_most=1.0, fix=own)))
    schedule = schedules.get(sparsity)
    values = [float(schedule(step)) for step in _CHECKED_STEPS]
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ConfigurationError(
            explain(
                "Invalid 'sparsity'.",
                received=f"{sparsity!r}, which goes from {min(values):g} to {max(values):g}",
                expected="a schedule with values from 0 to 1",
            )
        )
    return schedule


def _matrix_shape(view: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    sizes = [shape[axis] for axis in view.axes]
    positions = len(sizes) - view.inputs - view.outputs
    inputs = int(np.prod(sizes[positions : positions + view.inputs]))
    return inputs, int(np.prod(sizes[positions + view.inputs :]))
