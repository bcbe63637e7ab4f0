"""The difficulty of an example from a teacher's logits and its label, in float64 on NumPy.

All are in nats or squared units, at least 0, and means over an example's positions and outputs. Logarithms keep
examples apart whose probabilities all round to 1.
"""

from __future__ import annotations

import numpy as np


def softmax_doubt(logits: np.ndarray) -> np.ndarray:
    """`-log max_c p_c` of `p = softmax(logits)`, `[n]`.

    Args:
        logits: `[n, ..., C]`; with C = 1, the logit of the second of two classes.

    >>> softmax_doubt(np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])).round(6).tolist()
    [0.693147, 0.223144]
    """
    return _mean(_below_top(_with_two_classes(logits))[1])


def sigmoid_doubt(logits: np.ndarray) -> np.ndarray:
    """`-log max(p, 1 - p)` of `p = sigmoid(logits)`, the mean over the outputs, `[n]`.

    Args:
        logits: `[n, ..., C]`.
    """
    return _mean(np.logaddexp(0.0, -np.abs(np.asarray(logits, np.float64))))


def cross_entropy(logits: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """`-sum_c y_c log p_c`, the mean over labeled positions, `[n]`; NaN without a label.

    Args:
        logits: `[n, ..., C]`; with C = 1, the logit of the second of two classes.
        shares: `[n, ..., C]` of each class, at least two, which sum to 1; zeros without a label.
    """
    below, doubt = _below_top(_with_two_classes(logits))
    known = shares.sum(axis=-1)
    return _mean_of_known((shares * below).sum(axis=-1) + known * doubt, known > 0)


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`log(1 + e^z) - y z`, the mean over known labels, `[n]`; NaN without one.

    Args:
        logits, labels: `[n, C]`; labels in 0..1, negative if unknown.
    """
    logits = np.asarray(logits, np.float64)
    known = labels >= 0
    return _mean_of_known(np.logaddexp(0.0, logits) - np.where(known, labels, 0) * logits, known)


def squared_error(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`(y - z)^2`, the mean over known targets, `[n]`; NaN without one.

    Args:
        outputs, targets: `[n, d]`; NaN if unknown.
    """
    known = ~np.isnan(targets)
    return _mean_of_known((np.asarray(outputs, np.float64) - np.where(known, targets, 0)) ** 2, known)


def _with_two_classes(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return logits if logits.shape[-1] > 1 else np.concatenate([np.zeros_like(logits), logits], axis=-1)


def _below_top(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each logit lies below the top one, and `-log max p`, whose sum is `-log p`."""
    below = logits.max(axis=-1, keepdims=True) - logits
    others = np.sort(np.exp(-below), axis=-1)[..., :-1].sum(axis=-1)  # the top class adds exactly 1
    return below, np.log1p(others)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).mean(axis=1)


def _mean_of_known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    values, known = (array.reshape(len(array), -1) for array in (np.where(known, values, 0), known))
    counts = known.sum(axis=1)
    return np.where(counts > 0, values.sum(axis=1) / np.maximum(counts, 1), np.nan)
