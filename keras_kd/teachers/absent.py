"""A teacher that a config names: loaded from its file, or a placeholder with instructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_kd.errors import TeacherError, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import register
from keras_kd.teachers.base import Batch, Teacher


@register
class AbsentTeacher(Teacher):
    """Placeholder for the missing teacher of a saved distiller; calling it raises an error with instructions."""

    is_differentiable = True  # as far as is known

    def __init__(self, path: str | None, outputs: str | None, fingerprint: str, **settings: Any):
        self.path = path
        self.outputs = outputs
        self.settings = settings  # the rest of the teacher's config, for saving again
        self._fingerprint = fingerprint

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        where = f"the path {self.path}, which does not exist" if self.path else "a teacher that was not saved to a file"
        dtype = self.settings.get("dtype")
        model = "model" if dtype is None else f"FrozenTeacher(model, dtype={dtype!r})"
        raise TeacherError(
            explain(
                "This distiller was loaded without its teacher.",
                received=where,
                expected=f"the teacher with fingerprint {self._fingerprint}",
                fix=f"Set `distiller.teacher = {model}` (a model or its path) before `fit`.",
            )
        )

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def output_shapes(self):
        return None

    def get_config(self) -> dict[str, Any]:
        return {"path": self.path, "outputs": self.outputs, "fingerprint": self._fingerprint, **self.settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AbsentTeacher:
        """The same placeholder, for a distiller that is saved and loaded while its teacher is missing."""
        return cls(**config)


def reopened(kind: type[Teacher], config: dict[str, Any]) -> Teacher:
    """Loads a teacher of class `kind` from the file in its config; an `AbsentTeacher` if the file does not exist.

    Raises:
        TeacherError: the file contains a different teacher.
    """
    settings = dict(config)
    path, fingerprint = settings.pop("path"), settings.pop("fingerprint")
    if path is None or not Path(path).exists():
        return AbsentTeacher(**config)
    return kind(path, **settings, expected_fingerprint=fingerprint)


def check_fingerprint(teacher: Teacher, expected: str) -> None:
    """Raises `TeacherError` if a teacher does not have the expected fingerprint."""
    if teacher.fingerprint == expected:
        return
    fix = "Pass the same weights, or create a new Distiller to continue with another teacher."
    (own, _, _), (weights, _, precision) = teacher.fingerprint.partition(" "), expected.partition(" ")
    if own == weights and weights.startswith("sha256:"):  # the user's own fingerprints may contain spaces
        precision = precision or None
        fix = f"The weights are equal, but the precision differs: use FrozenTeacher(model, dtype={precision!r})."
    raise TeacherError(
        explain(
            "The teacher has an unexpected fingerprint.",
            received=f"fingerprint {teacher.fingerprint}",
            expected=f"fingerprint {expected}",
            fix=fix,
        )
    )
