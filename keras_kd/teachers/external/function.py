"""Any function on NumPy arrays as the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features.outputs import ONLY_OUTPUT, name_outputs
from keras_kd.serialization import register
from keras_kd.teachers.absent import AbsentTeacher
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.external.foreign import ForeignTeacher
from keras_kd.teachers.fingerprints import fingerprint_of_function


@register
class FunctionTeacher(ForeignTeacher):
    """Any function on NumPy arrays as the teacher: a model of another framework, a random forest, a rule.

    The data pipeline calls the function outside the training step and attaches its outputs to the batches of
    `Pipeline(...).with_teacher(teacher)`. A saved distiller cannot store a function: after loading it has an
    `AbsentTeacher`, which must be replaced by a teacher with the same fingerprint.

    Args:
        function: `function(x) -> [b, classes]`, or a dict or list of such arrays by output. `x` is the inputs
            `[b, ...]`; floating-point arrays are converted to float32, others are unchanged.
        outputs: `"logits"` or `"probabilities"`; None assumes logits, and rejects a batch in which every row is a
            distribution. Probabilities are clipped to at least the smallest positive float32 (1.2e-38).
        activation: the activation that produced the probabilities, `"softmax"` or `"sigmoid"`; None assumes a sigmoid
            for a single column.
        num_classes: the size of the last axis, or a dict of sizes by output name, if shapes must be known before the
            first batch.
        name: the name used in error messages; by default the function's own name.
        fingerprint: a text that changes whenever the outputs do. By default a hash of the name and the source code, if
            the function reads only its arguments, constants and library functions; for any other callable (such as a
            model's method), `fingerprint` raises `TeacherError` unless one is given.

    Raises:
        ConfigurationError: not a callable, or invalid settings.

    >>> teacher = FunctionTeacher(lambda x: x @ np.eye(3), num_classes=3)
    >>> teacher.outputs_for(np.arange(2), 0, np.ones((2, 3)))["output"].shape, teacher.output_shapes
    ((2, 3), {'output': (None, 3)})
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        outputs: str | None = None,
        activation: str | None = None,
        num_classes: int | Mapping[str, int] | None = None,
        name: str | None = None,
        fingerprint: str | None = None,
    ):
        super().__init__(outputs, activation)
        if not callable(function):
            expected = "a function of a NumPy array [b, ...]"
            raise ConfigurationError(explain("Unsupported teacher.", received=repr(function), expected=expected))
        if fingerprint is not None and (not isinstance(fingerprint, str) or not fingerprint.strip()):
            expected = "text that changes whenever the function's outputs do, or None"
            raise ConfigurationError(explain("Invalid 'fingerprint'.", received=repr(fingerprint), expected=expected))
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._fingerprint = fingerprint
        if num_classes is not None:
            sizes = dict(num_classes) if isinstance(num_classes, Mapping) else {ONLY_OUTPUT: num_classes}
            self._shapes = {
                name: (None, check_integer(f"num_classes of {name}", size, at_least=1)) for name, size in sizes.items()
            }

    def raw_outputs(self, ids, view, x):
        return name_outputs(self.function(keras.tree.map_structure(single_precision, x)))

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of_function(self.function, self.name)
        return self._fingerprint

    def get_config(self) -> dict[str, Any]:
        return {"path": None, "outputs": self.outputs, "fingerprint": self.fingerprint}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """An `AbsentTeacher`, because a function cannot be saved; calling it raises an error with instructions."""
        return AbsentTeacher(**config)


def single_precision(array: Any) -> np.ndarray:
    """Converts floating-point arrays to float32; leaves others unchanged."""
    array = np.asarray(array)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
