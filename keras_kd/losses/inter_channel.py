"""Inter-channel correlation (Liu et al., 2021): matches how similar the channels of a feature map are to each other."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, check_integer, explain
from keras_kd.features import Projector
from keras_kd.features.projectors import describe_projectors
from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.numerics import l2_normalize, upcast
from keras_kd.losses.reduction import zero_excluded

PROJECTORS = ("conv", "auto", None)


def inter_channel_correlation(teacher_map: Any, student_map: Any, *, grid: int = 1) -> Any:
    """Compares the inner products between the channels of a map, with each row normalized to length 1.

        G = F^T F over the positions, [channels, channels], each row divided by its Euclidean norm
        loss = sum over i, j of (G_teacher[i, j] - G_student[i, j])^2 / channels

    With a `grid` of n, the map is cut into n x n cells, each has a G of its own, and the loss is the mean over the
    cells (the paper's variant for segmentation). The paper divides by channels^2 and does not normalize rows; this
    function follows the published code. A zero channel has a zero row, with a small gradient.

    Source: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021,
    section 3.

    Args:
        teacher_map, student_map: `[batch, ..., channels]` with the same channels and at least one axis of positions;
            the positions need not be the same.
        grid: the number of cells along height and along width; above 1, the maps are `[batch, height, width, channels]`
            and their height and width are multiples of it.

    Returns:
        `[batch]`, between 0 and 4.
    """
    teacher, student = (_correlations(features, grid) for features in upcast(teacher_map, student_map))
    by_channel = ops.sum(ops.square(teacher - student), axis=-1)
    return ops.mean(by_channel, axis=(1, 2))


def _correlations(features: Any, grid: int) -> Any:
    """`[batch, cells, channels, channels]`, with rows of length 1."""
    cells = _in_cells(features, grid)
    return l2_normalize(ops.einsum("bgpi,bgpj->bgij", cells, cells))


def _in_cells(features: Any, grid: int) -> Any:
    """`[batch, cells, positions, channels]`."""
    channels = features.shape[-1]
    if grid == 1:
        return ops.reshape(features, (ops.shape(features)[0], 1, -1, channels))
    height, width = (size // grid for size in features.shape[1:3])
    cells = ops.reshape(features, (-1, grid, height, grid, width, channels))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))
    return ops.reshape(cells, (-1, grid * grid, height * width, channels))


@registry.register
class InterChannelCorrelation(DistillationLoss):
    """Trains the student's channels to correlate with each other as the teacher's do, see `inter_channel_correlation`.

    The student's channels are first mapped to the teacher's by a 1x1 convolution with batch normalization (for
    sequences, a linear layer). The sizes of the maps may differ, since only `[channels, channels]` matrices are
    compared. The authors use the last feature map, with a weight of 2.5 (CIFAR-100).

    Args:
        grid: the number of cells along height and along width, see `inter_channel_correlation`; 1 is the whole map.
        projector: `"conv"`, as published, always learns the mapping of the channels, `"auto"` only if their numbers
            differ, None never.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = InterChannelCorrelation(teacher="stage_3", student="stage_3", projector=None)
    >>> float(loss([[[[1.0, 0.0], [0.0, 1.0]]]], [[[[1.0, 0.0], [0.0, 1.0]]]]))
    0.0
    >>> round(float(loss([[[[1.0, 0.0], [0.0, 1.0]]]], [[[[1.0, -1.0], [-1.0, 1.0]]]])), 4)
    0.5858
    """

    excludes_padding = True

    def __init__(self, *, grid: int = 1, projector: str | None = "conv", **options: Any):
        super().__init__(**options)
        self.grid = check_integer("grid", grid, at_least=1)
        self.projector = check_choice("projector", projector, PROJECTORS)
        self._project: Projector | None = None

    def build(self, teacher_shape, student_shape):
        self._check(tuple(teacher_shape), tuple(student_shape))
        # sizes may differ: the correlations do not depend on them
        self._project = Projector((*student_shape[:-1], teacher_shape[-1]), self.projector)
        self._project.build(tuple(student_shape))

    @property
    def projection(self):
        return None if self._project is None else describe_projectors([self._project])

    def call(self, teacher, student, context):
        included = context.included(student)
        teacher, _ = without_padding(teacher, student, context)
        student = self._project(student, included=included, training=context.training)
        student = zero_excluded(student, self._project.arranged(included))
        return inter_channel_correlation(teacher, student, grid=self.grid)

    def validate_outputs(self, teacher_outputs, student_outputs):
        self._check(tuple(teacher_outputs.shape), tuple(student_outputs.shape))

    def _check(self, teacher: tuple, student: tuple) -> None:
        same_kind = len(teacher) == len(student) and len(teacher) in (3, 4)
        known = same_kind and None not in (teacher[-1], student[-1])
        if not known or (self.projector is None and teacher[-1] != student[-1]):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} cannot compare the correlations of these channels.",
                    received=f"teacher {teacher}, student {student}, projector={self.projector!r}",
                    expected="two maps (batch, height, width, channels) or two sequences (batch, tokens, channels), "
                    "with the same channels if projector=None",
                    fix="Choose layers before the pooling; keras_kd.taps(model) lists them with their shapes.",
                )
            )
        sides = [size for shape in (teacher, student) for size in shape[1:3]]
        divisible = len(teacher) == 4 and all(size is not None and size % self.grid == 0 for size in sides)
        if self.grid > 1 and not divisible:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} cannot cut these features into {self.grid} x {self.grid} equal cells.",
                    received=f"teacher {teacher}, student {student}",
                    expected=f"maps whose height and width are known and multiples of {self.grid}",
                )
            )

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "projector": self.projector}
