"""Combines teacher outputs: means of logits or probabilities, over all classes or each teacher's subset of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_kd.errors import check_choice

COMBINATIONS = ("probabilities", "logits")
ACTIVATIONS = ("softmax", "sigmoid")
NUM_STEPS = 100  # iterations of `joint_probabilities`
_IMPOSSIBLE = -1e30  # a finite stand-in for log(0)
_LEAST_WEIGHT = 1e-6


def combine(logits: Any, weights: Any, combination: str = "probabilities", activation: str = "softmax") -> Any:
    """The weighted mean of several teachers' outputs, as logits.

    - `"logits"`: `sum_k w_k z_k`.
    - `"probabilities"`: logits of `p = sum_k w_k p_k`: `log p` for a softmax, `log p - log(1 - p)` for a sigmoid, both
      by log-sum-exp over the teachers, which avoids rounding errors at high confidence.

    Source: the linear opinion pool, Stone, "The Opinion Pool", 1961; the mean of probabilities or logits as the
    teacher, Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Args:
        logits: `[teachers, ..., classes]`.
        weights: `[teachers]` or `[teachers, ..., 1]`, nonnegative, summing to 1 over the teachers.
        combination: `"probabilities"` or `"logits"`.
        activation: `"softmax"` (exclusive classes) or `"sigmoid"` (independent outputs).

    Returns:
        `[..., classes]`, float32.

    >>> probabilities = ops.softmax(combine([[[0.0, 0.0]], [[60.0, -60.0]]], [0.5, 0.5]))
    >>> [round(float(p), 4) for p in probabilities[0]]
    [0.75, 0.25]
    """
    check_choice("combine", combination, COMBINATIONS)
    check_choice("activation", activation, ACTIVATIONS)
    logits = ops.cast(logits, "float32")
    weights = beside(weights, logits)
    if combination == "logits":
        return ops.sum(weights * logits, axis=0)
    weights = _log(weights)
    if activation == "softmax":
        return ops.logsumexp(weights + ops.log_softmax(logits, axis=-1), axis=0)
    yes, no = (ops.logsumexp(weights + ops.log_sigmoid(z), axis=0) for z in (logits, -logits))
    return yes - no


def combine_subsets(
    logits: Sequence[Any],
    weights: Any,
    classes: Sequence[Sequence[int] | None],
    num_classes: int,
    combination: str = "probabilities",
    activation: str = "softmax",
) -> Any:
    """The weighted mean of teachers that each know a subset of the classes, as logits of all classes.

    - Softmax probabilities are conditional on the teacher's own classes: see `joint_probabilities`.
    - Sigmoids are independent: for each output the weighted mean, as in `combine`, over the teachers that have it.

    Weights are at least 1e-6, so that every class has a teacher with positive weight.

    Args:
        logits: one tensor `[..., len(classes[k])]` per teacher.
        weights: numbers, `[teachers]`.
        classes: for each teacher, the class ids (from 0) of its outputs; None for all in order.
        num_classes: the number of classes of the result.

    Returns:
        `[..., num_classes]`, float32.
    """
    known = knows(classes, num_classes)
    weights = np.maximum(weights, _LEAST_WEIGHT).astype("float32")
    if activation == "softmax":
        logs = [ops.log_softmax(ops.cast(z, "float32"), axis=-1) for z in logits]
        return joint_probabilities(_spread(logs, classes, num_classes, _IMPOSSIBLE), weights, known)
    spread = _spread([ops.cast(z, "float32") for z in logits], classes, num_classes, 0.0)
    shares = beside(weights, spread) * _rows(known, spread)
    return combine(spread, shares / ops.sum(shares, axis=0), combination, activation)


def joint_probabilities(log_conditionals: Any, weights: Any, known: np.ndarray) -> Any:
    """The distribution over all classes that agrees best with the teachers' distributions over subsets of them.

    Teacher k gives `p_k(c)` for the classes in its set `S_k`, conditional on the class being in `S_k`. The result
    maximizes

        sum_k w_k sum_{c in S_k} p_k(c) log(q(c) / q(S_k)),      q(S_k) = sum_{c in S_k} q(c)

    If all teachers know all classes, this is their mean `sum_k w_k p_k`. With one teacher that knows all classes and
    one that knows S, the first determines `q(S)`. If no chain of shared classes connects two groups of classes, their
    relative likelihood is undetermined, and each gets mass in proportion to its number of classes.

    The result is computed by 100 steps `q(c) <- sum_k w_k p_k(c) / sum_{k: c in S_k} w_k / q(S_k)`, none of which
    lowers the objective. They start at the mean of the teachers that know all classes, or without such teachers at the
    least-squares solution of `log q(c) + b_k - log p_k(c)` over q and b, which is exact if the teachers are consistent.

    Source: the objective and the least squares, Vongkulbhisal, Vinayavejhin & Visentini-Scarzanella, "Unifying
    Heterogeneous Classifiers with Distillation", 2019; the steps, Hunter, "MM Algorithms for Generalized Bradley-Terry
    Models", 2004.

    Args:
        log_conditionals: `[teachers, ..., classes]`, `log p_k(c)`; far below 0 outside of `S_k`.
        weights: positive numbers, `[teachers]`.
        known: bool `[teachers, classes]`, which classes are in `S_k`; each class must be in at least one.

    Returns:
        `[..., classes]`, `log q(c)`.
    """
    log_weights = _log(beside(weights, log_conditionals))
    inside = _log(_rows(known, log_conditionals))
    numerator = ops.logsumexp(log_weights + log_conditionals, axis=0)
    if known.all(axis=-1).any():
        generalists = _log(_rows(known.all(axis=-1, keepdims=True), log_conditionals))
        start = ops.logsumexp(log_weights + generalists + log_conditionals, axis=0)
    else:
        start = _least_squares(log_conditionals, np.asarray(weights), known)

    def step(_, log_q):
        log_sets = ops.logsumexp(inside + log_q[None], axis=-1, keepdims=True)
        log_q = numerator - ops.logsumexp(inside + log_weights - log_sets, axis=0)
        return ops.log_softmax(log_q, axis=-1)

    log_q = ops.fori_loop(0, NUM_STEPS, step, ops.log_softmax(start, axis=-1))
    return _by_group(log_q, groups(known))


def groups(known: np.ndarray) -> np.ndarray:
    """Int `[classes]`: the group of each class; classes known to the same teacher are in the same group.

    >>> groups(np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]], bool))
    array([0, 0, 1, 0])
    """
    number = np.arange(known.shape[1])
    for _ in range(known.shape[0]):  # each round propagates a group number by one teacher
        for row in known:
            number[row] = number[row].min()
    return np.unique(number, return_inverse=True)[1]


def knows(classes: Sequence[Sequence[int] | None], num_classes: int) -> np.ndarray:
    """Bool `[teachers, num_classes]`: whether each teacher knows each class."""
    known = np.zeros((len(classes), num_classes), bool)
    for row, ids in zip(known, classes, strict=True):
        row[slice(None) if ids is None else list(ids)] = True
    return known


def beside(weights: Any, logits: Any) -> Any:
    """Weights expanded to the rank of logits `[teachers, ..., classes]`, in their dtype."""
    weights = ops.cast(weights, logits.dtype)
    return weights if len(weights.shape) > 1 else ops.reshape(weights, (-1,) + (1,) * (len(logits.shape) - 1))


def _least_squares(log_conditionals: Any, weights: np.ndarray, known: np.ndarray) -> Any:
    """The `u`, `[..., classes]`, of `min_{u, b} sum_k w_k sum_{c in S_k} (u(c) - b_k - log p_k(c))^2`.

    `u(c)` is the mean of `log p_k(c) + b_k` over the teachers that know c, which leaves one equation per `b_k`.
    """
    shares = weights[:, None] * known
    shares /= shares.sum(axis=0)
    inverse = np.linalg.pinv(np.diag(known.sum(axis=1)) - known.astype("float64") @ shares.T)
    rows, shares = _rows(known, log_conditionals), _rows(shares, log_conditionals)
    logs = rows * log_conditionals
    differences = ops.sum(rows * (ops.sum(shares * logs, axis=0) - logs), axis=-1, keepdims=True)
    shifts = ops.tensordot(ops.cast(inverse, logs.dtype), differences, axes=1)
    return ops.sum(shares * (logs + shifts), axis=0)


def _by_group(log_q: Any, group: np.ndarray) -> Any:
    """`log_q`, normalized so that each group has the mass `classes in the group / classes`."""
    masks = [group == number for number in range(group.max() + 1)]
    inside = [_log(ops.cast(mask, log_q.dtype)) for mask in masks]
    shares = [ops.logsumexp(log_q + mask, axis=-1, keepdims=True) for mask in inside]
    lifted = [log_q - share + float(np.log(mask.mean())) for share, mask in zip(shares, masks, strict=True)]
    return sum(ops.where(mask, value, 0.0) for mask, value in zip(masks, lifted, strict=True))


def _rows(mask: np.ndarray, like: Any) -> Any:
    """`[teachers, classes]` as `[teachers, 1, ..., classes]` in the dtype of `like`."""
    shape = (mask.shape[0], *(1,) * (len(like.shape) - 2), mask.shape[1])
    return ops.cast(mask.reshape(shape), like.dtype)


def _spread(values: Sequence[Any], classes: Sequence[Any], num_classes: int, fill: float) -> Any:
    """`[teachers, ..., num_classes]`, with `fill` for the classes that a teacher does not have."""
    spread = []
    for value, ids in zip(values, classes, strict=True):
        if ids is not None:
            place = np.full(num_classes, len(ids))  # one past the end: the fill value
            place[list(ids)] = np.arange(len(ids))
            filling = ops.full_like(value[..., :1], fill)
            value = ops.take(ops.concatenate([value, filling], axis=-1), place, axis=-1)
        spread.append(value)
    return ops.stack(spread)


def _log(values: Any) -> Any:
    """The logarithm; for 0, a finite value far below 0."""
    is_positive = values > 0
    return ops.where(is_positive, ops.log(ops.where(is_positive, values, 1.0)), _IMPOSSIBLE)
