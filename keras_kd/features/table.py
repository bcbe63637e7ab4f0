"""The taps of a model: all inner outputs by path, with their shapes."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.capture import capture, pick
from keras_kd.features.outputs import output_shapes
from keras_kd.features.paths import Place, find_place, layers_by_path, leads_to_layer
from keras_kd.features.tracing import ensure_built, symbolic_inputs, trace
from keras_kd.tables import format_table


class Tap(NamedTuple):
    """One inner output of a model.

    Attributes:
        path: the value for a loss's `teacher=` or `student=`.
        layer: the layer's class.
        shape: the shape of its output, None for the batch and other variable axes.
    """

    path: str
    layer: str
    shape: tuple[int | None, ...]


class TapTable(tuple):
    """Taps in execution order; prints as a table."""

    def __repr__(self) -> str:
        return format_table(
            [("path", "layer", "output shape"), *((tap.path, tap.layer, str(tap.shape)) for tap in self)]
        )


def taps(model: keras.Model, *, input_shape: Any = None) -> TapTable:
    """Lists all inner outputs of a model that a loss can read.

    Args:
        model: any Keras model, including nested and subclassed ones.
        input_shape: `(batch, ...)` of its input, for a subclassed model that has not been built.

    Raises:
        ConfigurationError: if the model's input shape is unknown.

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv")], name="tiny")
    >>> taps(model)
    path  layer   output shape
    ----  ------  ---------------
    conv  Conv2D  (None, 6, 6, 4)
    """
    places = [Place(path, operation) for path, operation in layers_by_path(model).items()]
    events = _trace(model, places, input_shape)
    if events is None:
        raise ConfigurationError(
            explain(
                f"The input of {model.name!r} is not known.",
                received=f"a {type(model).__name__} that has not been built",
                fix="Pass input_shape=(None, height, width, channels), or call the model once.",
            )
        )
    layers = {place.path: type(place.operation).__name__ for place in places}
    totals = collections.Counter(path for path, _ in events)
    calls: collections.Counter[str] = collections.Counter()
    found = []
    for path, value in events:
        name = path if totals[path] == 1 else f"{path}#{calls[path]}"
        calls[path] += 1
        if isinstance(value, _Shape):
            found.append(Tap(name, layers[path], value.shape))
    return TapTable(found)


def inner_taps(model: keras.Model, names: Iterable[str], *, role: str = "model") -> dict[str, tuple | None]:
    """The shapes of those `names` that are paths of inner layers rather than names of outputs.

    Returns:
        The shape of each, None for the batch axis; None for all if the model's input is not known yet.

    Raises:
        ConfigurationError: if a path does not exist, or does not identify a single tensor.
    """
    outputs = output_shapes(model)
    paths = [name for name in dict.fromkeys(names) if name not in (outputs or {})]
    if outputs is None:  # a model without a graph: a name that is no layer is an output, known when it runs
        paths = [path for path in paths if leads_to_layer(model, path)]
    places = [find_place(model, path, role=role) for path in paths]
    events = _trace(model, places) if places else []
    return {place.path: None if events is None else tuple(pick(place, events).shape) for place in places}


@dataclasses.dataclass(frozen=True)
class _Shape:
    shape: tuple[int | None, ...]


def _only_shape(value: Any) -> Any:
    """A tensor's shape without the batch size, to be kept after the trace."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return _Shape((None, *value.shape[1:])) if len(getattr(value, "shape", ())) else value


def _trace(model: Any, places: list[Place], input_shape: Any = None) -> list | None:
    """The shapes captured at `places`: the model is traced, nothing is computed."""
    inputs = symbolic_inputs(model, input_shape)
    if inputs is None:
        return None
    ensure_built(model, inputs)
    captured = []

    def run(x):
        with capture(places) as events:
            model(x, training=False)
        captured[:] = [(path, _only_shape(value)) for path, value in events]

    trace(run, inputs)
    return captured
