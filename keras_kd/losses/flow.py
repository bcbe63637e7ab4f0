"""Flow of the solution procedure (Yim et al., 2017): how features change from one layer to a later one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import Projector
from keras_kd.features.projectors import in_words
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import upcast


def flow_of_solution(teacher_maps: Sequence[Any], student_maps: Sequence[Any]) -> Any:
    """The mean square of what two flow matrices differ by, summed over the steps from each map to the next.

    With `G` from `flow_matrix`, each pair of neighbouring maps adds the mean over all entries of
    `(G(teacher) - G(student))^2`. The paper sums over the entries; published code (RepDistiller) averages, and so does
    this.

    Source: Yim et al., "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
    Learning", 2017, section 3.

    Args:
        teacher_maps, student_maps: two or more `[batch, height, width, channels]`, in the order of the layers, with the
            same channels on both sides at each place; sizes may differ.

    Returns:
        `[batch]`.
    """
    steps = zip(pairwise(teacher_maps), pairwise(student_maps), strict=True)
    return sum(_step(*teacher, *student) for teacher, student in steps)


def _step(teacher_first: Any, teacher_second: Any, student_first: Any, student_second: Any) -> Any:
    maps = upcast(teacher_first, teacher_second, student_first, student_second)
    return ops.mean(ops.square(flow_matrix(*maps[:2]) - flow_matrix(*maps[2:])), axis=(1, 2))


def flow_matrix(first_map: Any, second_map: Any) -> Any:
    """`G[i, j] = sum over h, w of first[h, w, i] * second[h, w, j] / (height * width)`.

    Of maps of two sizes the larger is average-pooled to the smaller first, as in RepDistiller; the paper max-pools.

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
    """The student goes from layer to layer as the teacher does: `flow_of_solution` as a loss.

    The paper and RepDistiller train the student on this loss alone first, at weight 1, and on the labels after that;
    here it is one term among others, whose weight may be a schedule that ends at 0.

    Args:
        projector: `"auto"` learns a 1x1 convolution with batch normalisation for each of the student's maps whose
            channels are not the teacher's; the paper and RepDistiller need equal channels. None learns nothing and
            refuses others.
        options: `teacher`, `student` (lists of two or more layers, from the input on), `name`, `reduction`, see
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
            # sizes need not agree: the matrices have none
            projectors.append(Projector((*student[:-1], teacher[-1]), self.projector))
            projectors[-1].build(tuple(student))
        self._projectors = projectors

    @property
    def projection(self):
        return in_words(self._projectors)

    def call(self, teacher, student, context):
        student = [
            project(features, counts=context.counts(features), training=context.training)
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
                    expected="two or more of the teacher, and as many of the student",
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
                    f"The loss {self.name!r} needs the teacher's channels at each place.",
                    received=f"channels {channels[0]} of the teacher, {channels[1]} of the student",
                    expected="the same channels",
                    fix="projector='auto' learns what is missing.",
                )
            )

    def get_config(self):
        return {**super().get_config(), "projector": self.projector}
