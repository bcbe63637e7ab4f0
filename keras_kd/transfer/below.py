"""Which layers the output of a layer is computed from."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.features.paths import find_place
from keras_kd.keras_private import call_that_made
from keras_kd.surgery import Graph, read_graph


@dataclasses.dataclass(frozen=True)
class Below:
    """The layers that the output of one layer is computed from, that layer included.

    Attributes:
        layers: those that are not models themselves, without duplicates.
        shared: the ids of those that also run elsewhere, after the layer or beside it.
    """

    layers: tuple[keras.layers.Layer, ...]
    shared: frozenset[int]

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(map(id, self.layers))


def find_below(model: keras.Model, path: str) -> Below:
    """The layers below a path, in all models around it: what a nested model reads is below all that it contains.

    Args:
        model: a graph of layers.
        path: as in `kd.taps`, of a layer or a nested model.

    Raises:
        ConfigurationError: a subclassed model, or no layer of the graph has this path.
    """
    graph = read_graph(model)
    node = graph.find(_layer_at(model, graph, path))
    tensors: set[int] = set()
    operations: dict[int, Any] = {id(node.operation): node.operation}
    waiting = [call for owner in _owners(graph, node.path) for call in owner.calls]
    tensors |= {id(tensor) for call in node.calls for tensor in call.outputs}
    while waiting:
        for tensor in waiting.pop().inputs:
            if id(tensor) not in tensors:
                tensors.add(id(tensor))
                call, _ = call_that_made(tensor)
                operations[id(call.operation)] = call.operation
                waiting.append(call)
    layers: dict[int, keras.layers.Layer] = {}
    shared = set()
    for operation in operations.values():
        found = graph.find(operation)
        if found is None or not isinstance(operation, keras.layers.Layer):
            continue  # an input, or an operation without weights
        layers |= {id(leaf): leaf for leaf in leaves(operation)}
        if any(not tensors & {id(tensor) for tensor in call.outputs} for call in found.calls):
            shared |= {id(leaf) for leaf in leaves(operation)}
    return Below(tuple(layers.values()), frozenset(shared))


def leaves(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers of a model and of those nested in it that are not models, in order; a layer itself if it is none."""
    if not is_graph(layer):
        return [layer]
    found = {id(leaf): leaf for inner in layer.layers for leaf in leaves(inner)}
    return list(found.values())


def _owners(graph: Graph, path: str) -> list[Any]:
    """The node of a path, and those of the models around it."""
    parts = path.split("/")
    return [graph["/".join(parts[: end + 1])] for end in range(len(parts))]


def _layer_at(model: keras.Model, graph: Graph, path: str) -> Any:
    place = find_place(model, path)
    node = graph.find(place.operation)
    if node is not None and place.point == "output" and place.call is None:
        return place.operation
    around = max((other.path for other in graph if path.startswith(f"{other.path}/")), key=len, default=None)
    raise ConfigurationError(
        explain(
            "This is not a layer in the graph of the model.",
            received=repr(path),
            expected="the path of a layer or of a nested model, without ':' and '#'",
            fix=None if around is None else f"It lies inside {around!r}, which is frozen as a whole.",
        )
    )
