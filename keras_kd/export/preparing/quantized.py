"""Prepares a fake-quantized model for the converter, which takes the trained ranges from its graph."""

from __future__ import annotations

import contextlib

import keras
import numpy as np

from keras_kd.compression.quantization import ActivationQuantizer, FakeQuantizedWeight, exporting
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.compression.weight_functions import Composed, WeightFunction
from keras_kd.errors import ConfigurationError, explain
from keras_kd.export.preparing.scale_and_shift import (
    ScaleAndShift,
    layers_with_folded,
    scale_and_shift,
    separate_layers,
)
from keras_kd.features.paths import layers_by_path
from keras_kd.litert import Format
from keras_kd.litert.formats import Int8
from keras_kd.surgery import clone
from keras_kd.surgery.weights import weights_by_name


def is_fake_quantized(model: keras.Model) -> bool:
    """Whether activations of a model pass through the fake quantization of `QuantizationAware`."""
    return bool(_quantizers(model))


def has_ranges_for(model: keras.Model, form: Format) -> bool:
    """Whether the ranges that a model was trained with are those of a format: 8-bit activations for `Int8`."""
    return isinstance(form, Int8) and {quantizer.bits for quantizer in _quantizers(model)} == {8}


def check_trained_ranges(model: keras.Model, form: Format) -> None:
    """Raises `ConfigurationError` if a fake-quantized model has no ranges yet, or none for this format."""
    if not has_ranges_for(model, form):
        bits = " and ".join(map(str, sorted({quantizer.bits for quantizer in _quantizers(model)})))
        raise ConfigurationError(
            explain(
                f"{model.name!r} is fake-quantized with {bits}-bit activations.",
                received=f"format={form.name!r}",
                expected="format='int8', which has the trained ranges of 8-bit activations",
                fix="For another format, pass `kd.compression.strip(model)`.",
            )
        )
    with exporting(model):
        pass


def with_constant_weights(model: keras.Model) -> keras.Model:
    """A copy of a fake-quantized model for the converter: its activations are fake-quantized, its weights constants.

    The converter scales a constant kernel by the largest magnitude of each channel, `max / 127`, in layers of all
    kinds. These are the trained steps where the training chose them so: for 8-bit weights whose scale follows their
    largest magnitude. With 4 bits or learned steps, the converter rounds the values once more to its finer steps, which
    moves each by at most half of one. It cannot move fake quantization for each channel from the kernel of a Keras
    layer to its own, which has other axes, except in `Conv2D`.

    A kernel with a single step remains fake-quantized: of constants, the converter would choose a step for each
    channel. It does so for a dense layer with a single step into which a batch normalization is folded, since the
    product has a step for each channel in any case.

    Layers that scale and shift, such as a batch normalization that is not folded, become one operator.
    """
    separate = separate_layers(model)
    copy = clone(model, lambda layer: ScaleAndShift() if id(layer) in separate else None, transfer=_carry)
    folded_into = layers_with_folded(copy)
    for layer in reparametrized_layers(copy).values():
        values, weights = layer.effective_weights(), weights_by_name(layer.layer)
        for name, function in list(layer.reparametrizations.items()):
            weights[name].assign(values[name])
            last = _last(function)
            if isinstance(last, FakeQuantizedWeight) and not last.axes and id(layer) not in folded_into:
                layer.reparametrizations[name] = last
            else:
                del layer.reparametrizations[name]
    return copy


def _carry(layer: keras.layers.Layer, replacement: ScaleAndShift) -> None:
    scale, shift = scale_and_shift(layer)
    replacement.scale.assign(np.broadcast_to(scale, replacement.scale.shape))
    replacement.shift.assign(np.broadcast_to(shift, replacement.shift.shape))


def traced(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """The state in which a model is traced for the converter."""
    return exporting(model) if is_fake_quantized(model) else contextlib.nullcontext()


def _quantizers(model: keras.Model) -> list[ActivationQuantizer]:
    return [layer for layer in layers_by_path(model).values() if isinstance(layer, ActivationQuantizer)]


def _last(function: WeightFunction) -> WeightFunction:
    return _last(function.functions[-1]) if isinstance(function, Composed) else function
