"""Determines whether a model outputs logits or probabilities from the graph of its layers.

The search follows an output back to the operation that decides. If the effect of that operation is unknown, nothing is
guessed: an error asks the user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features.outputs import is_graph, symbolic_outputs
from keras_kd.features.paths import has_activation
from keras_kd.keras_private import call_that_made

_SOFTMAX_OR_SIGMOID = {"softmax": "softmax", "softmax_v2": "softmax", "sigmoid": "sigmoid"}
# values between 0 and 1, or made for them: neither logits nor what logits can be read from
_ASK_ABOUT_ACTIVATIONS = {"hard_sigmoid", "sparse_sigmoid", "sparsemax", "log_sigmoid", "exponential", "exp"}
_ASK_ABOUT = {
    *("HardSigmoid", "SparseSigmoid", "Sparsemax", "LogSigmoid", "Exp", "Exp2"),
    *("Lambda", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "TFSMLayer", "InputLayer"),  # anything may be inside
    *("Map", "Scan", "AssociativeScan", "Cond", "Switch", "WhileLoop", "ForiLoop", "VectorizedMap"),
}
_PASSES_VALUES = {
    *("Identity", "Cast", "StopGradient", "ActivityRegularization", "Dropout", "AlphaDropout", "GaussianDropout"),
    *("GaussianNoise", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
}
_RESHAPES = {"Reshape", "Flatten", "Permute", "Squeeze", "Transpose", "ExpandDims", "GetItem"}
_AVERAGES = ("GlobalAveragePooling", "AveragePooling", "AdaptiveAveragePooling", "UpSampling", "Cropping")
_MAXIMA = ("GlobalMaxPooling", "MaxPooling", "AdaptiveMaxPooling")


@dataclasses.dataclass(frozen=True)
class Head:
    """How one output is made.

    Attributes:
        activation: `"linear"` (the output is logits, or numbers), `"softmax"` or `"sigmoid"` (it is probabilities), or
            `"probabilities"` if the user specified only that.
        operation: the layer or operation that applies the activation; None if it cannot be inspected.
    """

    activation: str
    operation: Any = None

    @property
    def is_logits(self) -> bool:
        return self.activation == "linear"


_LINEAR = Head("linear")


def find_heads(model: keras.Model, outputs: str | None = None, *, role: str = "model") -> dict[str, Head]:
    """The head of each output of a model, by name.

    Args:
        model: any Keras model.
        outputs: `"logits"`, `"softmax"` or `"sigmoid"` if the caller knows, or `"probabilities"` (of a softmax, or of a
            sigmoid for a single output); None determines it from the last layers.
        role: the name of the model in errors: `"teacher"` or `"student"`.

    Returns:
        A head per output name; for a model without a symbolic graph, a single entry `"*"` for all outputs.

    Raises:
        ConfigurationError: the layers do not determine it.
    """
    if outputs is not None:
        check_choice(f"{role} outputs", outputs, ("logits", "probabilities", "softmax", "sigmoid"))
    tensors = symbolic_outputs(model)
    if tensors is None:
        return {"*": _stated(outputs) or _ask(model, role)}
    heads = {}
    for name, tensor in tensors.items():
        heads[name] = _find(tensor) if outputs != "logits" else _LINEAR
        if outputs is not None and (heads[name] is None or not _agrees(heads[name], outputs)):
            heads[name] = _stated(outputs)
        heads[name] = heads[name] or _ask(model, role, tensor)
    return heads


def _stated(outputs: str | None) -> Head | None:
    if outputs is None:
        return None
    return _LINEAR if outputs == "logits" else Head(outputs)


def _agrees(head: Head, outputs: str) -> bool:
    """Whether the detected activation agrees with the user's `outputs`, of which it is the more precise form."""
    linear, both = ("linear",), ("softmax", "sigmoid")
    allowed = linear if outputs == "logits" else both if outputs == "probabilities" else (outputs,)
    return head.activation in allowed


