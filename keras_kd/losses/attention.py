"""Attention transfer (Zagoruyko & Komodakis, 2017): matches the spatial attention maps of the two models."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_number
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import flatten, l2_normalize, upcast


def attention_transfer(teacher_map: Any, student_map: Any, power: float = 2.0) -> Any:
    """The mean squared difference between two attention maps: `mean over positions of (a(teacher) - a(student))^2`.

    `a(x)` is `attention_map(x)`. If the maps differ in size, the larger is first average-pooled to the smaller. The
    paper uses the norm of the difference times `beta / 2`; this function follows the published code
    (szagoruyko/attention-transfer, RepDistiller), which uses the mean of the squares.

    Source: Zagoruyko & Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
    Neural Networks via Attention Transfer", 2017, section 3.1.

    Args:
        teacher_map, student_map: `[batch, height, width, channels]`; sizes and channels may differ.
        power: at least 1; higher values emphasize the strongest activations.

    Returns:
        `[batch]`.
    """
    teacher_map, student_map = pool_to_smallest(*upcast(teacher_map, student_map))
    return ops.mean(ops.square(attention_map(teacher_map, power) - attention_map(student_map, power)), axis=-1)


def attention_map(features: Any, power: float = 2.0) -> Any:
    """The spatial attention map: the mean over the channels of `|x|^power`, divided by its Euclidean norm.

    Args:
        features: `[batch, height, width, channels]`.
        power: at least 1.

    Returns:
        `[batch, height * width]` with norm 1, or all zeros for a map of zeros.
    """
    (features,) = upcast(features)
    return l2_normalize(flatten(ops.mean(ops.power(ops.abs(features), power), axis=-1)))


@registry.register
class AttentionTransfer(DistillationLoss):
    """Trains the student to match the teacher's attention map, see `attention_transfer`.

    Compares one pair of layers; use one loss per stage. It has no trainable weights; channels and sizes may differ.

    Args:
        power: at least 1, as for `attention_transfer`.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = AttentionTransfer(teacher="stage_3", student="stage_3")
    >>> float(loss([[[[1.0], [0.0]]]], [[[[0.0], [1.0]]]]))
    1.0
    """

    def __init__(self, *, power: float = 2.0, **options: Any):
        super().__init__(**options)
        self.power = check_number("power", power, at_least=1.0)

    def call(self, teacher, student, context):
        return attention_transfer(teacher, student, self.power)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_feature_maps(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        return {**super().get_config(), "power": self.power}
