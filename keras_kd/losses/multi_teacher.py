"""Soft-target losses of a student with several teachers, with random teacher dropping."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_kd.features import find_heads
from keras_kd.losses import Context, DistillationLoss, SoftTargets, Weighted

_NUM_DRAWS = 4096  # after this many steps the sequence of dropped teachers repeats


def soft_targets_per_teacher(
    student: keras.Model, teachers: list[str], drop: float, seed: int
) -> list[DistillationLoss]:
    """One soft-target loss per teacher of a `Panel`; their sum is the mean over the teachers that are not dropped.

    Args:
        student: decides between softmax and sigmoid targets.
        teachers: the names of the teachers.
        drop: the probability of dropping each teacher in a step.
        seed: of the random draws.
    """
    (head,) = find_heads(student).values()
    is_binary = head.activation == "sigmoid" or student.output_shape[-1] == 1
    terms = [
        SoftTargets(teacher=name, name=f"soft_targets_{name}", activation="sigmoid" if is_binary else "softmax")
        for name in teachers
    ]
    if not drop:
        return [Weighted(term, 1.0 / len(terms)) for term in terms]
    weights = random_teacher_weights(len(terms), drop, seed)
    return [_StepWeighted(term, column) for term, column in zip(terms, weights.T, strict=True)]


def random_teacher_weights(num_teachers: int, drop: float, seed: int) -> np.ndarray:
    """The weight of each teacher in each of 4096 steps: 0 if it is dropped, equal for the rest, summing to 1.

    If every teacher of a step would be dropped, one of them, drawn uniformly, is kept.

    Returns:
        float32 `[4096, num_teachers]`. It depends on the arguments alone, so a resumed training continues the sequence.
    """
    random = np.random.default_rng(seed)
    is_kept = random.random((_NUM_DRAWS, num_teachers)) >= drop
    empty_steps = np.flatnonzero(~is_kept.any(axis=1))
    is_kept[empty_steps, random.integers(num_teachers, size=len(empty_steps))] = True
    return (is_kept / is_kept.sum(axis=1, keepdims=True)).astype("float32")


class _StepWeighted(Weighted):
    """A loss multiplied by a weight per step; the sequence of weights repeats from its start."""

    def __init__(self, loss: DistillationLoss, step_weights: np.ndarray):
        super().__init__(loss)
        self._step_weights = step_weights

    def per_example(self, teacher, student, *, sample_weight=None, context=None):
        context = context or Context()
        losses = super().per_example(teacher, student, sample_weight=sample_weight, context=context)
        index = ops.mod(context.step, len(self._step_weights))
        return losses.scaled(ops.take(ops.convert_to_tensor(self._step_weights), index))
