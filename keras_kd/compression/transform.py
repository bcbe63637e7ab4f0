"""A compression technique as a transform of models: `apply` adds it to a model, `strip` leaves its result."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.additions import Additions
from keras_kd.compression.preserving import preserved
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.report import Report, Row
from keras_kd.compression.selection import kernels
from keras_kd.compression.stripping import check_plain, strip
from keras_kd.compression.weight_functions import Composed, WeightFunction
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.serialization import nearest
from keras_kd.surgery import clone, read_graph
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.graph import count_runs
from keras_kd.surgery.weights import copy_state


class Transform(abc.ABC):
    """A compression technique for models."""

    @abc.abstractmethod
    def apply(self, model: keras.Model, *, verbose: bool = True) -> keras.Model:
        """A copy of a model to which the technique is applied; the model itself is not changed.

        Args:
            model: a Functional or Sequential model, with models nested to any depth.
            verbose: whether to print what happens to each layer.

        Raises:
            ConfigurationError: the technique does not fit the model.
        """

    @abc.abstractmethod
    def strip(self, model: keras.Model) -> keras.Model:
        """The plain architecture, with the weights that the compressed layers were running on."""

    @abc.abstractmethod
    def report(self, model: keras.Model) -> Any:
        """What `apply` would do with each layer of a model, as a table that prints."""


class WeightTransform(Transform):
    """A compression technique that computes the weights that layers run on from those that are trained.

    Structure that a weight has already is kept, even in weights that this technique skips: zeros stay zeros, and equal
    weights stay equal.

    Args:
        skip: the paths of layers that stay as they are.
    """

    is_last = False
    """Whether no other technique may follow, since it would move the weights off the values that this one computed."""

    def __init__(self, skip: Collection[str] = ()):
        self.skip = checked_paths(skip)

    @abc.abstractmethod
    def function(self, layer: keras.layers.Layer, weight: str, calls: int) -> WeightFunction | str:
        """The function that a weight of `layer` passes through, or the reason why it is not compressed.

        Args:
            layer: a layer of the user's model; it is only read.
            weight: the name of one of its kernels.
            calls: how often the layer runs in one forward pass of the model.
        """

    def kernels(self, layer: keras.layers.Layer) -> dict[str, Any]:
        """The weights of a layer that are compressed, by name: the kernels that are trained."""
        return kernels(layer)

    def additions(self, model: keras.Model) -> Additions:
        """What the technique adds to a model besides functions of its weights: nothing."""
        return Additions()

    def functions(
        self, layer: keras.layers.Layer, path: str, weight: str, calls: int
    ) -> tuple[list[WeightFunction], list[str]]:
        """The functions that a weight passes through, in order, and the reasons why it is not compressed."""
        if path in self.skip:
            return [], ["listed in skip"]
        made = self.function(layer, weight, calls)
        return ([], [f"{weight}: {made}"]) if isinstance(made, str) else ([made], [])

    def for_model(self, model: keras.Model) -> WeightTransform:
        """The transform to use for a model, if its settings depend on the model's layers or weights."""
        return self

    def apply(self, model: keras.Model, *, verbose: bool = True) -> keras.Model:
        """A copy of a model that is compressed as it is trained.

        The copy has the model's names, weights and outputs. It is an ordinary Keras model: compile, fit, save, load and
        distill it. Its layers are `Reparametrized`.

        Args:
            model: a Functional or Sequential model, with models nested to any depth; it is not changed.
            verbose: whether to print which layers are compressed.

        Raises:
            ConfigurationError: no layer can be compressed, an unknown path in `skip`, a model that is compressed
                already or has code of its own, weights that are NaN or infinite.
        """
        check_plain(model)
        check_skip(self.skip, paths_in(model))
        fitted = self.for_model(model)
        made = {id(layer): fitted._functions(layer, path, calls) for path, layer, calls in weighted_layers(model)}
        added = fitted.additions(model)
        report = Report(_with_outputs([row for row, _ in made.values()], added))
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
            (_, functions), inside = made.get(id(layer), (None, {})), added.inside.get(id(layer), {})
            if not functions and not inside:
                return None
            compressed = Reparametrized(copy_layer(layer), functions, layer.get_build_config(), inside)
            if not layer.trainable:
                compressed.trainable = False  # what a function learns is frozen with its layer
            return compressed

        def transfer(layer, copy):
            copy_state(layer, copy.layer)
            copy.start()

        return clone(model, replace, transfer=transfer, insert=added.insert)

    def strip(self, model):
        return strip(model)

    def report(self, model):
        check_plain(model)
        check_skip(self.skip, paths_in(model))
        fitted = self.for_model(model)
        rows = [fitted._functions(layer, path, calls)[0] for path, layer, calls in weighted_layers(model)]
        return Report(_with_outputs(rows, fitted.additions(model)))

    def _functions(self, layer: Any, path: str, calls: int) -> tuple[Row, dict[str, WeightFunction]]:
        kind, found = type(layer).__name__, self.kernels(layer)
        if not found:
            return Row(path, kind, (), reason="no trainable kernel"), {}
        made, structure, reasons, compressed = {}, {}, {}, []
        for name, weight in found.items():
            value = ops.convert_to_numpy(weight)
            _check_finite(value, path, name)
            functions, problems = self.functions(layer, path, name, calls)
            reasons |= dict.fromkeys(problems)
            if functions:
                compressed.append(name)
            if weight.trainable:
                keeping, kept = preserved(value, name.replace("/", "_"))
                structure |= dict.fromkeys(kept)
                functions = [*keeping, *functions]
            for number, function in enumerate(functions):
                function.after(functions[:number], value)
            if functions:
                made[name] = functions[0] if len(functions) == 1 else Composed(functions)
        return Row(path, kind, tuple(compressed), ", ".join(structure), "; ".join(reasons)), made


