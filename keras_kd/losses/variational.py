"""Variational information distillation (Ahn et al., 2019): predicts the teacher's features with a learned variance."""

from __future__ import annotations

import math
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.features.projectors import published_uniform
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import pool_to_smallest
from keras_kd.losses.numerics import flatten, upcast

MIN_VARIANCE = 1e-5


def variational_information(teacher_features: Any, predicted_mean: Any, variance: Any) -> Any:
    """The negative log-likelihood of the teacher's features under Gaussians that the student predicts.

        mean over all axes after the batch axis of ((mean - teacher)^2 / variance + log(variance)) / 2

    The constant log(2 pi) / 2 is omitted, so the value is negative if the prediction is good. Minimizing it maximizes a
    lower bound on the mutual information of teacher and student. The paper sums over channels and positions; this
    function averages, as in the published code (RepDistiller "from author", mdistiller).

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
    """The mean over the channels for each position, `[batch, ...]`."""
    teacher, mean, variance = upcast(teacher, mean, variance)
    return ops.mean(ops.square(mean - teacher) / variance + ops.log(variance), axis=-1) / 2.0


@registry.register
class VariationalInformation(DistillationLoss):
    """Predicts the teacher's features from the student's with three learned layers, see `variational_information`.

    The layers are 1x1 convolutions without bias (for vectors and sequences, the equivalent dense layers), each with the
    teacher's number of channels, with a ReLU between them. The variance of each teacher channel is learned as well:
    softplus(a) + 1e-5. All of these are trained with the student and belong to the loss. If the maps differ in size,
    the larger is average-pooled to the smaller, as by PyTorch's adaptive pooling. The kernels are initialized as in the
    published code, uniformly within `1 / sqrt(inputs)`. RepDistiller learns the variance; mdistiller does not pass it
    to its optimizer. Use weight 1 per pair of layers; RepDistiller uses the end of each stage.

    Args:
        initial_variance: the initial value of the variances, above 1e-5.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = VariationalInformation(teacher="stage_3", student="stage_2")
    >>> round(float(loss([[0.0, 0.0]], [[0.0, 0.0, 0.0]])), 4)  # log(5) / 2
    0.8047
    >>> [tuple(weight.shape) for weight in loss.trainable_weights]
    [(2,), (3, 2), (2, 2), (2, 2)]
    """

    def __init__(self, *, initial_variance: float = 5.0, **options: Any):
        super().__init__(**options)
        self.initial_variance = check_number("initial_variance", initial_variance, at_least=1.1 * MIN_VARIANCE)

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
        above = self.initial_variance - MIN_VARIANCE
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
                    fix="Choose other layers; keras_kd.match_layers(teacher, student) proposes pairs.",
                )
            )

    @property
    def variance(self) -> Any:
        """The learned variances, `[channels]`."""
        return ops.softplus(ops.convert_to_tensor(self._raw_variance)) + MIN_VARIANCE

    def call(self, teacher, student, context):
        teacher, mean = upcast(teacher, student)
        if len(teacher.shape) == 4:
            teacher, mean = pool_to_smallest(teacher, mean)
        for layer in self._regressor:
            mean = layer(mean)
        return _negative_log_likelihood(teacher, mean, self.variance)

    def get_config(self):
        return {**super().get_config(), "initial_variance": self.initial_variance}
