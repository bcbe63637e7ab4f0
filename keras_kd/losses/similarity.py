"""Similarity-preserving distillation (Tung & Mori, 2019): which examples of a batch look alike to the teacher."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.numerics import flatten, l2_normalize, num_present_rows, pair_mask, upcast


def similarity_preserving(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """How far the inner products between the examples of a batch are apart, each row of them at length 1.

        G = F F^T, each row over its Euclidean norm
        row i: (1 / b) sum_j (G_teacher[i, j] - G_student[i, j])^2

    The mean over the batch is the paper's `||G_teacher - G_student||^2 / b^2`, as in published code (RepDistiller,
    "verified by original author"; mdistiller), for one pair of layers. A row of zeros stays one, with a small gradient.

    Source: Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019, section 3.

    Args:
        teacher_features: `[batch, ...]`; what follows the batch axis is flattened.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows that count; None is all. The others are 0, and b is how many count.

    Returns:
        `[batch]`.
    """
    teacher, student = map(flatten, upcast(teacher_features, student_features))
    pairs = pair_mask(present, teacher)
    difference = _similarities(teacher, pairs) - _similarities(student, pairs)
    return ops.sum(ops.square(difference), axis=-1) / num_present_rows(pairs)


def _similarities(features: Any, pairs: Any) -> Any:
    """`[batch, batch]`: the inner products of the pairs that count, each row at length 1."""
    return l2_normalize(ops.matmul(features, ops.transpose(features)) * pairs)


@registry.register
class SimilarityPreserving(DistillationLoss):
    """Examples that are alike to the teacher are alike to the student: `similarity_preserving` as a loss.

    Any two layers will do: only `[batch, batch]` numbers are compared. The paper takes the last feature map, at weight
    3000.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = SimilarityPreserving(teacher="block_3", student="stage_2")
    >>> float(loss([[1.0, 0.0], [0.0, 1.0]], [[1.0], [0.0]]))
    0.25
    """

    leaves_out_padding = True

    def call(self, teacher, student, context):
        return similarity_preserving(*without_padding(teacher, student, context), present=context.present)
