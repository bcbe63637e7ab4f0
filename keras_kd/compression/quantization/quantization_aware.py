"""Quantization-aware training: the model trains on the numbers that an integer file can hold."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import Any

import keras

from keras_kd.compression.additions import Additions, Output
from keras_kd.compression.quantization.activations import ActivationQuantizer
from keras_kd.compression.quantization.learned_steps import LearnedStepQuantizer, LearnedStepWeight
from keras_kd.compression.quantization.opening import insides, is_on_grid, left_float
from keras_kd.compression.quantization.placement import Rounding, roundings
from keras_kd.compression.quantization.settings import QuantizerSettings
from keras_kd.compression.quantization.weights import FakeQuantizedWeight, channel_axes
from keras_kd.compression.selection import kernels
from keras_kd.compression.transform import WeightTransform, graph_layers
from keras_kd.errors import check_choice, check_integer, check_number
from keras_kd.surgery import read_graph

ALGORITHMS = ("moving_average", "lsq")


class QuantizationAware(WeightTransform):
    """Rounds weights and activations, while a model is trained, to what an integer file will store.

        aware = kd.compression.QuantizationAware()
        model = aware.apply(student)
        kd.Distiller(teacher, model).fit(...)

    Weights are symmetric, with a scale for each output channel of a convolution or dense layer and one for any other
    kernel.
    Activations have a range that follows the batches of the training. The gradient passes the rounding unchanged and is
    0 outside of the range. Batch normalizations stay layers of their own, which a converter folds.

    Zeros stay zeros, and a clustered weight keeps its number of values, for which it gets a single scale.

    Export the model that `apply` returned, after its training: its ranges become those of the file. `strip` returns the
    plain architecture with rounded weights, without the ranges of the activations.

    Sources: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference", 2018; S. Esser et al., "Learned Step Size Quantization", 2020 (`algorithm="lsq"`).

    Args:
        bits: of the weights, 8 or 4. Embedding tables have 8.
        activation_bits: 8, or 16 with ranges symmetric around 0.
        algorithm: `"moving_average"`: weights are scaled by their largest magnitude, activations by a moving average of
            their minimum and maximum; `"lsq"`: both scales are trained.
        per_unit: whether a dense layer has a scale for each of its units, as a convolution has for each channel; False
            gives it a single one, which some microcontrollers and accelerators need.
        skip: the paths of layers that stay in floating point.
        momentum: of the moving average, for each step.
        warmup: steps in which the ranges of activations are followed and activations are not rounded.
        freeze: the step from which on the ranges of activations and the statistics of batch normalizations are frozen;
            None never freezes them. Weights, and the steps that `"lsq"` learns for them, are still trained. A step is a
            forward pass in training mode. Choose one at which the learning rate has decayed: at a high one, the sudden
            change of the gradients costs accuracy for some steps.

    Raises:
        ConfigurationError: a setting out of range.
    """

    is_last = True

    def __init__(
        self,
        *,
        bits: int = 8,
        activation_bits: int = 8,
        algorithm: str = "moving_average",
        per_unit: bool = True,
        skip: Collection[str] = (),
        momentum: float = 0.99,
        warmup: int = 0,
        freeze: int | None = None,
    ):
        super().__init__(skip)
        self.bits = check_choice("bits", bits, (4, 8))
        self.activation_bits = check_choice("activation_bits", activation_bits, (8, 16))
        self.algorithm = check_choice("algorithm", algorithm, ALGORITHMS)
        self.per_unit = check_choice("per_unit", per_unit, (True, False))
        self.momentum = check_number("momentum", momentum, at_least=0.0, at_most=1.0)
        self.warmup = check_integer("warmup", warmup, at_least=0)
        self.freeze = None if freeze is None else check_integer("freeze", freeze, at_least=self.warmup + 1)

    def kernels(self, layer):
        return kernels(layer, frozen=True)

    def function(self, layer, weight, calls):
        kind = LearnedStepWeight if self.algorithm == "lsq" else FakeQuantizedWeight
        bits = 8 if weight.endswith("embeddings") else self.bits
        return kind(
            bits=bits, axes=channel_axes(layer, weight, dense=self.per_unit), name=f"{weight.replace('/', '_')}_grid"
        )

    def additions(self, model):
        settings = self._settings()
        found = roundings(model, self.skip, self._is_on_grid)
        quantizers = _quantizers(found, settings)

        def insert(tensor: Any, copy: Any) -> Any:
            quantizer, options = quantizers.get(id(tensor), (None, {}))
            return copy if quantizer is None else quantizer(copy, **options)

        return Additions(insert, self._inside(model, settings), _outputs(found, quantizers, model))

    def _settings(self) -> QuantizerSettings:
        kind = LearnedStepQuantizer if self.algorithm == "lsq" else ActivationQuantizer
        return QuantizerSettings(self.activation_bits, self.momentum, self.warmup, self.freeze, kind)

    def _is_on_grid(self, operation: Any) -> bool:
        """Whether the outputs of a layer are rounded already."""
        is_table = isinstance(operation, keras.layers.Embedding) and self.activation_bits == 8
        return is_table or is_on_grid(operation)

    def _inside(self, model: keras.Model, settings: QuantizerSettings) -> dict[int, dict[str, Any]]:
        found = {}
        for path, layer, calls in graph_layers(model):
            if path not in self.skip:
                found[id(layer)] = insides(layer, settings, calls)
        return found


def _quantizers(
    found: list[Rounding], settings: QuantizerSettings
) -> dict[int, tuple[ActivationQuantizer, dict[str, Any]]]:
    """The quantizer of each tensor that has one, by the tensor's id, and the options of its call."""
    made: dict[int, tuple[ActivationQuantizer, dict[str, Any]]] = {}
    names: collections.Counter = collections.Counter()
    for rounding in found:
        if rounding.reason:
            continue
        if rounding.source is not None and id(rounding.source) in made:
            made[id(rounding.tensor)] = made[id(rounding.source)][0], {"observe": False}
            continue
        number = names[rounding.path]
        names[rounding.path] += 1
        own = rounding.path.rpartition("/")[2]
        name = f"{own}_quantizer_{number}" if number else f"{own}_quantizer"
        made[id(rounding.tensor)] = settings.make(name, rounding.runs, rounding.activation), {}
    return made


def _outputs(found: list[Rounding], quantizers: dict, model: keras.Model) -> dict[str, Output]:
    """What happens to the output of each operation, by path."""
    nodes = {node.path: node.operation for node in read_graph(model)}
    outputs = {}
    for rounding in found:
        operation = nodes.get(rounding.path)
        kind = "Input" if operation is None else type(operation).__name__
        inside = "" if rounding.reason == "listed in skip" or operation is None else left_float(operation)
        text = "rounded" if id(rounding.tensor) in quantizers else rounding.reason
        outputs[rounding.path] = Output(kind, text, inside)
    return outputs
