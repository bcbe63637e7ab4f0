"""Channel-wise distillation (Shu et al., 2021): matches where each channel is active."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.losses.base import registry
from keras_kd.losses.feature_loss import FeatureLoss
from keras_kd.losses.numerics import non_negative, upcast

EXCLUDED = -1e30  # a logit whose share is exactly 0, and finite


def channel_wise_kd(teacher_map: Any, student_map: Any, temperature: float = 4.0, included: Any = None) -> Any:
    """`T^2 / channels * sum over channels of KL(share(teacher) || share(student))`, with softmax shares of positions.

    The shares of a channel are the softmax of its values divided by T, over the positions: where the channel is active,
    whatever its level.

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", 2021, section 3.2.

    Args:
        teacher_map, student_map: `[batch, ..., channels]` with one or more axes of positions, of equal shape.
        temperature: a positive scalar.
        included: bool, `[batch, ..., 1]` with the same number of axes: the positions over which the softmax runs; None
            includes all. The loss of an example without any is 0.

    Returns:
        `[batch]`, in nats times T^2.
    """
    teacher_map, student_map = upcast(teacher_map, student_map)
    if included is not None:
        included = _by_position(ops.logical_and(included, ops.ones_like(teacher_map[..., :1], dtype="bool")))
    teacher_log, student_log = (_log_shares(x / temperature, included) for x in (teacher_map, student_map))
    terms = ops.exp(teacher_log) * (teacher_log - student_log)
    if included is not None:
        terms = ops.where(included, terms, 0.0)
    return temperature**2 * non_negative(ops.mean(ops.sum(terms, axis=1), axis=-1))


def _log_shares(logits: Any, included: Any) -> Any:
    """The log-softmax over the included positions, `[batch, positions, channels]`."""
    logits = _by_position(logits)
    return ops.log_softmax(logits if included is None else ops.where(included, logits, EXCLUDED), axis=1)


def _by_position(values: Any) -> Any:
    return ops.reshape(values, (ops.shape(values)[0], -1, values.shape[-1]))


@registry.register
class ChannelWiseKD(FeatureLoss):
    """Trains each channel of the student to be active at the teacher's positions (CWD), see `channel_wise_kd`.

    For dense outputs: segmentation logits, or the last feature map before them. Masked positions and positions of
    weight 0 (pixels without a label, if the weights say so) are left out of the softmax.

    Args:
        temperature: the paper's 4.0; not the distiller's.
        projector, projector_activation: map the student's shape to the teacher's, see `FeatureLoss`. The authors' code
            uses a 1x1 convolution without batch normalization, and only if the channels differ.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = ChannelWiseKD(temperature=1.0)
    >>> round(float(loss([[[[2.0], [0.0]]]], [[[[0.0], [2.0]]]])), 4)
    1.5232
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        projector: Any = "auto",
        projector_activation: str | None = None,
        **options: Any,
    ):
        super().__init__(projector=projector, projector_activation=projector_activation, **options)
        self.temperature = check_number("temperature", temperature, at_least=1e-3)

    def validate_outputs(self, teacher_outputs, student_outputs):
        for shape in (tuple(teacher_outputs.shape), tuple(student_outputs.shape)):
            if len(shape) < 3:
                raise ConfigurationError(
                    explain(
                        f"The loss {self.name!r} compares positions, which these features do not have.",
                        received=f"shape {shape}",
                        expected="(batch, height, width, channels), or (batch, positions, channels)",
                        fix="Name a layer before the pooling over the positions.",
                    )
                )
        super().validate_outputs(teacher_outputs, student_outputs)

    def compare(self, teacher, student, included):
        return channel_wise_kd(teacher, student, self.temperature, included)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
