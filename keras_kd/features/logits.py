"""Logits or probabilities: finds out what a model's outputs are, and gets the logits in one forward pass.

Temperature belongs on logits. A model that ends in a softmax or a sigmoid gives probabilities; its logits are read
where they enter that activation, so nothing is lost to rounding and the model stays as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features.listening import hear_input, listen, pick
from keras_kd.features.outputs import name_outputs, symbolic_outputs
from keras_kd.features.paths import Place, has_activation
from keras_kd.features.tracing import ensure_built

_ACTIVATIONS = {"softmax": "softmax", "sigmoid": "sigmoid"}
_MERGES = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Concatenate", "Subtract")
_PASSES_VALUES = ("Dropout", "Identity", "Cast")
_PASSES_DISTRIBUTION = ("Reshape", "Flatten", "Permute", "Squeeze", "Transpose", "ExpandDims")


@dataclasses.dataclass(frozen=True)
class Head:
    """How one output is made.

    Attributes:
        activation: `"linear"` (the output is logits), `"softmax"` or `"sigmoid"` (it is probabilities).
        operation: the layer or operation in which that activation happens, or None where it cannot be looked into.
    """

    activation: str
    operation: Any = None

    @property
    def is_logits(self) -> bool:
        return self.activation == "linear"


def find_heads(model: keras.Model, outputs: str | None = None, *, role: str = "model") -> dict[str, Head]:
    """What each output of a model is, by name.

    Args:
        model: any Keras model.
        outputs: `"logits"` or `"probabilities"` where the caller knows; None finds out from the last layers.
        role: what to call the model in an error: `"teacher"` or `"student"`.

    Returns:
        A head per output name; for a model without a symbolic graph a single entry that stands for all.

    Raises:
        ConfigurationError: it cannot be known.
    """
    if outputs is not None:
        check_choice(f"{role} outputs", outputs, ("logits", "probabilities"))
    tensors = symbolic_outputs(model)
    if tensors is None:
        return {"*": _stated(outputs) or _ask(model, role)}
    heads = {}
    for name, tensor in tensors.items():
        heads[name] = _find(tensor) if outputs != "logits" else Head("linear")
        if outputs == "probabilities" and (heads[name] is None or heads[name].is_logits):
            heads[name] = _stated(outputs)
        heads[name] = heads[name] or _ask(model, role)
    return heads


def forward(
    model: Any, heads: dict[str, Head], inputs: Any, *, places: Iterable[Place] = (), training: bool = False
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Runs a model once.

    Args:
        model: any callable model; `heads` and `places` are its own, or those of the model inside it.
        heads: what its outputs are, from `find_heads`.
        places: inner layers to hear, from `find_place`.

    Returns:
        Its outputs as they are, its logits by output name, and what was heard by path, all from the same pass.
    """
    ensure_built(model, inputs)
    with contextlib.ExitStack() as stack:
        entering = {
            name: stack.enter_context(_listen_to_activation(head.operation))
            for name, head in heads.items()
            if head.operation is not None
        }
        events = stack.enter_context(listen(places))
        outputs = model(inputs, training=training)
    logits = {}
    for name, output in name_outputs(outputs).items():
        head = heads.get(name) or heads["*"]
        logits[name] = _logits(output, head, entering.get(name, ()))
    return outputs, logits, {place.path: pick(place, events) for place in places}


@contextlib.contextmanager
def _listen_to_activation(operation: Any) -> Iterator[list[Any]]:
    entering: list[Any] = []
    method = "activation" if has_activation(operation) else None
    with hear_input(operation, entering.append, method):
        yield entering


def _stated(outputs: str | None) -> Head | None:
    if outputs is None:
        return None
    return Head("linear") if outputs == "logits" else Head("probabilities")


def _ask(model: keras.Model, role: str) -> Head:
    where = "FrozenTeacher(model, outputs=...)" if role == "teacher" else "Distiller(..., student_outputs=...)"
    raise ConfigurationError(
        explain(
            f"Cannot tell whether the {role} {model.name!r} ends in logits or in probabilities.",
            received=f"a {type(model).__name__} whose last operation is not a known one",
            fix=f"Say 'logits' or 'probabilities' in {where}.",
        )
    )


def _find(tensor: Any) -> Head | None:
    """Walks from an output back to what made it; None where that is not known."""
    operation, node_index, tensor_index = tensor._keras_history
    kind = type(operation).__name__
    inputs = operation._inbound_nodes[node_index].input_tensors if operation._inbound_nodes else ()
    if getattr(operation, "outputs", None) and isinstance(operation, keras.Model):
        return _find(operation.outputs[tensor_index])
    if kind in ("Softmax", "Sigmoid"):
        return Head(kind.lower(), operation)
    if has_activation(operation):
        name = getattr(operation.activation, "__name__", "")
        if name in _ACTIVATIONS:
            return Head(name, operation)
        if kind != "Activation":
            return Head("linear")
    if kind in _PASSES_VALUES or kind == "Activation":
        return _find(inputs[0])
    if kind in _PASSES_DISTRIBUTION:
        head = _find(inputs[0])
        return head and dataclasses.replace(head, operation=None)
    if kind in _MERGES:
        heads = [_find(tensor) for tensor in inputs]
        return Head("linear") if all(head and head.is_logits for head in heads) else None
    is_from_keras = type(operation).__module__.startswith("keras.")
    return Head("linear") if is_from_keras and kind not in ("Lambda", "InputLayer") else None


def _logits(output: Any, head: Head, captured: Any) -> Any:
    if head.is_logits:
        return output
    if len(captured) == 1 and tuple(captured[0].shape) == tuple(output.shape):
        return captured[0]
    activation = head.activation
    if activation == "probabilities":
        activation = "sigmoid" if output.shape[-1] == 1 else "softmax"
    return logits_from_probabilities(output, activation)


def logits_from_probabilities(probabilities: Any, activation: str) -> Any:
    """Logits that `activation` maps to `probabilities`, in float32 and bounded by its smallest number.

    `log p` for a softmax (which does not see a constant added to all), `log p - log(1 - p)` for a sigmoid.

    >>> [round(float(p), 4) for p in ops.softmax(logits_from_probabilities([[0.2, 0.8]], "softmax"))[0]]
    [0.2, 0.8]
    """
    probabilities = ops.cast(probabilities, "float32")
    tiny = 1.2e-38
    log = ops.log(ops.maximum(probabilities, tiny))
    if activation == "softmax":
        return log
    return log - ops.log(ops.maximum(1.0 - probabilities, tiny))
