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

    It is called by the data pipeline, outside the training step; its answers travel with the batches of
    `Pipeline(...).with_teacher(teacher)`. A saved distiller cannot hold a function: loaded, it has an `AbsentTeacher`
    and asks for the teacher with the same fingerprint.

    Args:
        function: `function(x) -> [b, classes]`, or a dict or list of such arrays by output. `x` is the inputs
            `[b, ...]`, floating point numbers as float32, others as they are.
        outputs: `"logits"` or `"probabilities"`; None takes the answers for logits, and refuses a batch in which every
            row is a distribution. Probabilities below the smallest positive float32 (1.2e-38) are taken for that.
        activation: `"softmax"` or `"sigmoid"` made the probabilities; None takes a single column for a sigmoid.
        num_classes: the size of the last axis, or a dict of these by output name, so that shapes are known before the
            first batch.
        name: what errors call it; by default the function's own name.
        fingerprint: a text that changes whenever the answers do. By default the hash of the name and the source code,
            where the function reads nothing else than its arguments, constants and library functions; for any other
            (a method of a model, say) `fingerprint` raises `TeacherError` until one is given.

    Raises:
        ConfigurationError: no callable, or settings that are not usable.

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
            expected = "text that changes whenever the function's answers do, or None"
            raise ConfigurationError(
                explain("'fingerprint' is not usable.", received=repr(fingerprint), expected=expected)
            )
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._fingerprint = fingerprint
        if num_classes is not None:
            sizes = dict(num_classes) if isinstance(num_classes, Mapping) else {ONLY_OUTPUT: num_classes}
            self._shapes = {
                name: (None, check_integer(f"num_classes of {name}", size, at_least=1)) for name, size in sizes.items()
            }

    def ask(self, ids, view, x):
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
        """An `AbsentTeacher` that says what to bring: a function cannot be saved."""
        return AbsentTeacher(**config)


def single_precision(array: Any) -> np.ndarray:
    """Floating point numbers as float32; others as they are."""
    array = np.asarray(array)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
