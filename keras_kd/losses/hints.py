"""Hints (Romero et al., 2015): regresses an inner layer of the student on one of the teacher."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import check_choice
from keras_kd.losses.base import registry
from keras_kd.losses.feature_loss import FeatureLoss
from keras_kd.losses.numerics import flatten, l2_normalize, upcast
from keras_kd.losses.reduction import zero_excluded

METRICS = ("mse", "l1", "cosine")


def hint(teacher_map: Any, student_map: Any, metric: str = "mse") -> Any:
    """The distance between features, averaged over all axes after the batch axis.

    The paper's equation 3 is half the squared Euclidean distance; this function uses the mean of the squares, as the
    code of the published tables (RepDistiller) does.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, section 2.2.

    Args:
        teacher_map, student_map: `[batch, ...]`, of equal shape.
        metric: `"mse"`, the mean squared difference; `"l1"`, the mean absolute difference; or `"cosine"`, 1 minus the
            cosine similarity of the flattened examples.

    Returns:
        `[batch]`.
    """
    teacher_map, student_map = map(flatten, upcast(teacher_map, student_map))
    check_choice("metric", metric, METRICS)
    if metric == "mse":
        return ops.mean(ops.square(teacher_map - student_map), axis=-1)
    if metric == "l1":
        return ops.mean(ops.abs(teacher_map - student_map), axis=-1)
    # half the squared distance of unit vectors is 1 - cosine, without cancellation and exactly 0 for equal vectors
    return ops.sum(ops.square(l2_normalize(teacher_map) - l2_normalize(student_map)), axis=-1) / 2.0


@registry.register
class Hint(FeatureLoss):
    """Trains the student's projected features to match the teacher's, see `hint`.

    Args:
        metric: `"mse"`, `"l1"` or `"cosine"`.
        projector, projector_activation: map the student's shape to the teacher's, see `FeatureLoss`. RepDistiller's
            regressor ends in a ReLU, `projector="conv", projector_activation="relu"`: appropriate if the teacher's
            features are the output of a ReLU, since negative features cannot be matched.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = Hint(teacher="stage_3", student="stage_2")
    >>> loss.name
    'hint_stage_2'
    >>> float(loss([[[[1.0]]]], [[[[3.0]]]]))
    4.0
    """

    def __init__(
        self,
        *,
        metric: str = "mse",
        projector: Any = "auto",
        projector_activation: str | None = None,
        **options: Any,
    ):
        super().__init__(projector=projector, projector_activation=projector_activation, **options)
        self.metric = check_choice("metric", metric, METRICS)

    def compare(self, teacher, student, included):
        if self.metric == "cosine":
            return hint(zero_excluded(teacher, included), zero_excluded(student, included), self.metric)
        by_position = [ops.reshape(x, (-1, x.shape[-1])) for x in (teacher, student)]
        return ops.reshape(hint(*by_position, self.metric), ops.shape(student)[:-1])

    def get_config(self):
        return {**super().get_config(), "metric": self.metric}
