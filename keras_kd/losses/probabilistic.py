"""Probabilistic knowledge transfer (Passalis & Tefas, 2018): neighbourhoods as distributions over the batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.numerics import flatten, num_present_rows, pair_mask, safe_sqrt, upcast

EPSILON = 1e-7


def probabilistic_transfer(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """The divergence between the distributions over the batch that each example's cosine similarities make.

        K[i, j] = (1 + f_i . f_j / ((|f_i| + e) (|f_j| + e))) / 2,  P[i, j] = K[i, j] / sum_j K[i, j],  e = 1e-7
        row i: (1 / b) sum_j P_teacher[i, j] log((P_teacher[i, j] + e) / (P_student[i, j] + e))

    The paper's conditional probabilities leave an example's similarity to itself out, and its divergence is a sum over
    the batch. The authors' code (passalis/probabilistic_kt; RepDistiller and mdistiller alike) keeps the diagonal in
    and takes the mean over the `[b, b]` matrix, and so does this. Features of 0 are at 1/2 to all; there the code has
    no gradient.

    Source: Passalis & Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018, section 3.

    Args:
        teacher_features: `[batch, ...]`; what follows the batch axis is flattened.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows that count; None is all. The others are 0, and b is how many count.

    Returns:
        `[batch]`.
    """
    teacher, student = map(flatten, upcast(teacher_features, student_features))
    pairs = pair_mask(present, teacher)
    teacher, student = _neighbours(teacher, pairs), _neighbours(student, pairs)
    divergence = teacher * ops.log((teacher + EPSILON) / (student + EPSILON))
    return ops.sum(divergence, axis=-1) / num_present_rows(pairs)


def _neighbours(features: Any, pairs: Any) -> Any:
    """`[batch, batch]`: each row's similarities to the rows that count, shifted to 0 to 1, as probabilities."""
    norm = safe_sqrt(ops.sum(ops.square(features), axis=-1, keepdims=True))
    directions = features / ops.where(norm > 0, norm + EPSILON, 1.0)
    cosines = ops.matmul(directions, ops.transpose(directions))
    kernel = ops.maximum((1.0 + cosines) / 2.0, 0.0) * pairs  # rounding takes a cosine of -1 further down
    total = ops.sum(kernel, axis=-1, keepdims=True)
    return kernel / ops.where(total > 0, total, 1.0)


@registry.register
class ProbabilisticTransfer(DistillationLoss):
    """Each example has the neighbours for the student that it has for the teacher: `probabilistic_transfer` as a loss.

    Any two layers will do: only `[batch, batch]` numbers are compared. RepDistiller takes the pooled features, at
    weight 30000: the value is small, as it is a mean over batch^2.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = ProbabilisticTransfer(teacher="pool", student="pool")
    >>> round(float(loss([[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])), 4)
    0.0283
    """

    leaves_out_padding = True

    def call(self, teacher, student, context):
        return probabilistic_transfer(*without_padding(teacher, student, context), present=context.present)
