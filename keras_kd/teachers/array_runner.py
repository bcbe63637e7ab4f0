"""Runs a teacher on plain arrays outside training, compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_kd.data.pairs.sides import select
from keras_kd.teachers.base import Batch, Teacher


class TeacherRunner:
    """Runs any teacher on plain arrays, whether it runs inside or outside the training step.

    Args:
        teacher: the teacher.
        taps: paths of inner layers to return in addition to the logits.
        inputs: which of the named inputs the teacher takes; None passes all.
    """

    def __init__(self, teacher: Teacher, taps: Sequence[str] = (), inputs: str | None = None):
        self._teacher = teacher
        self._inputs = inputs
        self._taps = tuple(taps)
        self._compiled = _Compiled(teacher, self._taps)
        self._batch_size = 0

    def __call__(self, ids: np.ndarray, view: int, x: Any, y: Any = None) -> dict[str, np.ndarray]:
        """The teacher's outputs and taps, `[b, ...]` by name.

        Args:
            ids: int64 `[b]`, the example ids.
            view: the index of the augmented view.
            x: the inputs.
            y: the labels, for a teacher that reads them.
        """
        x = x if self._inputs is None else select(x, self._inputs)
        if not self._teacher.runs_outside_step:
            return self._run(x, y)
        outputs, taps = self._teacher.decode(self._teacher.outputs_for(ids, view, x), self._taps)
        return {name: ops.convert_to_numpy(value) for name, value in (outputs | taps).items()}

    def _run(self, x: Any, y: Any) -> dict[str, np.ndarray]:
        """Pads a batch that is smaller than an earlier one, such as the last, to avoid compiling for a new size."""
        inputs = {"x": x} if y is None else {"x": x, "y": y}
        num_rows = len(tree.flatten(x)[0])
        self._batch_size = max(self._batch_size, num_rows)
        if missing := self._batch_size - num_rows:
            inputs = tree.map_structure(lambda a: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]), inputs)
        return {name: value[:num_rows] for name, value in self._compiled.predict_on_batch(inputs).items()}


class _Compiled(keras.Model):
    """Wraps a teacher as a Keras model, which every backend compiles; the teacher itself stays untracked."""

    def __init__(self, teacher: Teacher, taps: tuple[str, ...]):
        super().__init__(name="teacher", dtype="float32", autocast=False)  # do not cast the teacher's inputs
        self._teacher = teacher
        self._paths = taps
        self.supports_jit = teacher.supports_jit
        self.built = True

    def call(self, inputs):
        batch = Batch(inputs["x"], inputs.get("y"))
        outputs, taps = self._teacher(batch, self._paths)
        return {name: ops.cast(value, "float32") for name, value in (outputs | taps).items()}
