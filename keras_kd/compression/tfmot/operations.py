"""Operations of `keras.ops` in a graph as layers of `tf_keras`, since TFMOT knows layers only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.compression.tfmot.activations import legacy_activation
from keras_kd.compression.tfmot.importing import import_tf_keras
from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import Call
from keras_kd.serialization import snake_case

_MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
_ACTIVATIONS = ("Elu", "HardSigmoid", "HardSilu", "LogSoftmax", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "Softmax",
                "Softplus", "Softsign", "Tanh")  # fmt: skip
_SETTINGS = {"Elu": {"alpha": 1.0}, "Softmax": {"axis": -1}, "LogSoftmax": {"axis": -1}}


def call_operation(call: Call, tensor: Callable[[keras.KerasTensor], Any]) -> Any:
    """Calls the layer that stands for an operation.

    Args:
        call: of a `keras.ops` operation in a Keras 3 graph.
        tensor: from a symbolic tensor of Keras 3 to that of `tf_keras`.

    Raises:
        ConfigurationError: the operation has no counterpart.
    """
    kind = type(call.operation).__name__
    if type(call.operation).__module__.startswith("keras.src.ops"):
        made = _merge(kind, call) or _concatenation(kind, call) or _shape_change(kind, call) or _activation(kind, call)
        if made is not None:
            layer, inputs = made
            values = [tensor(value) for value in inputs]
            return layer(values if len(values) > 1 or kind == "Concatenate" else values[0])
    raise ConfigurationError(
        explain(
            f"The operation {call.operation.name!r} has no counterpart in tf_keras.",
            received=f"keras.ops: {kind}({', '.join(map(_shown, (*call.args, *call.kwargs.values())))})",
            expected="+, -, * and / with a number; +, -, *, maximum and minimum of two tensors of equal rank; "
            "concatenate; reshape, expand_dims and squeeze that keep the batch axis; or an activation function",
            fix="Use a layer of keras.layers instead of the operation.",
        )
    )


def _merge(kind: str, call: Call) -> tuple[Any, list[Any]] | None:
    if kind not in (*_MERGES, "TrueDivide", "Divide", "Negative") or not keras.backend.is_float_dtype(_dtype(call)):
        return None
    if kind == "Negative":
        return _layer(call, "Rescaling", scale=-1.0), [call.args[0]]
    if call.kwargs or len(call.args) != 2:
        return None
    one, other = call.args
    if _is_tensor(one) and _is_tensor(other):
        fits = kind in _MERGES and len(one.shape) == len(other.shape)
        return (_layer(call, kind), [one, other]) if fits else None
    return _with_number(kind, call, one, other)


def _with_number(kind: str, call: Call, one: Any, other: Any) -> tuple[Any, list[Any]] | None:
    tensor, number = (one, other) if _is_tensor(one) else (other, one)
    if not isinstance(number, (int, float)) or isinstance(number, bool):
        return None
    settings = {
        "Add": {"scale": 1.0, "offset": number},
        "Multiply": {"scale": number},
        "Subtract": {"scale": 1.0, "offset": -number} if tensor is one else {"scale": -1.0, "offset": number},
    }
    if tensor is one and number != 0:
        settings["Divide"] = settings["TrueDivide"] = {"scale": 1.0 / number}
    return (_layer(call, "Rescaling", **settings[kind]), [tensor]) if kind in settings else None


def _concatenation(kind: str, call: Call) -> tuple[Any, list[Any]] | None:
    if kind != "Concatenate" or not isinstance(call.args[0], (list, tuple)) or not all(map(_is_tensor, call.args[0])):
        return None
    return _layer(call, "Concatenate", axis=call.operation.axis), list(call.args[0])


def _shape_change(kind: str, call: Call) -> tuple[Any, list[Any]] | None:
    if kind not in ("Reshape", "ExpandDims", "Squeeze") or not _is_tensor(call.args[0]):
        return None
    before, after = call.args[0].shape, call.outputs[0].shape
    is_static = None not in (*before[1:], *after[1:])
    keeps_batch = is_static and before[0] == after[0] and math.prod(before[1:]) == math.prod(after[1:])
    return (_layer(call, "Reshape", target_shape=tuple(after[1:])), [call.args[0]]) if keeps_batch else None


def _activation(kind: str, call: Call) -> tuple[Any, list[Any]] | None:
    operation = call.operation
    settings = {name: value for name, value in vars(operation).items() if name[0] != "_" and name != "name"}
    if kind not in _ACTIVATIONS or settings != _SETTINGS.get(kind, {}) or len(call.args) != 1:
        return None
    return _layer(call, "Activation", activation=legacy_activation(snake_case(kind), repr(operation.name))), [
        call.args[0]
    ]


def _layer(call: Call, kind: str, **settings: Any) -> Any:
    layer = getattr(import_tf_keras().layers, kind)
    return layer(name=call.operation.name, dtype=_dtype(call), **settings)


def _dtype(call: Call) -> str:
    return keras.backend.standardize_dtype(call.outputs[0].dtype)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _shown(value: Any) -> str:
    return str(tuple(value.shape)) if _is_tensor(value) else repr(value)
