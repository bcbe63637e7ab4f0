"""Builds the smaller model: layers of fewer channels, with the weights of those that stay."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.structured.cut import Cut
from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.visit import LayerTrace
from keras_kd.keras_private import all_layers, set_trainable_flag
from keras_kd.surgery import clone
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.weights import own_weights, weights_by_name


def shrunk(model: keras.Model, cut: Cut) -> keras.Model:
    """A copy of a model without the channels that a cut removes; layers keep names, settings and trainable flags."""
    layers = cut.trace.layers

    def replace(layer):
        record = layers.get(id(layer))
        if record is None or not _is_changed(record, cut):
            return None
        sizes = {key: _size(value, cut) for key, value in record.sizes.items()}
        return copy_layer(layer, layer.get_config() | sizes)

    def replace_input(layer):
        _, flow = cut.trace.inputs.get(id(layer), (None, None))
        return None if flow is None else _input(layer, flow, cut)

    return clone(model, replace, transfer=lambda layer, copy: _fill(layers[id(layer)], copy, cut), inputs=replace_input)


def _is_changed(record: LayerTrace, cut: Cut) -> bool:
    return not all(cut.mask(ids).all() for ids in record.ids())


def _size(value: Any, cut: Cut) -> Any:
    return tuple(cut.count(item) for item in value) if isinstance(value, tuple) else cut.count(value)


def _input(layer: keras.layers.InputLayer, flow: Flow, cut: Cut) -> keras.layers.InputLayer | None:
    """The input of a nested model, of the size of what enters it."""
    shape = list(layer.batch_shape)
    for axis in flow.axes:
        if shape[axis] is not None:
            shape[axis] = cut.count(flow.one_axis(axis))
    if shape == list(layer.batch_shape):
        return None
    return type(layer).from_config(layer.get_config() | {"batch_shape": shape})


def _fill(record: LayerTrace, copy: keras.layers.Layer, cut: Cut) -> None:
    """Gives a copy the weights of a layer, those of the channels that stay."""
    targets = weights_by_name(copy)
    for name, weight in weights_by_name(record.layer).items():
        value = ops.convert_to_numpy(weight)
        for use in record.uses.values():
            if use.weight == name:
                value = np.compress(cut.mask(use.ids), value, axis=use.axis)
        targets[name].assign(value)
    for one, other in zip(all_layers(record.layer), all_layers(copy), strict=True):
        set_trainable_flag(other, one.trainable)
        for weight, target in zip(own_weights(one), own_weights(other), strict=True):
            if target.trainable != weight.trainable:
                target.trainable = weight.trainable
