"""A live Keras model as the teacher, left exactly as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features import find_heads, find_place, forward, inner_taps, output_shapes
from keras_kd.serialization import register
from keras_kd.teachers.base import Batch, Teacher


def fingerprint(model: keras.Model) -> str:
    """A SHA-256 over the shapes, dtypes and values of all weights in order, as `sha256:` and 64 hex digits.

    Names do not count (Keras numbers them anew in each process), nor does what has no weights.
    """
    digest = hashlib.sha256()
    for weight in model.weights:
        value = np.ascontiguousarray(ops.convert_to_numpy(weight))
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return "sha256:" + digest.hexdigest()


@register
class FrozenTeacher(Teacher):
    """A Keras model that teaches: run in inference mode, outside the gradient, never altered.

    Args:
        model: the teacher, or the path of its `.keras` file. A saved distiller names the teacher by that path.
        outputs: `"logits"` or `"probabilities"` where the model's last layer does not tell.
        expected_fingerprint: where given, a model with another fingerprint is refused.

    Raises:
        TeacherError: the file is missing, or the fingerprint is another.
        ConfigurationError: no model, or one whose outputs cannot be told.
    """

    def __init__(
        self,
        model: keras.Model | str | Path,
        *,
        outputs: str | None = None,
        expected_fingerprint: str | None = None,
    ):
        self.path = Path(model) if isinstance(model, (str, Path)) else None
        self.outputs = outputs
        self.model = _load(self.path) if self.path is not None else _checked(model)
        self._fingerprint: str | None = None
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)
        self._heads = find_heads(self.model, outputs, role="teacher")

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> dict[str, Any]:
        places = [find_place(self.model, path, role="teacher") for path in taps]
        _, logits, inner = forward(self.model, self._heads, batch.x, places=places)
        return {name: ops.stop_gradient(value) for name, value in (logits | inner).items()}

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        return inner_taps(self.model, names, role="teacher")

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.model)
        return self._fingerprint

    @property
    def output_shapes(self):
        return output_shapes(self.model)

    @property
    def activations(self) -> dict[str, str]:
        return {name: head.activation for name, head in self._heads.items()}

    @property
    def supports_jit(self) -> bool:
        return all(layer.supports_jit for layer in self.model._flatten_layers())

    def get_config(self) -> dict[str, Any]:
        return {
            "path": str(self.path.resolve()) if self.path is not None else None,
            "outputs": self.outputs,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The named teacher where its file is still there, else an `AbsentTeacher` that says so when it is needed."""
        if config["path"] is None or not Path(config["path"]).exists():
            return AbsentTeacher(**config)
        return cls(config["path"], outputs=config["outputs"], expected_fingerprint=config["fingerprint"])


@register
class AbsentTeacher(Teacher):
    """A teacher that a saved distiller named and that is not at hand: it only says how to bring it back."""

    def __init__(self, path: str | None, outputs: str | None, fingerprint: str):
        self.path = path
        self.outputs = outputs
        self._fingerprint = fingerprint

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> dict[str, Any]:
        where = f"the file {self.path}, which is not there" if self.path else "a model in memory, without a file"
        raise TeacherError(
            explain(
                "This distiller was loaded without its teacher.",
                received=where,
                expected=f"the teacher with fingerprint {self._fingerprint}",
                fix="Set `distiller.teacher = model` (or its path) before `fit`.",
            )
        )

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def output_shapes(self):
        return None

    def get_config(self) -> dict[str, Any]:
        return {"path": self.path, "outputs": self.outputs, "fingerprint": self._fingerprint}


def as_teacher(teacher: Any) -> Teacher:
    """A `Teacher` from a teacher, a Keras model, or the path of a `.keras` file."""
    return teacher if isinstance(teacher, Teacher) else FrozenTeacher(teacher)


def check_fingerprint(teacher: Teacher, expected: str) -> None:
    """Raises `TeacherError` where a teacher is not the expected one."""
    if teacher.fingerprint != expected:
        raise TeacherError(
            explain(
                "This is another teacher than the one named.",
                received=f"fingerprint {teacher.fingerprint}",
                expected=f"fingerprint {expected}",
                fix="Pass the same weights again, or make a new Distiller to go on with another teacher.",
            )
        )


def _checked(model: Any) -> keras.Model:
    if isinstance(model, keras.Model):
        return model
    raise ConfigurationError(
        explain(
            "This is no teacher.",
            received=f"{type(model).__module__}.{type(model).__name__}",
            expected="a keras.Model, the path of a .keras file, or a keras_kd teacher",
        )
    )


def _load(path: Path) -> keras.Model:
    if not path.exists():
        raise TeacherError(explain("The teacher's file is not there.", received=str(path), expected="a .keras file"))
    return _checked(keras.models.load_model(path, compile=False))
