"""Names for what can be read off a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

ONLY_OUTPUT = "output"


class ModelOutputs(NamedTuple):
    """The outputs and the tapped inner layers of a model for one batch, or the shapes of these.

    Attributes:
        outputs: logits by output name, each `[batch, ...]`; None where shapes are wanted and not known yet.
        taps: outputs of inner layers by path.
    """

    outputs: dict[str, Any] | None
    taps: dict[str, Any] = {}


def name_outputs(outputs: Any) -> dict[str, Any]:
    """A flat dict of a model's outputs by name, in the order of `keras.tree.flatten`.

    A single output is `"output"`; a dict keeps its keys, a list counts `"0"`, `"1"`; nested ones are joined by `/`.

    >>> name_outputs({"digit": 1, "boxes": [2, 3]})
    {'boxes/0': 2, 'boxes/1': 3, 'digit': 1}
    >>> name_outputs(7)
    {'output': 7}
    """
    if not isinstance(outputs, (dict, list, tuple)):
        return {ONLY_OUTPUT: outputs}
    named = {}
    items = sorted(outputs.items()) if isinstance(outputs, dict) else enumerate(outputs)
    for key, value in items:
        for inner, leaf in name_outputs(value).items():
            named[str(key) if inner == ONLY_OUTPUT else f"{key}/{inner}"] = leaf
    return named


def is_graph(model: Any) -> bool:
    """Whether this is a model that is a symbolic graph and nothing more, without a `call` of its own on top."""
    has_graph = isinstance(model, keras.Model) and bool(getattr(model, "outputs", None))
    return has_graph and type(model).call.__module__.startswith("keras.")


def symbolic_outputs(model: keras.Model) -> dict[str, keras.KerasTensor] | None:
    """The outputs of a Functional or built Sequential model by name; None for a model without a symbolic graph."""
    if not is_graph(model):
        return None
    return name_outputs(model.outputs[0] if isinstance(model, keras.Sequential) else model.output)


def output_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]] | None:
    """The shape of each output by name, None for the batch; None for a model without a symbolic graph."""
    outputs = symbolic_outputs(model)
    return outputs and {name: tuple(tensor.shape) for name, tensor in outputs.items()}
