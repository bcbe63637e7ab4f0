"""Affinity distillation (He et al., 2019): matches how similar the positions of a map are to each other."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import l2_normalize, upcast
from keras_kd.losses.reduction import zero_excluded

ROUNDING = 1e-6


def affinity_kd(teacher_map: Any, student_map: Any, included: Any = None) -> Any:
    """The distance between the rows of the two affinity matrices, summed over the rows.

        A[i, j] = cosine(features at i, features at j) / positions
        loss = sum over positions i of ||A_teacher[i] - A_student[i]||_2

    A position whose features are all 0 has an affinity of 0 to all. Rows of cosines that differ by no more than
    rounding, a norm of 1e-6, count as equal, with a gradient of 0: the norm would make a direction of the rounding.
    If the maps differ in size, the larger is first average-pooled to the smaller. Memory is
    `[batch, positions, positions]`.

    Source: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", 2019, section 3.2.

    Args:
        teacher_map, student_map: `[batch, height, width, channels]`; sizes and channels may differ.
        included: bool, `[batch, height or 1, width or 1, 1]`: the positions to compare, and to divide by; None includes
            all. Needs maps of equal size unless it excludes whole rows.

    Returns:
        `[batch]`.
    """
    teacher_map, student_map = pool_to_smallest(*upcast(teacher_map, student_map))
    weights = ops.ones_like(student_map[..., :1])
    weights = _by_position(weights if included is None else zero_excluded(weights, included))
    num_included = ops.maximum(ops.sum(weights, axis=(1, 2)), 1.0)
    teacher, student = (_cosines(_by_position(features) * weights) for features in (teacher_map, student_map))
    squares = ops.sum(ops.square(teacher - student), axis=-1)
    differs = squares > ROUNDING**2
    distances = ops.where(differs, ops.sqrt(ops.where(differs, squares, 1.0)), 0.0)
    return ops.sum(distances, axis=-1) / num_included


def _cosines(features: Any) -> Any:
    features = l2_normalize(features)
    return ops.matmul(features, ops.transpose(features, (0, 2, 1)))


def _by_position(features: Any) -> Any:
    return ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))


@registry.register
class AffinityKD(DistillationLoss):
    """Trains the student's positions to be as similar to each other as the teacher's are, see `affinity_kd`.

    The second term of knowledge adaptation (`KnowledgeAdaptation`) without anything learned: between two maps of any
    channels, rather than between the teacher's code and an adapter of the student's map.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = AffinityKD(teacher="stage_3", student="stage_3")
    >>> round(float(loss([[[[1.0, 0.0], [0.0, 1.0]]]], [[[[1.0], [1.0]]]])), 4)
    1.0
    """

    excludes_padding = True

    def call(self, teacher, student, context):
        return affinity_kd(*without_padding(teacher, student, context), context.included(student))

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_feature_maps(self.name, teacher_outputs.shape, student_outputs.shape)