def check_skip(
    skip: Collection[str],
    known: Collection[str],
    problem: str = "'skip' names a layer that the model does not have.",
) -> None:
    """Raises `ConfigurationError` with the problem if a path in `skip` is not one of those known."""
    for path in skip:
        if path not in known:
            fix = nearest(path, list(known)) or None
            raise ConfigurationError(explain(problem, received=repr(path), expected=", ".join(known), fix=fix))


def paths_in(model: keras.Model) -> list[str]:
    """The paths of the layers and operations of a graph, which `skip` may name."""
    return [node.path for node in read_graph(model) if not is_graph(node.operation)]


def _check_finite(value: np.ndarray, path: str, weight: str) -> None:
    if lost := np.count_nonzero(~np.isfinite(value.astype("float32"))):
        raise ConfigurationError(
            explain(
                f"The weights of {path!r} cannot be compressed.",
                received=f"{weight} with {lost:,} values that are NaN or infinite",
                expected="finite weights",
            )
        )


def _with_outputs(rows: list[Row], added: Additions) -> tuple[Row, ...]:
    """The rows of layers with weights, with what happens to their outputs, and a row for each other output."""
    known = {row.path: row for row in rows}
    for path, output in added.outputs.items():
        row = known.get(path, Row(path, output.kind, ()))
        reason = "; ".join(filter(None, (row.reason, output.inside)))
        known[path] = dataclasses.replace(row, reason=reason, output=output.text)
    return tuple(known[path] for path in sorted(known, key=[*added.outputs, *known].index))


def checked_paths(skip: Any) -> tuple[str, ...]:
    """The paths in `skip`; raises `ConfigurationError` if it holds anything else."""
    paths = (skip,) if isinstance(skip, str) else skip
    if not isinstance(paths, (list, tuple, set, frozenset)) or not all(isinstance(path, str) for path in paths):
        raise ConfigurationError(
            explain("Invalid 'skip'.", received=repr(skip), expected="the paths of layers, such as ['head']")
        )
    return tuple(paths)


def weighted_layers(model: keras.Model) -> list[tuple[str, Any, int]]:
    """Those of `graph_layers` that have weights."""
    return [(path, layer, runs) for path, layer, runs in graph_layers(model) if layer.weights]


def graph_layers(model: keras.Model) -> list[tuple[str, Any, int]]:
    """Each layer of a graph that is not a model: its path, itself, and its runs per forward pass."""
    runs = count_runs(model)
    return [
        (node.path, node.operation, runs[id(node.operation)])
        for node in read_graph(model)
        if isinstance(node.operation, keras.layers.Layer) and not is_graph(node.operation)
    ]
