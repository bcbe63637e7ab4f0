"""A teacher run over plain arrays, compiled once, outside any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.teachers.base import Batch, Teacher


class Runner:
    """`(ids, view, x) -> {name: float32 array}` of any teacher: its logits, and the inner layers asked for.

    Args:
        teacher: one that runs in the step, or one whose answers travel.
        taps: paths of inner layers.
    """

    def __init__(self, teacher: Teacher, taps: Sequence[str] = ()):
        self._teacher = teacher
        self._taps = tuple(taps)
        self._model = _Forward(teacher, self._taps)

    def __call__(self, ids: np.ndarray, view: int, x: Any) -> dict[str, np.ndarray]:
        if self._teacher.answers_travel:
            said = self._teacher.decode(self._teacher.answers(ids, view, x), self._taps)
            return {name: ops.convert_to_numpy(value) for name, value in said.items()}
        return self._model.predict_on_batch(x)


class _Forward(keras.Model):
    """Gives Keras' compiled prediction to a teacher, which is no model and stays untracked."""

    def __init__(self, teacher: Teacher, taps: tuple[str, ...]):
        super().__init__(name="teacher", dtype="float32", autocast=False)
        self._teacher = teacher
        self._paths = taps
        self.built = True

    def call(self, x):
        said = self._teacher(Batch(x), self._paths) if self._paths else self._teacher(Batch(x))
        return {name: ops.cast(value, "float32") for name, value in said.items()}
