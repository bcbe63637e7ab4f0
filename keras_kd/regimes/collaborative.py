"""Targets made from the logits of several peers (Guo et al., 2020)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.numerics import upcast
from keras_kd.serialization import look_up
from keras_kd.tasks.tensors import targets_of


def mean_logits(logits: Any, targets: Any = None, known: Any = None) -> Any:
    """The mean of the peers' logits.

    Args:
        logits: `[peers, batch, classes]`.
        targets, known: not used.

    Returns:
        `[batch, classes]`.
    """
    return ops.mean(logits, axis=0)


def best_logits(logits: Any, targets: Any, known: Any) -> Any:
    """For each example, the logits of the peer with the smallest cross-entropy (KDCL-Naive).

    Source: Guo et al., "Online Knowledge Distillation via Collaborative Learning", 2020, section 3.2.

    Args:
        logits: `[peers, batch, classes]`.
        targets: probabilities `[batch, classes]`.
        known: bool `[batch, 1]`, the examples that have a label; the others get the mean.

    Returns:
        `[batch, classes]`.
    """
    losses = -ops.sum(targets * ops.log_softmax(logits, axis=-1), axis=-1)
    is_best = ops.one_hot(ops.argmin(losses, axis=0), logits.shape[0], axis=0, dtype=logits.dtype)
    return ops.where(known, ops.sum(is_best[..., None] * logits, axis=0), mean_logits(logits))


def min_logits(logits: Any, targets: Any, known: Any) -> Any:
    """The smallest logit of each class over the peers, relative to the logit of the label's class (KDCL-MinLogit).

        z_peer[c] - z_peer[label], then the minimum over the peers; 0 for the label's class

    Source: Guo et al., "Online Knowledge Distillation via Collaborative Learning", 2020, section 3.2.

    Args:
        logits: `[peers, batch, classes]`.
        targets: probabilities `[batch, classes]`; for mixed labels, the reference is the mean logit under them.
        known: bool `[batch, 1]`, the examples that have a label; the others get the mean.

    Returns:
        `[batch, classes]`.

    >>> peers = ops.array([[[3.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
    >>> made = min_logits(peers, ops.array([[1.0, 0.0, 0.0]]), ops.array([[True]]))
    >>> ops.convert_to_numpy(made).tolist()
    [[0.0, -2.0, -3.0]]
    """
    relative = logits - ops.sum(targets * logits, axis=-1, keepdims=True)
    return ops.where(known, ops.min(relative, axis=0), mean_logits(logits))


RULES = {"mean": mean_logits, "best": best_logits, "min_logit": min_logits}


class CombinedLogits:
    """A rule as a function of the peers' logits by name and the labels, for `OwnOutputs`.

    Args:
        rule: `"mean"`, `"best"` or `"min_logit"`.
    """

    def __init__(self, rule: str):
        self.rule = rule
        self._function = look_up("ensemble rule", rule, RULES)

    def __call__(self, outputs: dict[str, Any], labels: Any) -> Any:
        logits = ops.stack(upcast(*outputs.values()))
        if self.rule == "mean":
            return mean_logits(logits)
        if labels is None:
            raise ConfigurationError(
                explain(
                    f"The ensemble rule {self.rule!r} reads labels, and the batch has none.",
                    received="a batch (x,)",
                    expected="(x, y)",
                    fix="Use rule='mean'.",
                )
            )
        return self._function(logits, *targets_of(ops.convert_to_tensor(labels), logits[0], "softmax"))

    def __repr__(self) -> str:
        return f"CombinedLogits({self.rule!r})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, CombinedLogits) and other.rule == self.rule

    __hash__ = None
