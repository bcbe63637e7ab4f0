"""Measures a copy of a model with some layers compressed, on fixed data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd import interruption
from keras_kd.compression.selection import kernels
from keras_kd.compression.sensitivities.variants import (
    Setting,
    as_matrix,
    compressed,
    from_matrix,
    num_bytes,
    zipped_bytes,
)
from keras_kd.compression.stripping import check_plain
from keras_kd.compression.transform import weighted_layers
from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features.heads import find_heads
from keras_kd.features.paths import layers_by_path
from keras_kd.serialization import look_up
from keras_kd.surgery import clone
from keras_kd.tasks import base as tasks

FLOAT = Setting()
_INFINITE = -1  # of tf.data


class Quality:
    """One number for the outputs of a model.

    Attributes:
        name: such as `"accuracy"`.
        unit: of a drop: `"points"` of a hundred for shares, else empty.
    """

    def __init__(self, measure: Any, task: Any, from_logits: bool | None):
        self._function: Callable[[Any, Any], float] | None = measure if callable(measure) else None
        self._from_logits = from_logits
        self._sign, self._scale, self.unit = 1.0, 1.0, ""
        if self._function is not None:
            name = getattr(measure, "__name__", "measure")
            self.name = name if name.isidentifier() else "measure"
            return
        self._task = tasks.get(task)
        known = {one.name: one for one in self._task.measures}
        chosen = self._task.headline if measure is None else look_up("measure", measure, known)
        self.name = chosen.name
        self._sign = 1.0 if chosen.higher_is_better else -1.0
        if chosen.is_share:
            self._scale, self.unit = 100.0, "points"

    def of(self, outputs: Any, labels: Any) -> float:
        if self._function is not None:
            value = _number(self._function(outputs, labels))
        else:
            value = self._task.measure(outputs, labels, from_logits=self._from_logits)[self.name]
        return value

    def drop(self, before: float, after: float) -> float:
        """How much worse a model has become; negative if it is better."""
        return self._sign * self._scale * (before - after)


class Measured:
    """A copy of a model whose layers are compressed for one measurement at a time; the model is never changed.

    Attributes:
        layers: the layers of the copy that have kernels, by path.
        baseline: the value of the measure without compression.
        num_examples: how many examples it is measured on.
        quality: the measure.
    """

    def __init__(self, model: keras.Model, data: Any, quality: Quality, batch_size: int):
        self._inputs, self._labels = arrays_of(data)
        self.num_examples = _num_examples(self._inputs, self._labels)
        self._batch_size = check_integer("batch_size", batch_size, at_least=1)
        self.quality = quality
        self._model = clone(model)
        found = {path: layer for path, layer, _ in weighted_layers(self._model) if kernels(layer)}
        self.layers = {path: found[path] for path in layers_by_path(self._model) if path in found}
        self._kernels = {
            path: {name: np.array(ops.convert_to_numpy(weight)) for name, weight in kernels(layer).items()}
            for path, layer in self.layers.items()
        }
        self._bytes: dict[tuple[str, Setting], int] = {}
        self.baseline = self.value({})

    def num_weights(self, path: str) -> int:
        """The number of weights in the kernels of a layer."""
        return sum(kernel.size for kernel in self._kernels[path].values())

    def value(self, settings: Mapping[str, Setting]) -> float:
        """The measure with these layers compressed, and all others as they are."""
        try:
            for path, setting in settings.items():
                self._put(path, setting)
            value = self.quality.of(self._predict(), self._labels)
        finally:
            for path in settings:
                self._put(path, FLOAT)
        if not math.isfinite(value):
            raise ConfigurationError(
                explain(
                    f"The measure {self.quality.name!r} is not a finite number.",
                    received=f"{value} with {dict(settings) or 'no layer compressed'}",
                    expected="data and labels that define it",
                )
            )
        return value

    def num_bytes(self, path: str, setting: Setting) -> int:
        """The bytes of the kernels of a layer, gzipped."""
        if (path, setting) not in self._bytes:
            layer = self.layers[path]
            self._bytes[path, setting] = sum(
                num_bytes(as_matrix(layer, name, ops.convert_to_tensor(kernel)), setting)
                for name, kernel in self._kernels[path].items()
            )
        return self._bytes[path, setting]

    def other_bytes(self) -> int:
        """The bytes of all other weights: biases, normalizations, frozen kernels."""
        taken = {id(weight) for layer in self.layers.values() for weight in kernels(layer).values()}
        return sum(
            zipped_bytes(np.asarray(ops.convert_to_numpy(weight)))
            for weight in self._model.weights
            if id(weight) not in taken
        )

    def _put(self, path: str, setting: Setting) -> None:
        layer = self.layers[path]
        for name, weight in kernels(layer).items():
            kernel = self._kernels[path][name]
            if setting != FLOAT:
                matrix = compressed(as_matrix(layer, name, ops.convert_to_tensor(kernel)), setting)
                kernel = ops.convert_to_numpy(from_matrix(layer, name, matrix, kernel.shape))
            weight.assign(kernel)

    def _predict(self) -> Any:
        parts = []
        for start in range(0, self.num_examples, self._batch_size):
            interruption.check()
            end = start + self._batch_size
            batch = keras.tree.map_structure(lambda array, start=start, end=end: array[start:end], self._inputs)
            parts.append(self._model.predict_on_batch(batch))
        return keras.tree.map_structure(lambda *outputs: np.concatenate(outputs), *parts)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(
            explain("'measure' does not return a number.", received=repr(value), expected="a number, larger is better")
        ) from None


def find_from_logits(model: keras.Model) -> bool | None:
    """Whether a model ends in logits; None if its graph does not say."""
    try:
        return all(head.is_logits for head in find_heads(model).values())
    except ConfigurationError:
        return None


def check_compressible(model: Any) -> None:
    """Raises `ConfigurationError` if no layer of a model has a trainable kernel."""
    check_plain(model)
    if not any(kernels(layer) for _, layer, _ in weighted_layers(model)):
        raise ConfigurationError(
            explain(
                f"{model.name!r} has no layer that can be compressed.",
                received="a model without trainable kernels",
                expected="at least one layer with a trainable kernel",
                fix="Set model.trainable = True if it is frozen.",
            )
        )


def arrays_of(data: Any) -> tuple[Any, Any]:
    """Inputs and labels as arrays, from a pair of them or from batches of pairs."""
    if isinstance(data, tuple) and len(data) == 2:
        return keras.tree.map_structure(np.asarray, data[0]), np.asarray(data[1])
    if hasattr(data, "cardinality") and int(data.cardinality()) == _INFINITE:
        raise ConfigurationError(
            explain("The data set does not end.", received="repeat()", expected="a finite one", fix="Call take(...).")
        )
    try:
        batches = [tuple(batch) for batch in data]
        if not batches or any(len(batch) != 2 for batch in batches):
            raise TypeError(f"batches of {len(batches[0])} parts" if batches else "no batches")
    except TypeError as error:
        raise ConfigurationError(
            explain(
                "Invalid 'data'.",
                received=f"{type(data).__name__}: {error}",
                expected="(inputs, labels), or a finite data set of such batches",
            )
        ) from None
    inputs = keras.tree.map_structure(lambda *parts: np.concatenate(list(map(_array, parts))), *(x for x, _ in batches))
    return inputs, np.concatenate([_array(y) for _, y in batches])


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.asarray(ops.convert_to_numpy(value))


def _num_examples(inputs: Any, labels: np.ndarray) -> int:
    counts = {len(array) if array.ndim else 0 for array in keras.tree.flatten(inputs)}
    if counts != {len(labels) if labels.ndim else 0} or counts == {0}:
        raise ConfigurationError(
            explain(
                "Inputs and labels do not fit.",
                received=f"{sorted(counts)} inputs, {len(labels) if labels.ndim else 0} labels",
                expected="at least one example, and a label for each",
            )
        )
    return counts.pop()
