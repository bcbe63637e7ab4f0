"""Tracing a model for its shapes: nothing is computed and nothing is updated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain


def trace(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Calls `function` on symbolic stand-ins for `inputs` (symbolic or real tensors); returns symbolic outputs."""
    stand_ins = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, dtype=keras.backend.standardize_dtype(x.dtype)), inputs
    )
    return _Probe(function).compute_output_spec(stand_ins)


def ensure_built(model: Any, inputs: Any, **settings: Any) -> None:
    """Builds a model that would otherwise build itself in its first call, so that all calls behave alike."""
    if not model.built:
        trace(lambda x: model(x, **settings), inputs)


def symbolic_inputs(model: Any, input_shape: Any = None) -> Any:
    """Symbolic tensors in the structure of a model's inputs; None if these are unknown."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain("This is not a model.", received=f"{type(model).__name__} {model!r:.60}", expected="a keras.Model")
        )
    if input_shape is not None:
        return keras.KerasTensor(input_shape, dtype=model.input_dtype)
    if getattr(model, "inputs", None):
        return model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    return None if shape is None else _tensors(shape, model.input_dtype)


def _tensors(shape: Any, dtype: str) -> Any:
    """A symbolic tensor per shape, in the structure of the shapes."""
    if isinstance(shape, dict):
        return {name: _tensors(value, dtype) for name, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple)):
        return [_tensors(value, dtype) for value in shape]
    return keras.KerasTensor((None, *shape[1:]), dtype=dtype)


class _Probe(keras.layers.Layer):
    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(autocast=False)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)
