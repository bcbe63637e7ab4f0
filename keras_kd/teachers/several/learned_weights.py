"""Ensemble weights that are the same for all examples, learned once from labels in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_kd.tasks.tensors import targets_of
from keras_kd.teachers.calibration import log_probabilities

_TOLERANCE = 1e-6
_MAX_STEPS = 2000


def labeled(logits: np.ndarray, labels: Any, activation: str) -> tuple[np.ndarray, np.ndarray]:
    """Labeled rows only: logits `[teachers, observations, classes]` and targets `[observations, classes]`, float64.

    Each of several independent outputs is a separate observation of one class.

    Args:
        logits: `[teachers, ..., classes]`.
        labels: as for `label_loss_weights`.
    """
    found = targets_of(ops.convert_to_tensor(labels), ops.convert_to_tensor(logits[0]), activation)
    targets, counts = (np.asarray(ops.convert_to_numpy(tensor)) for tensor in found)
    if activation == "sigmoid":
        logits, targets, counts = logits[..., None], targets[..., None], counts[..., None]
    counts = counts[..., 0]
    return logits[:, counts].astype("float64"), targets[counts].astype("float64")


def log_likelihoods(logits: np.ndarray, targets: np.ndarray, activation: str) -> np.ndarray:
    """`log p_k(y_n)`, float64 `[teachers, observations]`, from the logits and targets returned by `labeled`."""
    if activation == "softmax":
        return (targets * log_probabilities(logits)).sum(axis=-1)
    return (targets * logits - np.logaddexp(0.0, logits)).sum(axis=-1)


def mixture_weights(log_likelihoods: np.ndarray) -> np.ndarray:
    """The maximum-likelihood weights of a linear opinion pool, by expectation-maximization.

    Maximizes `mean_n log(sum_k w_k p_k(y_n))` by `w_k <- mean_n(w_k p_k(y_n) / sum_j w_j p_j(y_n))`, starting at equal
    weights. No step lowers the objective; the iteration stops within 1e-6 nats of the maximum or after 2,000 steps.

    Source: Dempster, Laird & Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977.

    Args:
        log_likelihoods: float64 `[teachers, observations]`, `log p_k(y_n)`.

    Returns:
        float64 `[teachers]`, summing to 1.

    >>> mixture_weights(np.log([[0.9, 0.9, 0.1], [0.5, 0.5, 0.5]])).round(3)
    array([0.417, 0.583])
    """
    likelihoods = np.exp(log_likelihoods - log_likelihoods.max(axis=0))
    weights = np.full(len(likelihoods), 1.0 / len(likelihoods))
    for _ in range(_MAX_STEPS):
        slope = (likelihoods / (weights @ likelihoods)).mean(axis=1)  # of the log-likelihood; 1 at the maximum
        if slope.max() - 1.0 < _TOLERANCE:
            break
        weights = weights * slope
        weights /= weights.sum()
    return weights


def logit_weights(logits: np.ndarray, targets: np.ndarray, activation: str = "softmax") -> np.ndarray:
    """The weights of a mean of logits that minimize the cross-entropy, subject to `w_k >= 0` and `sum_k w_k = 1`.

    The convex problem is solved by SciPy's sequential least squares programming, starting at equal weights.

    Source: Kraft, "A Software Package for Sequential Quadratic Programming", 1988.

    Args:
        logits: float64 `[teachers, observations, classes]`.
        targets: float64 `[observations, classes]`, one-hot for a softmax, 0 or 1 for sigmoids.

    Returns:
        float64 `[teachers]`, summing to 1.
    """
    from scipy.optimize import minimize

    equal = np.full(len(logits), 1.0 / len(logits))
    found = minimize(
        _pooled_loss,
        equal,
        args=(logits, targets, activation),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(equal),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-12, "maxiter": _MAX_STEPS},
    )
    weights = np.maximum(found.x, 0.0)
    return weights / weights.sum()


def _pooled_loss(weights: np.ndarray, logits: np.ndarray, targets: np.ndarray, activation: str) -> tuple:
    """The mean cross-entropy of the mean of logits, and its gradient with respect to the weights."""
    pooled = np.tensordot(weights, logits, axes=1)
    if activation == "softmax":
        logs = log_probabilities(pooled)
        losses = -(targets * logs).sum(axis=-1)
        wrong = np.exp(logs) * targets.sum(axis=-1, keepdims=True) - targets
    else:
        losses = (np.logaddexp(0.0, pooled) - targets * pooled).sum(axis=-1)
        wrong = np.exp(-np.logaddexp(0.0, -pooled)) - targets
    return losses.mean(), np.einsum("knc,nc->k", logits, wrong) / len(targets)
