"""Freezes the layers of a model up to a layer."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import all_layers, update_fewer_variables
from keras_kd.tables import format_table
from keras_kd.transfer.below import Below, find_below, leaves


@dataclasses.dataclass(frozen=True)
class LayerState:
    """A layer with weights.

    Attributes:
        path: as in `kd.taps`.
        kind: the class.
        num_parameters: the number of values in its weights.
        num_trained: the number of those that training changes.
        is_shared: whether it was frozen and also runs outside the frozen part, with the same weights.
    """

    path: str
    kind: str
    num_parameters: int
    num_trained: int
    is_shared: bool = False

    @property
    def is_frozen(self) -> bool:
        return self.num_trained == 0


@dataclasses.dataclass(frozen=True)
class FreezeReport:
    """The layers of a model that have weights, and which of them are frozen; `print` shows them as a table."""

    layers: tuple[LayerState, ...]

    @property
    def frozen(self) -> tuple[str, ...]:
        """The paths of the frozen layers."""
        return tuple(layer.path for layer in self.layers if layer.is_frozen)

    @property
    def num_frozen(self) -> int:
        """The number of values in the weights of the frozen layers."""
        return sum(layer.num_parameters for layer in self.layers if layer.is_frozen)

    @property
    def num_trained(self) -> int:
        """The number of values that training changes."""
        return sum(layer.num_trained for layer in self.layers)

    def __str__(self) -> str:
        rows = [("layer", "kind", "parameters", "trained", "")]
        for layer in self.layers:
            counts = f"{layer.num_parameters:,}", f"{layer.num_trained:,}"
            note = "runs outside the frozen part as well" if layer.is_shared else ""
            rows.append((layer.path, layer.kind, *counts, note or ("frozen" if layer.is_frozen else "")))
        table = format_table(rows, right=("parameters", "trained"))
        return f"{table}\n{self.num_frozen:,} values are frozen, {self.num_trained:,} are trained."


def freeze(model: keras.Model, *, until: str) -> FreezeReport:
    """Freezes a layer and all that its output is computed from.

    The frozen layers keep their weights, and their batch normalization runs in inference mode, so its statistics stay
    as they are. Dropout stays active. Layers beside and above keep their flags. A frozen layer that also runs above
    is frozen there as well; the report names it.

    A model that was trained before and is passed here, or a `Distiller`, traces its step again. After freezing a model
    inside another one that was trained, compile the outer one again: a compiled step trains what it was made with.

    Args:
        model: a Functional or Sequential model, with models nested to any depth, or a `Distiller`, whose student is
            frozen.
        until: the path of the last frozen layer, as in `kd.taps`: `"block_3"`, or `"backbone/block_3/relu"`. With the
            path of a nested model, all of it is frozen.

    Returns:
        The state of all layers with weights.

    Raises:
        ConfigurationError: a subclassed model, an unknown path, no weights up to there, or none left to train.

    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="body"), keras.layers.Dense(2, name="head")]
    >>> model = keras.Sequential(layers)
    >>> report = freeze(model, until="body")
    >>> report.frozen, report.num_frozen, report.num_trained
    (('body',), 15, 8)
    """
    target = student_of(model)
    below = find_below(target, until)
    check_split(target, below, until)
    before = trainable_flags(model)
    for layer in below.layers:
        layer.trainable = False
    if getattr(model, "train_function", None) is not None and trainable_flags(model) != before:
        retrace(model)
    return report_of(target, below.shared)


def report_of(model: keras.Model, shared: frozenset[int] = frozenset()) -> FreezeReport:
    """The state of all layers of a graph that have weights."""
    paths = {id(layer): path for path, layer in reversed(layers_by_path(model).items())}
    states = []
    for layer in leaves(model):
        if layer.weights:
            trained = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
            sizes = sum(math.prod(weight.shape) for weight in layer.weights)
            kind = type(layer).__name__
            states.append(LayerState(paths[id(layer)], kind, sizes, trained, id(layer) in shared))
    return FreezeReport(tuple(states))


def student_of(model: Any) -> keras.Model:
    """The model that is trained: the student of a distiller, or the model itself."""
    student = getattr(model, "student", model)
    if isinstance(student, keras.Model):
        return student
    raise ConfigurationError(
        explain("Not a model.", received=repr(model), expected="a keras.Model, or a keras_kd.Distiller")
    )


def check_split(model: keras.Model, below: Below, until: str) -> None:
    """Raises `ConfigurationError` unless there are weights below a path, and weights to train above it."""
    frozen = {id(weight) for layer in below.layers for weight in layer.weights}
    if not frozen:
        raise ConfigurationError(
            explain(
                "There is nothing to freeze.",
                received=f"until={until!r}, with no weights up to there",
                expected="the path of a layer with weights, or of one above such layers",
            )
        )
    if not any(id(weight) not in frozen for weight in model.trainable_weights):
        raise ConfigurationError(
            explain(
                "This would leave nothing to train.",
                received=f"until={until!r} in {model.name!r}",
                expected="a layer below others with trainable weights",
                fix="Name a lower layer, or set `trainable = True` on the layers to train.",
            )
        )


def trainable_flags(model: keras.Model) -> tuple[Any, ...]:
    """What a compiled step of a model depends on: its trainable variables, and which layers run in training mode."""
    return tuple(map(id, model.trainable_variables)), tuple(layer.trainable for layer in all_layers(model))


def retrace(model: keras.Model) -> None:
    """Makes a new train function, for changed flags, also in the middle of a `fit`.

    `jax.jit` reuses the program of an equal function for arguments of equal shapes, and bound methods are equal: with
    other layers frozen, such a program would update the wrong weights. Hence a function that equals no other.
    """
    if keras.backend.backend() != "jax":
        model.make_train_function(force=True)
        return
    update_fewer_variables(model)
    object.__setattr__(model, "train_step", functools.partial(type(model).train_step, model))
    try:
        model.make_train_function(force=True)
    finally:
        object.__delattr__(model, "train_step")
