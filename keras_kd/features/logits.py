"""A model's logits, from one forward pass.

The temperature belongs on logits. A model that ends in a softmax or a sigmoid outputs probabilities; its logits are
read where they enter that activation, without rounding errors and without changing the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from keras import ops

from keras_kd.features.capture import capture, capture_input, pick
from keras_kd.features.heads import Head
from keras_kd.features.outputs import name_outputs
from keras_kd.features.paths import Place, has_activation
from keras_kd.features.tracing import ensure_built
from keras_kd.keras_private import keras_mask, set_keras_mask


def forward(
    model: Any, heads: dict[str, Head], inputs: Any, *, places: Iterable[Place] = (), training: bool = False
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Runs a model once.

    Args:
        model: any callable model; `heads` and `places` belong to it or to a model inside it.
        heads: the kinds of its outputs, from `find_heads`.
        places: inner layers to capture, from `find_place`.

    Returns:
        The unmodified outputs, the logits by output name, and the captured tensors by path, all from the same pass.
    """
    ensure_built(model, inputs)
    with contextlib.ExitStack() as stack:
        entering = {
            name: stack.enter_context(_listen_to_activation(head.operation))
            for name, head in heads.items()
            if head.operation is not None
        }
        events = stack.enter_context(capture(places))
        outputs = model(inputs, training=training)
    logits = {}
    for name, output in name_outputs(outputs).items():
        head = heads.get(name) or heads["*"]
        logits[name] = _masked_as(output, _logits(output, head, entering.get(name, ())))
    return outputs, logits, {place.path: pick(place, events) for place in places}


def _masked_as(output: Any, logits: Any) -> Any:
    """Copies the output's Keras mask, which is set after the activation, to the logits, where losses read it."""
    mask = keras_mask(output)
    if mask is not None and logits is not output:
        set_keras_mask(logits, mask)
    return logits


@contextlib.contextmanager
def _listen_to_activation(operation: Any) -> Iterator[list[Any]]:
    entering: list[Any] = []
    method = "activation" if has_activation(operation) else None
    with capture_input(operation, entering.append, method):
        yield entering


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
    """Logits that `activation` maps to `probabilities`, in float32 and bounded by its smallest positive number.

    `log p` for a softmax (which is invariant to an added constant), `log p - log(1 - p)` for a sigmoid.

    >>> [round(float(p), 4) for p in ops.softmax(logits_from_probabilities([[0.2, 0.8]], "softmax"))[0]]
    [0.2, 0.8]
    """
    probabilities = ops.cast(probabilities, "float32")
    tiny = 1.2e-38
    log = ops.log(ops.maximum(probabilities, tiny))
    if activation == "softmax":
        return log
    return log - ops.log(ops.maximum(1.0 - probabilities, tiny))
