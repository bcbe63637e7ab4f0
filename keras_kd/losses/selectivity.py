"""Neuron selectivity transfer (Huang & Wang, 2017): matches the distribution of the channels' activation patterns."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import l2_normalize, non_negative, upcast


def neuron_selectivity(teacher_map: Any, student_map: Any) -> Any:
    """The squared maximum mean discrepancy between the channels of two maps, with the kernel `k(a, b) = (a . b)^2`.

    Each channel is one sample: its activations over the positions, divided by their Euclidean norm. The loss is
    `mean k(t, t') + mean k(s, s') - 2 mean k(t, s)`, with means over all pairs of channels. If the maps differ in size,
    the larger is first average-pooled to the smaller.

    The paper also tries a linear and a Gaussian kernel; the published code (RepDistiller, mdistiller) has this one, the
    polynomial kernel of degree 2 without a constant. `mean k(t, t')` does not depend on the student; it is kept, as in
    that code, so that the loss is 0 for equal maps.

    Source: Huang & Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, section 4.

    Args:
        teacher_map, student_map: `[batch, height, width, channels]`; sizes and channels may differ.

    Returns:
        `[batch]`, between 0 and 2.
    """
    teacher, student = map(_patterns, pool_to_smallest(*upcast(teacher_map, student_map)))
    similarity = _mean_kernel(teacher, teacher) + _mean_kernel(student, student) - 2.0 * _mean_kernel(teacher, student)
    return non_negative(similarity)


def _patterns(features: Any) -> Any:
    """Reshapes `[batch, height, width, channels]` to `[batch, positions, channels]` and scales channels to norm 1."""
    features = ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))
    return l2_normalize(features, axis=1)


def _mean_kernel(first: Any, second: Any) -> Any:
    """The mean of `(a . b)^2` over all pairs of channels, `[batch]`, computed from `[batch, channels, channels]`."""
    return ops.mean(ops.square(ops.einsum("bpi,bpj->bij", first, second)), axis=(1, 2))


@registry.register
class NeuronSelectivity(DistillationLoss):
    """Trains the student's channels to respond to the same regions as the teacher's, see `neuron_selectivity`.

    Compares one pair of layers; use one loss per stage. It has no trainable weights; channels and sizes may differ.

    Args:
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = NeuronSelectivity(teacher="stage_3", student="stage_3")
    >>> float(loss([[[[1.0], [0.0]]]], [[[[0.0], [3.0]]]]))
    2.0
    """

    def call(self, teacher, student, context):
        return neuron_selectivity(teacher, student)

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_feature_maps(self.name, teacher_outputs.shape, student_outputs.shape)
