"""Relational knowledge distillation (Park et al., 2019): matches distances and angles between examples of a batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_number
from keras_kd.losses.base import registry
from keras_kd.losses.numerics import flatten, l2_normalize, upcast
from keras_kd.losses.pairwise import PairwiseLoss, num_present_rows, paired_rows

MIN_SQUARED_DISTANCE = 1e-12


def relational_distance(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """Compares the pairwise distances between examples, each model's divided by its mean distance.

        d[i, j] = sqrt(max(|f_i - f_j|^2, 1e-12)) over the mean of these over all i != j;  d[i, i] = 0
        row i: (1 / b) sum_j huber(d_teacher[i, j] - d_student[i, j]),  huber(x) = x^2 / 2 within 1, |x| - 1/2 beyond

    The paper sums over pairs of distinct examples. This function follows the published code (lenscloth/RKD
    `metric/loss.py`; likewise RepDistiller and mdistiller), which averages over the whole `[b, b]` matrix with its zero
    diagonal: `(b - 1) / b` times the mean over pairs. That code's mean of the distances above 0 is the mean off the
    diagonal, since 1e-12 makes even the distance between equal examples positive. The loss is 0 for a batch of one or
    two.

    Source: Park et al., "Relational Knowledge Distillation", 2019, section 3.2.1.

    Args:
        teacher_features: `[batch, ...]`, flattened after the batch axis. Uses memory of batch^2 * features.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows to include; None includes all. The others are 0, and b is the number included.

    Returns:
        `[batch]`.
    """
    teacher, student, pairs = paired_rows(teacher_features, student_features, present)
    others = pairs * _off_diagonal(pairs)
    difference = _relative_distances(teacher, others) - _relative_distances(student, others)
    return ops.sum(_huber(difference), axis=-1) / num_present_rows(pairs)


def relational_angle(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """Compares the angles formed by all triples of examples.

        e[i, j] = (f_j - f_i) / |f_j - f_i|, 0 if the two are equal;  angle[i, j, k] = cosine = e[i, j] . e[i, k]
        row i: (1 / b^2) sum_jk huber(angle_teacher[i, j, k] - angle_student[i, j, k])

    The paper sums over triples of distinct examples; this function averages over all b^3, including those that are 0
    in both models, as in the published code (lenscloth/RKD `metric/loss.py`; likewise RepDistiller and mdistiller).
    Uses memory of batch^3 and of batch^2 * features.

    Source: Park et al., "Relational Knowledge Distillation", 2019, section 3.2.2.

    Args:
        teacher_features: `[batch, ...]`, flattened after the batch axis.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows to include; None includes all. The others are 0, and b is the number included.

    Returns:
        `[batch]`.
    """
    teacher, student, pairs = paired_rows(teacher_features, student_features, present)
    triples = pairs[:, :, None] * pairs[:, None, :]
    difference = (_angles(teacher) - _angles(student)) * triples
    return ops.sum(_huber(difference), axis=(1, 2)) / ops.square(num_present_rows(pairs))


def _off_diagonal(pairs: Any) -> Any:
    """`[batch, batch]`: 1 off the diagonal, 0 on it."""
    row = ops.cumsum(ops.ones_like(pairs[:, 0]))
    return ops.cast(row[:, None] != row[None, :], pairs.dtype)


def _differences(features: Any) -> Any:
    """`[batch, batch, features]`: the second example minus the first."""
    return features[None, :, :] - features[:, None, :]


def _relative_distances(features: Any, others: Any) -> Any:
    """`[batch, batch]`: the distances of the pairs in `others` divided by their mean, 0 for the rest."""
    squares = ops.sum(ops.square(_differences(features)), axis=-1)
    distances = ops.sqrt(ops.maximum(squares, MIN_SQUARED_DISTANCE)) * others
    mean = ops.sum(distances) / ops.maximum(ops.sum(others), 1.0)
    return distances / ops.where(mean > 0, mean, 1.0)


def _angles(features: Any) -> Any:
    """`[batch, batch, batch]`: the cosine of the angle at the first example between the other two."""
    directions = l2_normalize(_differences(features))
    return ops.matmul(directions, ops.transpose(directions, (0, 2, 1)))


def _huber(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.where(size < 1.0, ops.square(difference) / 2.0, size - 0.5)


@registry.register
class RelationalKD(PairwiseLoss):
    """Preserves the teacher's distances and angles between examples.

        distance_weight * relational_distance + angle_weight * relational_angle

    The default weights are those of the paper's CIFAR-100 code and of RepDistiller, for an overall weight of 1, on
    pooled features. That script of the authors first normalizes features to length 1; RepDistiller and this class do
    not. Memory grows as batch^3.

    Args:
        distance_weight: the weight of `relational_distance`, at least 0; 0 skips it.
        angle_weight: the weight of `relational_angle`, at least 0; 0 skips it.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = RelationalKD(teacher="pool", student="pool")
    >>> float(loss([[0.0], [1.0], [2.0]], [[0.0], [3.0], [6.0]]))
    0.0
    >>> round(float(loss([[0.0], [1.0], [2.0]], [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])), 3)
    7.389
    """

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0, **options: Any):
        super().__init__(**options)
        self.distance_weight = check_number("distance_weight", distance_weight, at_least=0)
        self.angle_weight = check_number("angle_weight", angle_weight, at_least=0)

    def compare(self, teacher, student, *, present):
        parts = ((self.distance_weight, relational_distance), (self.angle_weight, relational_angle))
        values = ops.zeros_like(flatten(upcast(student)[0])[:, 0])
        for weight, function in parts:
            if weight > 0:
                values = values + weight * function(teacher, student, present=present)
        return values

    def get_config(self):
        return {**super().get_config(), "distance_weight": self.distance_weight, "angle_weight": self.angle_weight}
