"""How much each teacher of an ensemble counts for a sample: by how sure it is, or by how right."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.tasks.tensors import targets_of

EPSILON = 1e-6  # nats added to every entropy: teachers that are all sure count the same


def confidence_weights(logits: Any, activation: str = "softmax") -> Any:
    """`w_k = (1 - H_k / sum_j H_j) / (K - 1)`: the less entropy, the more weight, for each sample.

    `H_k` is the entropy of teacher k's probabilities plus 1e-6; that of independent outputs is the sum over them. With
    two teachers `w_k` is in proportion to `1 / H_k`.

    Source: Kwon, Na, Lee & Kim, "Adaptive Knowledge Distillation Based on Entropy", 2020, in the form of the published
    code of Zhang, Chen & Wang, 2022 (its EBKD), there with a sum of K - 1, here of 1.

    Args:
        logits: `[teachers, ..., classes]`.
        activation: `"softmax"` or `"sigmoid"`.

    Returns:
        `[teachers, ..., 1]`, of sum 1 over the teachers.
    """
    logits = ops.cast(logits, "float32")
    if activation == "softmax":
        entropy = -ops.sum(ops.softmax(logits, axis=-1) * ops.log_softmax(logits, axis=-1), axis=-1, keepdims=True)
    else:
        sides = [ops.sigmoid(z) * ops.log_sigmoid(z) for z in (logits, -logits)]
        entropy = -ops.sum(sides[0] + sides[1], axis=-1, keepdims=True)
    entropy = entropy + EPSILON
    return _less_is_more(entropy / ops.sum(entropy, axis=0))


def label_loss_weights(logits: Any, labels: Any, activation: str = "softmax") -> Any:
    """`w_k = (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)`: the nearer to the label, the more weight, for each sample.

    `L_k` is the cross-entropy of teacher k (of independent outputs the sum over them). A row without a label, and a
    batch without any, has equal weights.

    Source: Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022.

    Args:
        logits: `[teachers, ..., classes]`.
        labels: for a softmax class numbers `[...]` or `[..., 1]`, -1 where there is none, or one-hot
            `[..., classes]`, a row of zeros where there is none; for sigmoids `[..., classes]` of 0, 1, and -1 where
            there is none (`[...]` will do for a single output). None: no labels.

    Returns:
        `[teachers, ..., 1]`, of sum 1 over the teachers.
    """
    logits = ops.cast(logits, "float32")
    num_teachers = logits.shape[0]
    if labels is None:
        return ops.full_like(logits[..., :1], 1.0 / num_teachers)
    losses, has_label = cross_entropies(logits, labels, activation)
    weights = _less_is_more(ops.softmax(losses, axis=0))
    return ops.where(has_label, weights, 1.0 / num_teachers)


def cross_entropies(logits: Any, labels: Any, activation: str) -> tuple[Any, Any]:
    """The cross-entropy of each teacher, `[teachers, ..., 1]`, and which rows have a label, `[..., 1]`."""
    targets, counts = targets_of(ops.convert_to_tensor(labels), logits[0], activation)
    if activation == "softmax":
        losses = -targets * ops.log_softmax(logits, axis=-1)
        return ops.sum(losses, axis=-1, keepdims=True), counts
    losses = -targets * ops.log_sigmoid(logits) - (1.0 - targets) * ops.log_sigmoid(-logits)
    losses = ops.sum(ops.where(counts, losses, 0.0), axis=-1, keepdims=True)
    return losses, ops.any(counts, axis=-1, keepdims=True)


def _less_is_more(shares: Any) -> Any:
    """`(1 - share) / (K - 1)` along the first axis; 1 for a single teacher."""
    num_teachers = shares.shape[0]
    return ops.ones_like(shares) if num_teachers == 1 else (1.0 - shares) / (num_teachers - 1)
