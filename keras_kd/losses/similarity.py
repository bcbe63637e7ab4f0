"""Similarity-preserving distillation (Tung & Mori, 2019): matches the pairwise similarities within a batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import registry
from keras_kd.losses.numerics import l2_normalize
from keras_kd.losses.pairwise import PairwiseLoss, num_present_rows, paired_rows


def similarity_preserving(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """Compares the inner products between the examples of a batch, with each row normalized to length 1.

        G = F F^T, each row divided by its Euclidean norm
        row i: (1 / b) sum_j (G_teacher[i, j] - G_student[i, j])^2

    For one pair of layers, the mean over the batch is the paper's `||G_teacher - G_student||^2 / b^2`, as in the
    published code (RepDistiller, "verified by original author"; mdistiller). A zero row stays zero, with a small
    gradient.

    Source: Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019, section 3.

    Args:
        teacher_features: `[batch, ...]`, flattened after the batch axis.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows to include; None includes all. The others are 0, and b is the number included.

    Returns:
        `[batch]`.
    """
    teacher, student, pairs = paired_rows(teacher_features, student_features, present)
    difference = _similarities(teacher, pairs) - _similarities(student, pairs)
    return ops.sum(ops.square(difference), axis=-1) / num_present_rows(pairs)


def _similarities(features: Any, pairs: Any) -> Any:
    """The inner products of the included pairs, `[batch, batch]`, with each row normalized to length 1."""
    return l2_normalize(ops.matmul(features, ops.transpose(features)) * pairs)


@registry.register
class SimilarityPreserving(PairwiseLoss):
    """Preserves the teacher's pairwise similarities between examples, see `similarity_preserving`.

    Any two layers can be compared, since only `[batch, batch]` matrices are. The paper uses the last feature map, with
    a weight of 3000.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = SimilarityPreserving(teacher="block_3", student="stage_2")
    >>> float(loss([[1.0, 0.0], [0.0, 1.0]], [[1.0], [0.0]]))
    0.25
    """

    compare = staticmethod(similarity_preserving)
