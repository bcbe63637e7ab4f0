"""Activation boundaries (Heo et al., 2019): matches which neurons are active before a ReLU, by a margin."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_number
from keras_kd.losses.base import registry
from keras_kd.losses.connected_pairs import ConnectedPairs
from keras_kd.losses.numerics import flatten, upcast
from keras_kd.losses.reduction import expand_like


def activation_boundaries(teacher_map: Any, student_map: Any, *, margin: float = 1.0, present: Any = None) -> Any:
    """The squared hinge loss of each student neuron against the side of 0 on which the teacher's is.

        sum over the entries of max(0, margin - student)^2 where teacher > 0
                             and max(0, margin + student)^2 elsewhere

    Only the sign of the teacher's value counts. The loss of a student that equals its teacher is above 0 for values
    within the margin.

    Source: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI
    2019.

    Args:
        teacher_map, student_map: `[batch, ..., channels]`, of equal shape, before the ReLU.
        margin: a number, at least 0.
        present: `[batch]` or `[batch, positions]`, the entries to include; None includes all. The result is 0 for
            excluded rows.

    Returns:
        `[batch]`.
    """
    teacher_map, student_map = upcast(teacher_map, student_map)
    values = ops.square(ops.relu(margin - ops.where(teacher_map > 0, student_map, -student_map)))
    if present is not None:
        values = ops.where(expand_like(ops.cast(present, "bool"), values), values, 0.0)
    return ops.sum(flatten(values), axis=-1)


@registry.register
class ActivationBoundaries(ConnectedPairs):
    """Trains the student's neurons to be active where the teacher's are, see `activation_boundaries`.

    Name the inputs of ReLUs, in layer order: `stage_1_preact` in the models of this package, `"relu:input"` or
    `"conv:preactivation"` in others. Pair `i` of `n` (from 0) has weight `1 / 2^(n - 1 - i)`: 1 for the last, 1/2 for
    the one before. The authors first train on this loss alone, then on the labels or the teacher's outputs; a schedule
    as the weight does the same within one training. Their script multiplies the loss by 3 / 1000 (CIFAR-10); here, set
    that as the weight of the loss.

    Args:
        margin: the margin of the hinge loss, at least 0.
        projector: maps the student's features to the teacher's shape. `"auto"`, as published for CIFAR-10, learns a 1x1
            convolution with batch normalization only if the channels differ, `"conv"` always, None never. If the sizes
            differ, the student's map is resized.
        options: `teacher`, `student` (a layer or a list of layers), `name`, `reduction`, see `DistillationLoss`.

    >>> loss = ActivationBoundaries(teacher="stage_3_preact", student="stage_3_preact")
    >>> float(loss([[[[2.0, -1.0]]]], [[[[0.5, 1.0]]]]))  # (1 - 0.5)^2 + (1 + 1)^2
    4.25
    """

    def __init__(self, *, margin: float = 1.0, projector: str | None = "auto", **options: Any):
        super().__init__(projector=projector, **options)
        self.margin = check_number("margin", margin, at_least=0.0)

    def compare_pair(self, index, teacher_map, student_map, present):
        return activation_boundaries(teacher_map, student_map, margin=self.margin, present=present)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}
