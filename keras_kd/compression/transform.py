"""A compression technique as a transform of models: `apply` adds it to a model, `strip` leaves its result."""

from __future__ import annotations

import abc
import dataclasses
import io
from collections.abc import Collection, Iterable
from typing import Any

import keras

from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.selection import kernels
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.features.paths import layers_by_path
from keras_kd.serialization import nearest
from keras_kd.surgery import clone, read_graph
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.weights import copy_state, weights_by_name


@dataclasses.dataclass(frozen=True)
class Row:
    """What a transform does with one layer.

    Attributes:
        path: of the layer, as in `kd.taps`.
        kind: its class.
        weights: the names of the weights that are compressed.
        reason: why the others, or all of them, are not; empty if there are none.
    """

    path: str
    kind: str
    weights: tuple[str, ...]
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """Which weights of each layer are compressed, and why others are not; prints as a table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        lines = [("layer", "class", "compressed", "not compressed")]
        lines += [(row.path, row.kind, ", ".join(row.weights) or "-", row.reason or "-") for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        out = io.StringIO()
        for line in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip(), file=out)
        return out.getvalue().rstrip()


class Transform(abc.ABC):
    """A compression technique for the weights of a model.

    Args:
        skip: the paths of layers that stay as they are.
    """

    def __init__(self, skip: Collection[str] = ()):
        self.skip = _paths(skip)

    @abc.abstractmethod
    def function(self, layer: keras.layers.Layer, weight: str, calls: int) -> keras.layers.Layer | str:
        """The layer that a weight of `layer` passes through, or the reason why it is not compressed.

        Args:
            layer: a layer of the user's model; it is only read.
            weight: the name of one of its kernels.
            calls: how often the layer runs in one forward pass of the model.
        """

    def apply(self, model: keras.Model, *, verbose: bool = True) -> keras.Model:
        """A copy of a model that is compressed as it is trained.

        The copy has the model's names, weights and outputs. It is an ordinary Keras model: compile, fit, save, load and
        distill it. Its layers are `Reparametrized`.

        Args:
            model: a Functional or Sequential model, with models nested to any depth; it is not changed.
            verbose: whether to print which layers are compressed.

        Raises:
            ConfigurationError: no layer can be compressed, an unknown path in `skip`, a model that is compressed
                already, or one with code of its own.
        """
        check_plain(model)
        self._check_skip(model)
        made = {id(layer): self._functions(layer, path, calls) for path, layer, calls in _weighted_layers(model)}
        report = Report(tuple(row for row, _ in made.values()))
        if not any(row.weights for row in report.rows):
            raise ConfigurationError(
                explain(
                    f"No layer of {model.name!r} can be compressed.",
                    received=f"\n{report}",
                    expected="at least one layer with a kernel that fits",
                )
            )
        if verbose:
            print(report)  # noqa: T201 - asked for by `verbose`

        def replace(layer):
            _, functions = made.get(id(layer), (None, {}))
            if not functions:
                return None
            return Reparametrized(copy_layer(layer), functions, layer.get_build_config())

        return clone(model, replace, transfer=lambda layer, copy: copy_state(layer, copy.layer))

    def strip(self, model: keras.Model) -> keras.Model:
        """The plain architecture, with the weights that the compressed layers were running on."""
        return strip(model)

    def report(self, model: keras.Model) -> Report:
        """What `apply` would do with each layer of a model that has weights."""
        check_plain(model)
        return Report(tuple(self._functions(layer, path, calls)[0] for path, layer, calls in _weighted_layers(model)))

    def _functions(self, layer: Any, path: str, calls: int) -> tuple[Row, dict[str, keras.layers.Layer]]:
        kind, found = type(layer).__name__, kernels(layer)
        if path in self.skip:
            return Row(path, kind, (), "listed in skip"), {}
        if not found:
            return Row(path, kind, (), "no trainable kernel"), {}
        made = {name: self.function(layer, name, calls) for name in found}
        functions = {name: function for name, function in made.items() if not isinstance(function, str)}
        reasons = dict.fromkeys(f"{name}: {reason}" for name, reason in made.items() if isinstance(reason, str))
        return Row(path, kind, tuple(functions), "; ".join(reasons)), functions

    def _check_skip(self, model: keras.Model) -> None:
        paths = [path for path, _, _ in _weighted_layers(model)]
        for path in self.skip:
            if path not in paths:
                raise ConfigurationError(
                    explain(
                        "'skip' names a layer that the model does not have.",
                        received=repr(path),
                        expected=", ".join(paths),
                        fix=nearest(path, paths) or None,
                    )
                )


def strip(model: keras.Model) -> keras.Model:
    """The plain architecture of a model whose layers are `Reparametrized`, with the weights that they were running on.

    Raises:
        ConfigurationError: the model has no such layer.
    """
    check_model(model)
    if not reparametrized_layers(model):
        raise ConfigurationError(
            explain(
                f"{model.name!r} has nothing to strip.",
                received="a model without compressed layers",
                expected="a model made by `apply`",
            )
        )

    def replace(layer):
        return copy_layer(layer.layer) if isinstance(layer, Reparametrized) else None

    def transfer(layer, copy):
        copy_state(layer.layer, copy)
        weights = weights_by_name(copy)
        for name, value in layer.effective_weights().items():
            weights[name].assign(value)

    return clone(model, replace, transfer=transfer)


def reparametrized_layers(model: keras.Model) -> dict[str, Reparametrized]:
    """The compressed layers of a model, by path."""
    return {path: layer for path, layer in layers_by_path(model).items() if isinstance(layer, Reparametrized)}


def check_model(model: Any) -> None:
    """Raises `ConfigurationError` if this is not a Keras model."""
    if not isinstance(model, keras.Model):
        raise ConfigurationError(
            explain("Only a model can be compressed or stripped.", received=repr(model), expected="a keras.Model")
        )


def _paths(skip: Any) -> tuple[str, ...]:
    paths = (skip,) if isinstance(skip, str) else skip
    if not isinstance(paths, (list, tuple, set, frozenset)) or not all(isinstance(path, str) for path in paths):
        raise ConfigurationError(
            explain("Invalid 'skip'.", received=repr(skip), expected="the paths of layers, such as ['head']")
        )
    return tuple(paths)


def check_plain(model: Any) -> None:
    """Raises `ConfigurationError` if a model has compressed layers already."""
    check_model(model)
    if taken := reparametrized_layers(model):
        raise ConfigurationError(
            explain(
                f"{model.name!r} is compressed already.",
                received=", ".join(taken),
                expected="a model of plain layers",
                fix="Call strip(model) first.",
            )
        )


def _weighted_layers(model: keras.Model) -> Iterable[tuple[str, Any, int]]:
    """Each layer of a graph that has weights and can be replaced: its path, itself, and its runs per forward pass."""
    graph = read_graph(model)
    runs: dict[str, int] = {}
    for node in sorted(graph, key=lambda node: node.path.count("/")):
        around = node.path.rpartition("/")[0]
        runs[node.path] = len(node.calls) * runs.get(around, 1)
    for node in graph:
        if isinstance(node.operation, keras.layers.Layer) and not is_graph(node.operation) and node.operation.weights:
            yield node.path, node.operation, runs[node.path]
