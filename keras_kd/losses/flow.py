"""Flow of the solution procedure (Yim et al., 2017): compares how features change from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import Projector
from keras_kd.features.projectors import describe_projectors
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import upcast


def flow_of_solution(teacher_maps: Sequence[Any], student_maps: Sequence[Any]) -> Any:
    """The mean squared difference between flow matrices, summed over the pairs of consecutive maps.

    With `G` from `flow_matrix`, each pair of consecutive maps adds the mean over all entries of
    `(G(teacher) - G(student))^2`. The paper sums over the entries; this function averages, as in the published code
    (RepDistiller).

    Source: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
    Learning", 2017, section 3.

    Args:
        teacher_maps, student_maps: two or more maps `[batch, height, width, channels]` in layer order; the channels at
            each index are the same in both models, sizes may differ.

    Returns:
        `[batch]`.
    """
    pairs = zip(pairwise(teacher_maps), pairwise(student_maps), strict=True)
    return sum(_flow_difference(*teacher, *student) for teacher, student in pairs)


def _flow_difference(teacher_first: Any, teacher_second: Any, student_first: Any, student_second: Any) -> Any:
    maps = upcast(teacher_first, teacher_second, student_first, student_second)
    return ops.mean(ops.square(flow_matrix(*maps[:2]) - flow_matrix(*maps[2:])), axis=(1, 2))


def flow_matrix(first_map: Any, second_map: Any) -> Any:
    """`G[i, j] = sum over h, w of first[h, w, i] * second[h, w, j] / (height * width)`.

    If the maps differ in size, the larger is first average-pooled to the smaller, as in RepDistiller; the paper
    max-pools.

    Args:
        first_map, second_map: two layers of one model, `[batch, height, width, channels]`.

    Returns:
        `[batch, channels of the first, channels of the second]`.
    """
    first, second = pool_to_smallest(*upcast(first_map, second_map))
    first, second = (ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1])) for x in (first, second))
    num_positions = ops.cast(ops.shape(first)[1], first.dtype)
    return ops.einsum("bpi,bpj->bij", first, second) / num_positions


@registry.register
class FlowOfSolution(DistillationLoss):
    """Trains the student to transform features between layers as the teacher does, see `flow_of_solution`.

    The paper and RepDistiller first train the student on this loss alone, at weight 1, and then on the labels. Here it
    is one term among others; give it a schedule that ends at 0 as its weight for the same effect.

    Args:
        projector: `"auto"` learns a 1x1 convolution with batch normalization for each student map with a different
            number of channels than the teacher's; the paper and RepDistiller require equal channels. None learns
            nothing and rejects different channels.
        options: `teacher`, `student` (lists of two or more layers, from input to output), `name`, `reduction`, see
            `DistillationLoss`.

    >>> loss = FlowOfSolution(teacher=["stage_1", "stage_2"], student=["stage_1", "stage_2"])
    >>> float(loss([[[[[1.0]]]], [[[[3.0]]]]], [[[[[1.0]]]], [[[[1.0]]]]]))
    4.0
    """

    several_taps = True

    def __init__(self, *, projector: str | None = "auto", **options: Any):
        super().__init__(**options)
        self.projector = check_choice("projector", projector, ("auto", None))
        self._projectors: list[Projector] = []

    def build(self, teacher_shape, student_shape):
        self._check(teacher_shape, student_shape)
        projectors = []
        for teacher, student in zip(teacher_shape, student_shape, strict=True):
            # sizes may differ: the flow matrices do not depend on them
            projectors.append(Projector((*student[:-1], teacher[-1]), self.projector))
            projectors[-1].build(tuple(student))
        self._projectors = projectors

    @property
    def projection(self):
        return describe_projectors(self._projectors)

    def call(self, teacher, student, context):
        student = [
            project(features, included=context.included(features), training=context.training)
            for project, features in zip(self._projectors, student, strict=True)
        ]
        return flow_of_solution(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        sides = (teacher_outputs, student_outputs)
        self._check(*([x.shape for x in side] if isinstance(side, (list, tuple)) else side.shape for side in sides))

    def _check(self, teacher_shapes: Any, student_shapes: Any) -> None:
        num_taps = [len(shapes) if isinstance(shapes, list) else 1 for shapes in (teacher_shapes, student_shapes)]
        if num_taps[0] != num_taps[1] or num_taps[0] < 2:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares how features change between layers.",
                    received=f"{num_taps[0]} of the teacher, {num_taps[1]} of the student",
                    expected="two or more layers of the teacher, and the same number of the student",
                    fix="Name them: teacher=['stage_1', 'stage_2'], student=['stage_1', 'stage_2'].",
                )
            )
        for shapes in (teacher_shapes, student_shapes):
            for pair in pairwise(shapes):
                check_feature_maps(self.name, *pair)
        channels = [[shape[-1] for shape in shapes] for shapes in (teacher_shapes, student_shapes)]
        if self.projector is None and channels[0] != channels[1]:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares maps with different numbers of channels.",
                    received=f"channels {channels[0]} of the teacher, {channels[1]} of the student",
                    expected="the same channels",
                    fix="Use projector='auto', which learns to map the student's channels to the teacher's.",
                )
            )

    def get_config(self):
        return {**super().get_config(), "projector": self.projector}
