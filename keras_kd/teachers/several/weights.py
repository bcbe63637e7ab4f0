"""Per-example ensemble weights, from the teachers' confidence or their loss on the label."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.tasks.tensors import targets_of

EPSILON = 1e-6  # nats added to every entropy: equal weights if every teacher is certain


def confidence_weights(logits: Any, activation: str = "softmax") -> Any:
    """`w_k = (1 - H_k / sum_j H_j) / (K - 1)`: lower entropy gives more weight, per example.

    `H_k` is the entropy of teacher k's probabilities plus 1e-6, summed over independent outputs. With two teachers,
    `w_k` is proportional to `1 / H_k`.

    Source: Kwon, Na, Lee & Kim, "Adaptive Knowledge Distillation Based on Entropy", 2020, as implemented in the
    published code of Zhang, Chen & Wang, 2022 (EBKD); its weights sum to K - 1, these to 1.

    Args:
        logits: `[teachers, ..., classes]`.
        activation: `"softmax"` or `"sigmoid"`.

    Returns:
        `[teachers, ..., 1]`, summing to 1 over the teachers.
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
    """`w_k = (1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)`: lower loss on the label gives more weight, per example.

    `L_k` is the cross-entropy of teacher k, summed over independent outputs. Unlabeled rows, and batches without
    labels, get equal weights.

    Source: Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022.

    Args:
        logits: `[teachers, ..., classes]`.
        labels: for a softmax, class ids `[...]` or `[..., 1]` with -1 for unlabeled rows, or one-hot `[..., classes]`
            with zeros for unlabeled rows; for sigmoids, `[..., classes]` of 0, 1, and -1 for unlabeled entries
            (`[...]` is accepted for a single output). None: no labels.

    Returns:
        `[teachers, ..., 1]`, summing to 1 over the teachers.
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
