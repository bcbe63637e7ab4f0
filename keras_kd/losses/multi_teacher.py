"""The losses of a model with several teachers, and which of these are left out of a step."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_kd.features import find_heads
from keras_kd.losses import Context, DistillationLoss, SoftTargets, Weighted

_DRAWS = 4096  # after which the teachers that are left out come in the same order again


def soft_targets_per_teacher(
    student: keras.Model, teachers: list[str], drop: float, seed: int
) -> list[DistillationLoss]:
    """Soft targets of each teacher of a `Panel`, by name; together they are the mean of those not left out."""
    (head,) = find_heads(student).values()
    is_binary = head.activation == "sigmoid" or student.output_shape[-1] == 1
    terms = [
        SoftTargets(teacher=name, name=f"soft_targets_{name}", activation="sigmoid" if is_binary else "softmax")
        for name in teachers
    ]
    if not drop:
        return [Weighted(term, 1.0 / len(terms)) for term in terms]
    shares = random_teacher_weights(len(terms), drop, seed)
    return [_StepWeighted(term, column) for term, column in zip(terms, shares.T, strict=True)]


def random_teacher_weights(num_teachers: int, drop: float, seed: int) -> np.ndarray:
    """The share of each teacher in each of 4096 steps: 0 where it is left out, alike for the others, 1 in all.

    Where all would be left out, one stays, any as likely as the others.

    Returns:
        float32 `[4096, num_teachers]`; a function of the arguments alone, so that a resumed training goes on with it.
    """
    random = np.random.default_rng(seed)
    is_there = random.random((_DRAWS, num_teachers)) >= drop
    nobody = np.flatnonzero(~is_there.any(axis=1))
    is_there[nobody, random.integers(num_teachers, size=len(nobody))] = True
    return (is_there / is_there.sum(axis=1, keepdims=True)).astype("float32")


class _StepWeighted(Weighted):
    """A loss times a number for each step, of a list that starts anew at its end."""

    def __init__(self, loss: DistillationLoss, shares: np.ndarray):
        super().__init__(loss)
        self._shares = shares

    def __call__(self, teacher, student, *, sample_weight=None, context=None):
        context = context or Context()
        value = super().__call__(teacher, student, sample_weight=sample_weight, context=context)
        return ops.take(ops.convert_to_tensor(self._shares), ops.mod(context.step, len(self._shares))) * value
