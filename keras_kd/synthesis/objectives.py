"""What makes images look like a teacher's training data to the teacher: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_kd.losses.numerics import flatten, safe_sqrt, upcast


def one_hot_loss(logits: Any) -> Any:
    """The cross-entropy of the teacher's outputs to its own top class, `[batch]`: low where it is sure.

    Source: Chen et al., "Data-Free Learning of Student Networks" (DAFL), 2019, equation 2.

    >>> round(float(one_hot_loss([[0.0, 0.0]])[0]), 4)
    0.6931
    """
    (logits,) = upcast(logits)
    return -ops.max(ops.log_softmax(logits, axis=-1), axis=-1)


def activation_loss(features: Any) -> Any:
    """Minus the mean absolute feature of each example, `[batch]`: real images activate more units than noise.

    Source: Chen et al., "Data-Free Learning of Student Networks" (DAFL), 2019, equation 3, with the mean over the
    features in place of the sum, as in its published code.
    """
    return -ops.mean(ops.abs(flatten(*upcast(features))), axis=-1)


def information_entropy_loss(logits: Any) -> Any:
    """Minus the entropy of the mean prediction of a batch, a scalar: low where all classes are equally frequent.

    Source: Chen et al., "Data-Free Learning of Student Networks" (DAFL), 2019, equation 4, without the paper's factor
    `1 / classes`, as in its published code.

    >>> round(float(information_entropy_loss([[9.0, -9.0], [-9.0, 9.0]])), 4)
    -0.6931
    """
    (logits,) = upcast(logits)
    mean = ops.mean(ops.softmax(logits, axis=-1), axis=0)
    return ops.sum(mean * ops.log(ops.maximum(mean, 1e-30)))


def batch_norm_loss(inputs: Sequence[Any], means: Sequence[Any], variances: Sequence[Any]) -> Any:
    """The distance of a batch's statistics to those that batch normalizations have stored, a scalar.

        sum over layers of ||mean(x) - moving mean||_2 + ||variance(x) - moving variance||_2

    Source: Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", 2020, equation 4.

    Args:
        inputs: of each batch normalization, `[batch, ..., channels]`.
        means, variances: stored by each, `[channels]`.
    """
    distances = []
    for x, mean, variance in zip(inputs, means, variances, strict=True):
        x, mean, variance = upcast(x, mean, variance)
        axes = tuple(range(len(x.shape) - 1))
        for own, stored in ((ops.mean(x, axis=axes), mean), (ops.var(x, axis=axes), variance)):
            distances.append(safe_sqrt(ops.sum(ops.square(own - stored))))
    return sum(distances)


def total_variation(images: Any) -> Any:
    """The norms of the differences to the right, lower, lower right and lower left neighbor, summed; a scalar.

    Source: the published code of Yin et al. (DeepInversion), 2020, for CIFAR-10, over the whole batch.

    Args:
        images: `[batch, height, width, channels]`.
    """
    (x,) = upcast(images)
    pairs = (
        (x[:, :, :-1], x[:, :, 1:]),
        (x[:, :-1], x[:, 1:]),
        (x[:, :-1, :-1], x[:, 1:, 1:]),
        (x[:, 1:, :-1], x[:, :-1, 1:]),
    )
    return sum(safe_sqrt(ops.sum(ops.square(one - other))) for one, other in pairs)


def agreement(teacher_logits: Any, student_logits: Any, temperature: float = 3.0) -> Any:
    """`1 - JS(teacher, student)` of softened predictions, `[batch]`: low for images on which they disagree.

    Source: Yin et al. (DeepInversion), 2020, equation 8 (Adaptive DeepInversion); its published code uses a temperature
    of 3.

    Args:
        teacher_logits, student_logits: `[batch, classes]`.
        temperature: above 0.
    """
    teacher, student = upcast(teacher_logits, student_logits)
    p, q = ops.log_softmax(teacher / temperature, axis=-1), ops.log_softmax(student / temperature, axis=-1)
    mixed = ops.log((ops.exp(p) + ops.exp(q)) / 2.0 + 1e-30)
    return 1.0 - 0.5 * ops.sum(ops.exp(p) * (p - mixed) + ops.exp(q) * (q - mixed), axis=-1)
