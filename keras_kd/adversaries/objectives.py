"""What an adversary maximizes, one value for each example."""

from __future__ import annotations

from typing import Any

from keras import ops


def cross_entropy(probabilities: Any, logits: Any) -> Any:
    """`-sum(p * log softmax(logits))` for each example, summed over positions.

    With labels as probabilities, this is the objective of Madry et al., "Towards Deep Learning Models Resistant to
    Adversarial Attacks", 2018. For fixed `p` it differs from `KL(p || softmax(logits))`, the objective of TRADES and
    RSLAD, by a constant, so both have the same gradient.

    Args:
        probabilities: `[batch, ..., classes]`.
        logits: the same shape.

    Returns:
        `[batch]`, float32.
    """
    return _sum_rows(-ops.cast(probabilities, "float32") * _log_softmax(logits))


def kl_divergence(teacher_logits: Any, student_logits: Any) -> Any:
    """`KL(softmax(teacher) || softmax(student))` for each example, summed over positions; both may have a gradient.

    Args:
        teacher_logits, student_logits: `[batch, ..., classes]`.

    Returns:
        `[batch]`, float32.
    """
    log_p, log_q = _log_softmax(teacher_logits), _log_softmax(student_logits)
    return _sum_rows(ops.exp(log_p) * (log_p - log_q))


def _log_softmax(logits: Any) -> Any:
    return ops.log_softmax(ops.cast(logits, "float32"), axis=-1)


def _sum_rows(values: Any) -> Any:
    return ops.sum(values, axis=list(range(1, len(values.shape))))
