"""A teacher run over plain arrays, compiled once, outside any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_kd.teachers.base import Batch, Teacher


class TeacherRunner:
    """Asks any teacher about plain arrays: one that runs in the step, or one whose answers travel.

    Args:
        teacher: the teacher.
        taps: paths of inner layers that are wanted besides its logits.
    """

    def __init__(self, teacher: Teacher, taps: Sequence[str] = ()):
        self._teacher = teacher
        self._taps = tuple(taps)
        self._compiled = _Compiled(teacher, self._taps)
        self._batch_size = 0

    def __call__(self, ids: np.ndarray, view: int, x: Any, y: Any = None) -> dict[str, np.ndarray]:
        """What the teacher says, `[b, ...]` by name.

        Args:
            ids: int64 `[b]`, the numbers of the examples.
            view: which augmentation of them this is.
            x: their inputs.
            y: their labels, for a teacher that reads them.
        """
        if not self._teacher.runs_outside_step:
            return self._run(x, y)
        outputs, taps = self._teacher.decode(self._teacher.outputs_for(ids, view, x), self._taps)
        return {name: ops.convert_to_numpy(value) for name, value in (outputs | taps).items()}

    def _run(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """A batch smaller than one before it, such as the last, is filled up: a new size would compile anew."""
        inputs = {"x": x} if y is None else {"x": x, "y": y}
        num_rows = len(tree.flatten(x)[0])
        self._batch_size = max(self._batch_size, num_rows)
        if missing := self._batch_size - num_rows:
            inputs = tree.map_structure(lambda a: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]), inputs)
        return {name: value[:num_rows] for name, value in self._compiled.predict_on_batch(inputs).items()}


class _Compiled(keras.Model):
    """A teacher in the one form that every backend compiles; it is no model, and stays untracked."""

    def __init__(self, teacher: Teacher, taps: tuple[str, ...]):
        super().__init__(name="teacher", dtype="float32", autocast=False)  # inputs reach the teacher as they are
        self._teacher = teacher
        self._paths = taps
        self.supports_jit = teacher.supports_jit
        self.built = True

    def call(self, inputs):
        batch = Batch(inputs["x"], inputs.get("y"))
        outputs, taps = self._teacher(batch, self._paths)
        return {name: ops.cast(value, "float32") for name, value in (outputs | taps).items()}
