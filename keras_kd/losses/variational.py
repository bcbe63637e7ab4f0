"""Variational information distillation (Ahn et al., 2019): the student predicts the teacher, with a variance."""

from __future__ import annotations

import math
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.features.projectors import published_uniform
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import pool_to_smallest
from keras_kd.losses.numerics import flatten, upcast

SMALLEST_VARIANCE = 1e-5


def variational_information(teacher_features: Any, predicted_mean: Any, variance: Any) -> Any:
    """The negative log-likelihood of the teacher's features under Gaussians that the student predicts.

        mean over all that follows the batch axis of ((mean - teacher)^2 / variance + log(variance)) / 2

    A constant, log(2 pi) / 2, is left out, so that the value is negative where the teacher is predicted well. Less of
    it is a larger lower bound on the information that teacher and student share. The paper sums over channels and
    positions; published code (RepDistiller "from author", mdistiller) takes the mean, and so does this.

    Source: Ahn et al., "Variational Information Distillation for Knowledge Transfer", 2019, section 2.

    Args:
        teacher_features: `[batch, ..., channels]`.
        predicted_mean: of the same shape.
        variance: `[channels]`, above 0.

    Returns:
        `[batch]`.
    """
    return ops.mean(flatten(_negative_log_likelihood(teacher_features, predicted_mean, variance)), axis=-1)


def _negative_log_likelihood(teacher: Any, mean: Any, variance: Any) -> Any:
    """`[batch, ...]`: of each position, the mean over the channels."""
    teacher, mean, variance = upcast(teacher, mean, variance)
    return ops.mean(ops.square(mean - teacher) / variance + ops.log(variance), axis=-1) / 2.0


@registry.register
class VariationalInformation(DistillationLoss):
    """The student's features, through three learned layers, predict the teacher's: `variational_information` as a loss.

    The layers are 1x1 convolutions without bias (for maps; dense layers for vectors and sequences, which is the same
    for each position), with ReLU between them, to the teacher's channels each. The variance, one for each of the
    teacher's channels, is learned as well: softplus(a) + 1e-5. All are trained with the student and belong to the loss.
    The larger of two maps is average-pooled to the size of the smaller, as PyTorch's adaptive pooling. The kernels
    start as in the published code, uniform within `1 / sqrt(inputs)`. RepDistiller learns the variance; mdistiller's
    optimizer does not see it. Weight 1 for each pair of layers; RepDistiller takes one at the end of each stage.

    Args:
        initial_variance: above 1e-5.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = VariationalInformation(teacher="stage_3", student="stage_2")
    >>> round(float(loss([[0.0, 0.0]], [[0.0, 0.0, 0.0]])), 4)  # log(5) / 2
    0.8047
    >>> [tuple(weight.shape) for weight in loss.trainable_weights]
    [(2,), (3, 2), (2, 2), (2, 2)]
    """

    def __init__(self, *, initial_variance: float = 5.0, **options: Any):
        super().__init__(**options)
        self.initial_variance = check_number("initial_variance", initial_variance, at_least=1.1 * SMALLEST_VARIANCE)

    def build(self, teacher_shape, student_shape):
        channels = teacher_shape[-1]
        activations = ("relu", "relu", None)
        self._regressor = [
            layers.Dense(
                channels,
                use_bias=False,
                activation=name,
                kernel_initializer=published_uniform(),
                dtype="float32",
            )
            for name in activations
        ]
        for layer, width in zip(self._regressor, (student_shape[-1], channels, channels), strict=True):
            layer.build((*teacher_shape[:-1], width))
        above = self.initial_variance - SMALLEST_VARIANCE
        start = above + math.log(-math.expm1(-above))  # the inverse of softplus
        self._raw_variance = self.add_weight(
            shape=(channels,), initializer=initializers.Constant(start), name="raw_variance"
        )

    def validate_outputs(self, teacher_outputs, student_outputs):
        teacher, student = tuple(teacher_outputs.shape), tuple(student_outputs.shape)
        size = teacher[1:-1], student[1:-1]
        same_kind = len(teacher) == len(student) and 2 <= len(teacher) <= 4
        same_size = size[0] == size[1] or (len(teacher) == 4 and None not in size[0] + size[1])
        if not same_kind or not same_size or teacher[-1] is None or student[-1] is None:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} cannot predict the teacher's features from the student's.",
                    received=f"teacher {teacher}, student {student}",
                    expected="two vectors, two sequences of one length, or two maps of known sizes",
                    fix="Name other layers; keras_kd.match_layers(teacher, student) proposes pairs.",
                )
            )

    @property
    def variance(self) -> Any:
        """`[channels]`, as learned so far."""
        return ops.softplus(ops.convert_to_tensor(self._raw_variance)) + SMALLEST_VARIANCE

    def call(self, teacher, student, context):
        teacher, mean = upcast(teacher, student)
        if len(teacher.shape) == 4:
            teacher, mean = pool_to_smallest(teacher, mean)
        for layer in self._regressor:
            mean = layer(mean)
        return _negative_log_likelihood(teacher, mean, self.variance)

    def get_config(self):
        return {**super().get_config(), "initial_variance": self.initial_variance}
