"""Teachers that are no Keras models: what they have in common, and any function on NumPy arrays."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.errors import ConfigurationError, TeacherError, check_integer, explain
from keras_kd.features.outputs import ONLY_OUTPUT, name_outputs
from keras_kd.features.shapes import same_shape
from keras_kd.serialization import register
from keras_kd.teachers.absent import AbsentTeacher
from keras_kd.teachers.base import OfflineTeacher, Teacher
from keras_kd.teachers.external.probabilities import (
    SMALLEST,
    SUM_TOLERANCE,
    check_outputs,
    is_distribution,
    logits_of_probabilities,
    looks_like_probabilities,
)
from keras_kd.teachers.fingerprints import fingerprint_of_function

_FILES = "a .tflite or .npz file, or a folder with a saved_model.pb (a .keras file is for FrozenTeacher)"


class ForeignTeacher(OfflineTeacher):
    """A teacher that answers on NumPy arrays: its answers are checked, turned into logits, and travel with the batch.

    A subclass says what the model gives in `ask`.

    Args:
        outputs: `"logits"` or `"probabilities"`. None takes the answers for logits, and refuses a batch in which
            every row is a distribution.
        activation: what made the probabilities: `"softmax"`, or `"sigmoid"` (each column a yes or no). None takes a
            single column for a sigmoid, several for a softmax.

    Raises:
        ConfigurationError: neither of these; an activation without probabilities.
    """

    def __init__(self, outputs: str | None = None, activation: str | None = None):
        check_outputs(outputs, activation)
        self.outputs = outputs
        self.activation = activation
        self._shapes: dict[str, tuple[int | None, ...]] | None = None

    @abc.abstractmethod
    def ask(self, ids: np.ndarray, view: int, x: Any) -> dict[str, Any]:
        """What the model says, by output name, as it gives it: arrays `[b, ..., classes]`."""

    def activation_of(self, name: str, num_classes: int | None) -> str:
        """`"linear"` where this output is logits, else `"softmax"` or `"sigmoid"`."""
        if self.outputs != "probabilities":
            return "linear"
        return self.activation or ("sigmoid" if num_classes == 1 else "softmax")

    def smallest_of(self, name: str) -> float:
        """The probability that this output means by 0."""
        return SMALLEST

    def outputs_for(self, ids, view, x):
        """Logits, float32 `[b, ..., classes]` by output name.

        Raises:
            TeacherError: not one row per example, not the classes that were announced, no finite numbers, or
                probabilities where these are not, or vice versa.
        """
        said = {name: self._checked(name, value, len(ids)) for name, value in self.ask(ids, view, x).items()}
        shapes = {name: (None, *value.shape[1:]) for name, value in said.items()}
        self._check_shapes(shapes)
        self._shapes = self._shapes or shapes
        return {name: self._logits(name, value) for name, value in said.items()}

    def decode(self, attached: dict[str, Any], taps: Sequence[str]) -> dict[str, Any]:
        return {name: ops.cast(value, "float32") for name, value in attached.items()}

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
                    f"The teacher's {name!r} is not one row per example.",
                    received=f"shape {value.shape} of {value.dtype} for {num_examples} examples",
                    expected=f"numbers of shape ({num_examples}, classes)",
                )
            )
        if not np.isfinite(value).all():
            row = int(np.argwhere(~np.isfinite(value))[0, 0])
            raise TeacherError(
                explain(
                    f"The teacher's {name!r} has numbers that are not finite.",
                    received=f"shape {value.shape}, row {row} of the batch first",
                    expected="finite numbers",
                )
            )
        return value

    def _check_shapes(self, shapes: dict[str, tuple[int | None, ...]]) -> None:
        if self._shapes is not None and not _same(shapes, self._shapes):
            raise TeacherError(
                explain("The teacher's outputs are not those expected.", received=shapes, expected=self._shapes)
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
                    f"The teacher's {name!r} is no probability.",
                    received=f"numbers from {value.min():.4g} to {value.max():.4g}",
                    expected="numbers from 0 to 1",
                    fix="Pass outputs='logits' where the model ends without a softmax or a sigmoid.",
                )
            )
        return logits_of_probabilities(value, activation, self.smallest_of(name))


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
            raise ConfigurationError(explain("This is no teacher.", received=repr(function), expected=expected))
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


def from_path(path: str | Path, **settings: Any) -> Teacher:
    """The teacher in a file or folder that is no Keras model.

    Args:
        path: a `.tflite` file (`TFLiteTeacher`), an `.npz` file of logits (`StoredLogits`), or the folder of a
            TensorFlow SavedModel (`SavedModelTeacher`).
        settings: of that class.

    Raises:
        TeacherError: nothing is there.
        ConfigurationError: something else is there.
    """
    from keras_kd.teachers.external.saved_model import SavedModelTeacher  # these three build on this module
    from keras_kd.teachers.external.stored_logits import StoredLogits
    from keras_kd.teachers.external.tflite import TFLiteTeacher

    if not isinstance(path, (str, PathLike)):
        raise ConfigurationError(explain("This is not a path.", received=repr(path), expected=_FILES))
    path = Path(path)
    if not path.exists():
        raise TeacherError(explain("The teacher's file is not there.", received=str(path), expected=_FILES))
    if path.is_dir() and (path / "saved_model.pb").exists():
        return SavedModelTeacher(path, **settings)
    kinds = {".tflite": TFLiteTeacher, ".npz": StoredLogits}
    if path.is_file() and path.suffix in kinds:
        return kinds[path.suffix](path, **settings)
    received = f"{path}, a folder without a saved_model.pb" if path.is_dir() else str(path)
    raise ConfigurationError(explain("There is not a teacher in this place.", received=received, expected=_FILES))


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """From the names in an exported file to those that the Keras model's outputs had.

    Export numbers outputs without a name: `output_0` is `"output"` where it is the only one, `output_1` is `"1"`.

    >>> plain_names(["output_0"]), plain_names(["output_0", "output_1"]), plain_names(["boxes"])
    ({'output_0': 'output'}, {'output_0': '0', 'output_1': '1'}, {'boxes': 'boxes'})
    """
    names = list(names)
    numbers = [re.fullmatch(r"output_(\d+)", name) for name in names]
    if not all(numbers):
        return {name: name for name in names}
    return {name: ONLY_OUTPUT if len(names) == 1 else number[1] for name, number in zip(names, numbers, strict=True)}


def single_precision(array: Any) -> np.ndarray:
    """Floating point numbers as float32; others as they are."""
    array = np.asarray(array)
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _same(shapes: dict[str, tuple], expected: dict[str, tuple]) -> bool:
    """Whether outputs agree by name, rank and size; None agrees with any size."""
    return shapes.keys() == expected.keys() and all(same_shape(shapes[name], expected[name]) for name in shapes)
