"""Probabilistic knowledge transfer (Passalis & Tefas, 2018): matches neighborhood distributions over the batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import registry
from keras_kd.losses.numerics import safe_sqrt
from keras_kd.losses.pairwise import PairwiseLoss, num_present_rows, paired_rows

EPSILON = 1e-7


def probabilistic_transfer(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """The divergence between distributions over the batch, computed from each example's cosine similarities.

        K[i, j] = (1 + f_i . f_j / ((|f_i| + e) (|f_j| + e))) / 2,  P[i, j] = K[i, j] / sum_j K[i, j],  e = 1e-7
        row i: (1 / b) sum_j P_teacher[i, j] log((P_teacher[i, j] + e) / (P_student[i, j] + e))

    The paper's conditional probabilities exclude an example's similarity to itself, and its divergence is a sum over
    the batch. This function follows the authors' code (passalis/probabilistic_kt; likewise RepDistiller and
    mdistiller), which includes the diagonal and averages over the `[b, b]` matrix. Zero features have a similarity of
    1/2 to all examples; there the gradient of the published code is not defined.

    Source: Passalis & Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018, section 3.

    Args:
        teacher_features: `[batch, ...]`, flattened after the batch axis.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows to include; None includes all. The others are 0, and b is the number included.

    Returns:
        `[batch]`.
    """
    teacher, student, pairs = paired_rows(teacher_features, student_features, present)
    teacher, student = _neighbor_probabilities(teacher, pairs), _neighbor_probabilities(student, pairs)
    divergence = teacher * ops.log((teacher + EPSILON) / (student + EPSILON))
    return ops.sum(divergence, axis=-1) / num_present_rows(pairs)


def _neighbor_probabilities(features: Any, pairs: Any) -> Any:
    """Each row's similarities to the included rows, rescaled to [0, 1] and normalized, `[batch, batch]`."""
    norm = safe_sqrt(ops.sum(ops.square(features), axis=-1, keepdims=True))
    directions = features / ops.where(norm > 0, norm + EPSILON, 1.0)
    cosines = ops.matmul(directions, ops.transpose(directions))
    kernel = ops.maximum((1.0 + cosines) / 2.0, 0.0) * pairs  # rounding can make a cosine less than -1
    total = ops.sum(kernel, axis=-1, keepdims=True)
    return kernel / ops.where(total > 0, total, 1.0)


@registry.register
class ProbabilisticTransfer(PairwiseLoss):
    """Preserves each example's neighborhood in the teacher's feature space, see `probabilistic_transfer`.

    Any two layers can be compared, since only `[batch, batch]` matrices are. RepDistiller uses the pooled features,
    with a weight of 30000: the value is small because it is a mean over batch^2.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = ProbabilisticTransfer(teacher="pool", student="pool")
    >>> round(float(loss([[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])), 4)
    0.0283
    """

    compare = staticmethod(probabilistic_transfer)
