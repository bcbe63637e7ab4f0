"""Relational knowledge distillation (Park et al., 2019): the distances and angles between the examples of a batch."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_number
from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.numerics import flatten, l2_normalize, num_present_rows, pair_mask, upcast

SMALLEST_SQUARE = 1e-12


def relational_distance(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """How far the distances between examples are apart, each side's in units of its own mean distance.

        d[i, j] = sqrt(max(|f_i - f_j|^2, 1e-12)) over the mean of these over all i != j;  d[i, i] = 0
        row i: (1 / b) sum_j huber(d_teacher[i, j] - d_student[i, j]),  huber(x) = x^2 / 2 within 1, |x| - 1/2 beyond

    The paper sums over pairs of distinct examples. Its code (lenscloth/RKD `metric/loss.py`; RepDistiller and
    mdistiller alike) takes the mean over the whole `[b, b]` matrix, with the diagonal of zeros, and so does this: `(b -
    1) / b` of the mean over pairs. "The mean of the distances above 0" in that code is the mean off the diagonal, as
    1e-12 lifts even the distance between equal examples. A batch of one or two is 0.

    Source: Park et al., "Relational Knowledge Distillation", 2019, section 3.2.1.

    Args:
        teacher_features: `[batch, ...]`; what follows the batch axis is flattened. Takes memory of batch^2 * features.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows that count; None is all. The others are 0, and b is how many count.

    Returns:
        `[batch]`.
    """
    teacher, student = map(flatten, upcast(teacher_features, student_features))
    pairs = pair_mask(present, teacher)
    others = pairs * _differ(pairs)
    difference = _relative_distances(teacher, others) - _relative_distances(student, others)
    return ops.sum(_huber(difference), axis=-1) / num_present_rows(pairs)


def relational_angle(teacher_features: Any, student_features: Any, *, present: Any = None) -> Any:
    """How far the angles that any two examples make at a third are apart.

        e[i, j] = (f_j - f_i) / |f_j - f_i|, 0 where the two are equal;  angle[i, j, k] = cosine = e[i, j] . e[i, k]
        row i: (1 / b^2) sum_jk huber(angle_teacher[i, j, k] - angle_student[i, j, k])

    The paper sums over triples of distinct examples; its code (lenscloth/RKD `metric/loss.py`; RepDistiller and
    mdistiller alike) takes the mean over all b^3, with those that are 0 on both sides, and so does this. Takes memory
    of batch^3 and of batch^2 * features.

    Source: Park et al., "Relational Knowledge Distillation", 2019, section 3.2.2.

    Args:
        teacher_features: `[batch, ...]`; what follows the batch axis is flattened.
        student_features: `[batch, ...]`, of any size.
        present: `[batch]`, the rows that count; None is all. The others are 0, and b is how many count.

    Returns:
        `[batch]`.
    """
    teacher, student = map(flatten, upcast(teacher_features, student_features))
    pairs = pair_mask(present, teacher)
    triples = pairs[:, :, None] * pairs[:, None, :]
    difference = (_angles(teacher) - _angles(student)) * triples
    return ops.sum(_huber(difference), axis=(1, 2)) / ops.square(num_present_rows(pairs))


def _differ(pairs: Any) -> Any:
    """`[batch, batch]`: 1 off the diagonal."""
    row = ops.cumsum(ops.ones_like(pairs[:, 0]))
    return ops.cast(row[:, None] != row[None, :], pairs.dtype)


def _differences(features: Any) -> Any:
    """`[batch, batch, features]`: where the second lies, seen from the first."""
    return features[None, :, :] - features[:, None, :]


def _relative_distances(features: Any, others: Any) -> Any:
    """`[batch, batch]`: the distances of the pairs in `others` over their mean, 0 for the rest."""
    squares = ops.sum(ops.square(_differences(features)), axis=-1)
    distances = ops.sqrt(ops.maximum(squares, SMALLEST_SQUARE)) * others
    mean = ops.sum(distances) / ops.maximum(ops.sum(others), 1.0)
    return distances / ops.where(mean > 0, mean, 1.0)


def _angles(features: Any) -> Any:
    """`[batch, batch, batch]`: the cosine at the first example between the directions to the other two."""
    directions = l2_normalize(_differences(features))
    return ops.matmul(directions, ops.transpose(directions, (0, 2, 1)))


def _huber(difference: Any) -> Any:
    size = ops.abs(difference)
    return ops.where(size < 1.0, ops.square(difference) / 2.0, size - 0.5)


@registry.register
class RelationalKD(DistillationLoss):
    """The student keeps the teacher's distances and angles between examples.

        distance_weight * relational_distance + angle_weight * relational_angle

    The weights are those of the paper's CIFAR-100 code and of RepDistiller, where the whole has weight 1, on pooled
    features. The authors bring features to length 1 first in that script; RepDistiller and this do not. Memory grows as
    batch^3.

    Args:
        distance_weight: of `relational_distance`, at least 0; 0 leaves it out.
        angle_weight: of `relational_angle`, at least 0; 0 leaves it out.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = RelationalKD(teacher="pool", student="pool")
    >>> float(loss([[0.0], [1.0], [2.0]], [[0.0], [3.0], [6.0]]))
    0.0
    >>> round(float(loss([[0.0], [1.0], [2.0]], [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])), 3)
    7.389
    """

    leaves_out_padding = True

    def __init__(self, *, distance_weight: float = 25.0, angle_weight: float = 50.0, **options: Any):
        super().__init__(**options)
        self.distance_weight = check_number("distance_weight", distance_weight, at_least=0)
        self.angle_weight = check_number("angle_weight", angle_weight, at_least=0)

    def call(self, teacher, student, context):
        teacher, student = without_padding(teacher, student, context)
        parts = ((self.distance_weight, relational_distance), (self.angle_weight, relational_angle))
        values = ops.zeros_like(flatten(upcast(student)[0])[:, 0])
        for weight, function in parts:
            if weight > 0:
                values = values + weight * function(teacher, student, present=context.present)
        return values

    def get_config(self):
        return {**super().get_config(), "distance_weight": self.distance_weight, "angle_weight": self.angle_weight}