def _ask(model: keras.Model, role: str, tensor: Any = None) -> Head:
    where = "FrozenTeacher(model, outputs=...)" if role == "teacher" else "Distiller(..., student_outputs=...)"
    end = "without a graph of layers"
    if tensor is not None:
        last = call_that_made(tensor)[0].operation
        end = f"that ends in {last.name!r} ({type(last).__name__}), from which it cannot be told"
    raise ConfigurationError(
        explain(
            f"Cannot tell whether the {role} {model.name!r} ends in logits or in probabilities.",
            received=f"a {type(model).__name__} {end}",
            fix=f"Say 'logits' or 'probabilities' in {where}.",
        )
    )


@dataclasses.dataclass(frozen=True)
class _Value:
    """A tensor of the graph: its shape, and its head, which is determined on demand."""

    shape: tuple[int | None, ...]
    head: Callable[[], Head | None]


@dataclasses.dataclass(frozen=True)
class _Scope:
    """The tensors outside a nested model that stand for its inputs."""

    outside: dict[int, Any]
    parent: _Scope | None


def _find(tensor: Any, scope: _Scope | None = None) -> Head | None:
    """Follows an output back to the operation that determines it; None if that is unknown."""
    if scope is not None and id(tensor) in scope.outside:
        return _find(scope.outside[id(tensor)], scope.parent)
    call, tensor_index = call_that_made(tensor)
    operation, inputs = call.operation, call.inputs
    if is_graph(operation):
        inner = keras.tree.flatten(operation.inputs)
        outside = {id(a): b for a, b in zip(inner, inputs, strict=False)} if len(inner) == len(inputs) else {}
        return _find(operation.outputs[tensor_index], _Scope(outside, scope))
    values = [_Value(tuple(value.shape), lambda value=value: _find(value, scope)) for value in inputs]
    head = _of_operation(operation, values, tuple(tensor.shape))
    if head is not None and head.operation is operation and len(inputs) > 1:  # a softmax with a mask: the logits alone
        return dataclasses.replace(head, operation=None)  # do not lead to its output
    return head


def _of_operation(operation: Any, inputs: list[_Value], shape: tuple[int | None, ...]) -> Head | None:
    """The head of an operation's output, given its inputs."""
    operation = getattr(operation, "equivalent_layer", operation)  # of a layer that runs another on changed weights
    kind = type(operation).__name__
    if kind in _ASK_ABOUT or not _is_of_keras(operation):
        return None
    if kind in ("Softmax", "Sigmoid"):
        return Head(kind.lower(), operation) if _is_over_last_axis(operation, len(shape)) else None
    if isinstance(operation, (keras.layers.Wrapper, keras.layers.Bidirectional)):
        return _of_wrapper(operation, inputs, shape)
    if isinstance(operation, keras.layers.RNN):
        return _of_recurrent(operation)
    if has_activation(operation):
        return _of_activation(operation, inputs)
    if kind in _PASSES_VALUES:
        return inputs[0].head()
    if getattr(operation, "weights", ()) and kind != "PReLU":
        return _LINEAR
    return _of_function(operation, inputs, shape)


def _of_function(operation: Any, inputs: list[_Value], shape: tuple[int | None, ...]) -> Head | None:
    """The head of an operation without weights: logits stay logits, probabilities only under known operations."""
    heads = [value.head() for value in inputs]
    if not heads or any(head is None for head in heads):
        return None
    if all(head.is_logits for head in heads):
        is_quotient = type(operation).__name__ in ("Divide", "TrueDivide", "DivideNoNan") and len(heads) > 1
        return None if is_quotient else _LINEAR  # numbers over their sum are probabilities
    activations = {head.activation for head in heads}
    if len(activations) > 1 or not _keeps(operation, next(iter(activations)), inputs, shape):
        return None
    return Head(activations.pop())


