"""Reads a model as a graph: each layer by path, its inputs, its readers, and its calls."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import Call, call_that_made, calls_of
from keras_kd.serialization import look_up


@dataclasses.dataclass(frozen=True)
class GraphNode:
    """A layer, nested model or `keras.ops` operation in a graph.

    Attributes:
        path: as in `kd.taps`; for a shared operation, its first path.
        operation: the layer or operation.
        calls: each run of it, in order; more than one if it is shared.
        inbound: the paths of the operations it reads, within the same model.
        outbound: the paths of the operations that read it, within the same model.
    """

    path: str
    operation: Any
    calls: tuple[Call, ...]
    inbound: tuple[str, ...]
    outbound: tuple[str, ...]


class Graph:
    """The nodes of a model and of the models nested in it, by path.

    A nested model is a node of the outer model and has its own nodes inside. Wrappers and custom layers are nodes, but
    the layers inside them are not.

    Args:
        model: a Functional or built Sequential model; it is only read.

    Raises:
        ConfigurationError: a subclassed model, which has no graph.
    """

    def __init__(self, model: keras.Model):
        check_graph(model)
        paths: dict[int, str] = {}
        for path, operation in layers_by_path(model).items():
            paths.setdefault(id(operation), path)
        calls, readers = _calls_by_operation(model)
        self._num_readers = readers
        inbound = {key: _paths_of(_sources(group), paths) for key, group in calls.items()}
        outbound = collections.defaultdict(list)
        for key, sources in inbound.items():
            for source in sources:
                outbound[source].append(paths[key])
        self.nodes = {
            paths[key]: GraphNode(
                paths[key], group[0].operation, tuple(group), inbound[key], tuple(outbound[paths[key]])
            )
            for key, group in calls.items()
        }
        self._by_operation = {id(node.operation): node for node in self.nodes.values()}

    def __getitem__(self, path: str) -> GraphNode:
        return look_up("path in the graph", path, self.nodes)

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(self.nodes.values())

    def find(self, operation: Any) -> GraphNode | None:
        """The node of a layer or operation; None if it is not in the graph, as inputs are not."""
        return self._by_operation.get(id(operation))

    def num_readers(self, tensor: keras.KerasTensor) -> int:
        """How often a symbolic tensor is read: as an argument, or as an output of its model."""
        return self._num_readers[id(tensor)]


def read_graph(model: keras.Model) -> Graph:
    """Reads a model as a graph of layers.

    Args:
        model: a Functional or built Sequential model.

    Raises:
        ConfigurationError: a subclassed model, which has no graph.

    >>> x = keras.Input((4,), name="x")
    >>> y = keras.layers.Dense(2, name="dense")(x)
    >>> graph = read_graph(keras.Model(x, keras.layers.ReLU(name="relu")(y)))
    >>> graph["relu"].inbound, graph["dense"].outbound, graph.num_readers(y)
    (('dense',), ('relu',), 1)
    """
    return Graph(model)


def check_graph(model: Any) -> None:
    """Raises `ConfigurationError` if a model is not a graph of layers."""
    if is_graph(model):
        return
    received = f"a {type(model).__name__} with code of its own (a `call` method)"
    if not isinstance(model, keras.Model):
        received = f"a {type(model).__name__}"
    elif isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        received = "a Sequential model that has not been built"
    raise ConfigurationError(
        explain(
            "This model cannot be read as a graph of layers.",
            received=received,
            expected="a Functional model, or a Sequential one with an Input",
            fix="Build it with keras.Model(inputs, outputs), or add a keras.Input as the first layer.",
        )
    )


def functional(model: keras.Model) -> keras.Model:
    """A Functional model over the layers of a graph, which it shares, without what was compiled."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def count_runs(model: keras.Model) -> collections.Counter:
    """How often a model, each operation in it and each model nested in it run in one forward pass, by `id`.

    >>> layer = keras.layers.ReLU()
    >>> x = keras.Input((4,))
    >>> count_runs(keras.Model(x, layer(layer(x))))[id(layer)]
    2
    """
    runs = collections.Counter([id(model)])

    def add(owner: keras.Model) -> None:
        for call in calls_of(functional(owner)):
            runs[id(call.operation)] += 1
            if is_graph(call.operation):
                add(call.operation)

    add(model)
    return runs


def _calls_by_operation(model: keras.Model) -> tuple[dict[int, list[Call]], collections.Counter]:
    """The calls of each operation of a model and of those nested in it, and how often each tensor is read."""
    calls, readers = collections.defaultdict(list), collections.Counter()
    seen, waiting = set(), [model]
    while waiting:
        owner = waiting.pop()
        if id(owner) in seen or not is_graph(owner):
            continue
        seen.add(id(owner))
        readers.update(id(tensor) for tensor in owner.outputs)
        for call in calls_of(functional(owner)):
            calls[id(call.operation)].append(call)
            readers.update(id(tensor) for tensor in call.inputs)
            waiting.append(call.operation)
    return calls, readers


def _sources(calls: list[Call]) -> list[Any]:
    return [call_that_made(tensor)[0].operation for call in calls for tensor in call.inputs]


def _paths_of(operations: list[Any], paths: dict[int, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths[id(operation)] for operation in operations if id(operation) in paths))
