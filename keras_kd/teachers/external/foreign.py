"""The base of teachers that run on NumPy arrays: checks their outputs and converts them to logits."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_kd.errors import TeacherError, explain
from keras_kd.features import ModelOutputs
from keras_kd.features.outputs import ONLY_OUTPUT
from keras_kd.features.shapes import same_shape
from keras_kd.teachers.base import OfflineTeacher
from keras_kd.teachers.external.probabilities import (
    SMALLEST,
    SUM_TOLERANCE,
    check_outputs,
    is_distribution,
    logits_of_probabilities,
    looks_like_probabilities,
)


class ForeignTeacher(OfflineTeacher):
    """A teacher that runs on NumPy arrays: its outputs are checked, converted to logits and attached to the batch.

    Subclasses implement `raw_outputs`.

    Args:
        outputs: `"logits"` or `"probabilities"`. None assumes logits, and rejects a batch in which every row is a
            distribution.
        activation: the activation that produced the probabilities: `"softmax"`, or `"sigmoid"` (each column is binary).
            None assumes a sigmoid for a single column and a softmax for several.

    Raises:
        ConfigurationError: any other value; an activation without probabilities.
    """

    def __init__(self, outputs: str | None = None, activation: str | None = None):
        check_outputs(outputs, activation)
        self.outputs = outputs
        self.activation = activation
        self._shapes: dict[str, tuple[int | None, ...]] | None = None

    @abc.abstractmethod
    def raw_outputs(self, ids: np.ndarray, view: int, x: Any) -> dict[str, Any]:
        """The raw model outputs by name: arrays `[b, ..., classes]`."""

    def activation_of(self, name: str, num_classes: int | None) -> str:
        """`"linear"` if this output is logits, else `"softmax"` or `"sigmoid"`."""
        if self.outputs != "probabilities":
            return "linear"
        return self.activation or ("sigmoid" if num_classes == 1 else "softmax")

    def smallest_of(self, name: str) -> float:
        """The probability that replaces a 0 in this output."""
        return SMALLEST

    def outputs_for(self, ids, view, x):
        """Logits, float32 `[b, ..., classes]` by output name.

        Raises:
            TeacherError: the number of rows differs from the number of examples, the number of classes from the
                declared one; values are not finite; or probabilities are found instead of logits, or vice versa.
        """
        outputs = {name: self._checked(name, value, len(ids)) for name, value in self.raw_outputs(ids, view, x).items()}
        shapes = {name: (None, *value.shape[1:]) for name, value in outputs.items()}
        self._check_shapes(shapes)
        self._shapes = self._shapes or shapes
        return {name: self._logits(name, value) for name, value in outputs.items()}

    def decode(self, attached: dict[str, Any], taps: Sequence[str]) -> ModelOutputs:
        return ModelOutputs({name: ops.cast(value, "float32") for name, value in attached.items()})

    @property
    def output_shapes(self):
        return self._shapes

    @property
    def activations(self) -> dict[str, str]:
        return {name: self.activation_of(name, shape[-1]) for name, shape in (self._shapes or {}).items()}

    def _checked(self, name: str, value: Any, num_examples: int) -> np.ndarray:
        value = np.asarray(value)
        if value.ndim < 2 or len(value) != num_examples or value.dtype.kind not in "fiu":
            raise TeacherError(
                explain(
                    f"The teacher's {name!r} does not have one row per example.",
                    received=f"shape {value.shape} of {value.dtype} for {num_examples} examples",
                    expected=f"numbers of shape ({num_examples}, classes)",
                )
            )
        if not np.isfinite(value).all():
            row = int(np.argwhere(~np.isfinite(value))[0, 0])
            raise TeacherError(
                explain(
                    f"The teacher's {name!r} contains NaN or infinity.",
                    received=f"shape {value.shape}, first in row {row} of the batch",
                    expected="finite numbers",
                )
            )
        return value

    def _check_shapes(self, shapes: dict[str, tuple[int | None, ...]]) -> None:
        if self._shapes is not None and not _same(shapes, self._shapes):
            raise TeacherError(
                explain(
                    "The teacher's outputs have unexpected names or shapes.", received=shapes, expected=self._shapes
                )
            )

    def _logits(self, name: str, value: np.ndarray) -> np.ndarray:
        activation = self.activation_of(name, value.shape[-1])
        if activation == "linear":
            if self.outputs is None and is_distribution(value):
                raise looks_like_probabilities(type(self).__name__, name)
            return value.astype(np.float32)
        if value.min() < 0 or value.max() > 1 + SUM_TOLERANCE:
            raise TeacherError(
                explain(
                    f"The teacher's {name!r} does not contain probabilities.",
                    received=f"numbers from {value.min():.4g} to {value.max():.4g}",
                    expected="numbers from 0 to 1",
                    fix="Pass outputs='logits' if the model does not end in a softmax or a sigmoid.",
                )
            )
        return logits_of_probabilities(value, activation, self.smallest_of(name))


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Maps the output names in an exported file to those of the Keras model.

    Export numbers unnamed outputs: `output_0` maps to `"output"` if it is the only one, `output_1` to `"1"`.

    >>> plain_names(["output_0"]), plain_names(["output_0", "output_1"]), plain_names(["boxes"])
    ({'output_0': 'output'}, {'output_0': '0', 'output_1': '1'}, {'boxes': 'boxes'})
    """
    names = list(names)
    numbers = [re.fullmatch(r"output_(\d+)", name) for name in names]
    if not all(numbers):
        return {name: name for name in names}
    return {name: ONLY_OUTPUT if len(names) == 1 else number[1] for name, number in zip(names, numbers, strict=True)}


def _same(shapes: dict[str, tuple], expected: dict[str, tuple]) -> bool:
    """Whether outputs match in name, rank and size; None matches any size."""
    return shapes.keys() == expected.keys() and all(same_shape(shapes[name], expected[name]) for name in shapes)