def _keeps(operation: Any, activation: str, inputs: list[_Value], shape: tuple[int | None, ...]) -> bool:
    """Whether the operation maps probabilities to probabilities, those of a softmax along the last axis."""
    kind = type(operation).__name__
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        return False
    if kind.startswith(_AVERAGES) or kind == "Average":
        return True
    if kind == "Mean":
        axes = operation.axis if isinstance(operation.axis, (list, tuple)) else [operation.axis]
        return None not in axes and all(axis % len(inputs[0].shape) != len(inputs[0].shape) - 1 for axis in axes)
    if activation == "sigmoid":  # one by one
        return kind in _RESHAPES or kind.startswith(_MAXIMA) or kind == "Concatenate"
    return kind in _RESHAPES and _keeps_last_axis(operation, inputs[0].shape, shape)


def _keeps_last_axis(operation: Any, before: tuple[int | None, ...], after: tuple[int | None, ...]) -> bool:
    kind = type(operation).__name__
    if kind == "Permute":
        return operation.dims[-1] == len(operation.dims)
    if kind == "Transpose":
        return operation.axes is not None and operation.axes[-1] in (-1, len(before) - 1)
    if kind == "GetItem" or not before or not after:
        return False
    return before[-1] == after[-1] and (before[-1] or 1) > 1


def _of_wrapper(wrapper: Any, inputs: list[_Value], shape: tuple[int | None, ...]) -> Head | None:
    """The head of a wrapper: that of the layer inside, for wrappers that are known."""
    kind = type(wrapper).__name__
    if kind == "Bidirectional":
        heads = [_of_recurrent(layer) for layer in (wrapper.forward_layer, wrapper.backward_layer)]
        return _LINEAR if all(head is not None and head.is_logits for head in heads) else None
    if kind not in ("TimeDistributed", "SpectralNormalization"):
        return None
    layer = wrapper.layer
    is_model = is_graph(layer)
    head = _find(layer.outputs[0]) if is_model else _of_operation(layer, inputs, shape)
    if head is None or kind == "SpectralNormalization":
        return head
    return dataclasses.replace(head, operation=None)  # the layer runs once a step, inside a loop


def _of_recurrent(layer: Any) -> Head | None:
    cell = getattr(layer, "cell", None)
    cell = cell.cells[-1] if isinstance(cell, keras.layers.StackedRNNCells) else cell
    if cell is None or not _is_of_keras(cell):
        return None
    name = _name_of(getattr(cell, "activation", None))
    if name in ("softmax", "sigmoid"):
        return Head(name) if isinstance(cell, keras.layers.SimpleRNNCell) else None
    return _LINEAR if name is not None else None


def _of_activation(operation: Any, inputs: list[_Value]) -> Head | None:
    name = _name_of(operation.activation)
    if name is None:
        return None
    if name in ("softmax", "sigmoid"):
        return Head(name, None if isinstance(operation.activation, keras.layers.Layer) else operation)
    if type(operation).__name__ != "Activation":
        return _LINEAR
    head = inputs[0].head()
    return head if head is None or head.is_logits or operation.activation is keras.activations.linear else None


def _name_of(activation: Any) -> str | None:
    """`"softmax"`, `"sigmoid"`, or `"linear"` for another known activation function; None for one that is not known."""
    if isinstance(activation, keras.Operation):
        kind = type(activation).__name__
        if kind in ("Softmax", "Sigmoid"):
            return kind.lower() if getattr(activation, "axis", -1) == -1 else None
        return "linear" if _is_of_keras(activation) and kind not in _ASK_ABOUT and kind != "Activation" else None
    name, module = getattr(activation, "__name__", ""), getattr(activation, "__module__", None) or ""
    if not module.startswith(("keras.", "tensorflow.", "jax.")) or name in _ASK_ABOUT_ACTIVATIONS:
        return None
    return _SOFTMAX_OR_SIGMOID.get(name, "linear")


def _is_over_last_axis(operation: Any, num_axes: int) -> bool:
    return getattr(operation, "axis", -1) in (-1, num_axes - 1)


def _is_of_keras(operation: Any) -> bool:
    """Whether Keras wrote what an operation computes, also where it is a subclass without a `call` of its own."""
    return type(operation).call.__module__.startswith("keras.")
