"""Losses on the pairs of examples in a batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import DistillationLoss, without_padding
from keras_kd.losses.numerics import flatten, upcast


def paired_rows(teacher_features: Any, student_features: Any, present: Any) -> tuple[Any, Any, Any]:
    """Both flattened to `[batch, features]`, and the mask of the pairs, `[batch, batch]`: 1 where both are present.

    Args:
        teacher_features, student_features: `[batch, ...]`.
        present: `[batch]`, or None if all rows are present.
    """
    teacher, student = map(flatten, upcast(teacher_features, student_features))
    row = ops.ones_like(teacher[:, :1]) if present is None else ops.cast(present, teacher.dtype)
    row = ops.reshape(row, (-1, 1))
    return teacher, student, row * ops.transpose(row)


def num_present_rows(pairs: Any) -> Any:
    """The number of rows present, repeated for each of them, `[batch]`; 1 for the other rows."""
    return ops.maximum(ops.sum(pairs, axis=-1), 1.0)


class PairwiseLoss(DistillationLoss):
    """Base class of losses that compare relations between examples; subclasses implement `compare`.

    Any two layers can be compared, whatever their sizes.
    """

    excludes_padding = True

    def call(self, teacher, student, context):
        return self.compare(*without_padding(teacher, student, context), present=context.present)

    def compare(self, teacher: Any, student: Any, *, present: Any) -> Any:
        """The loss of each example, `[batch]`, 0 for rows that are not `present`; features are `[batch, ...]`."""
        raise NotImplementedError
