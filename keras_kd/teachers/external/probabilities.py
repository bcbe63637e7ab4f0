"""Detects probabilities and converts them to logits, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, TeacherError, check_choice, explain

SMALLEST = float(np.finfo(np.float32).tiny)  # the smallest positive normal float32, 1.2e-38
SUM_TOLERANCE = 1e-3


def check_outputs(outputs: Any, activation: Any) -> None:
    """Raises `ConfigurationError` for invalid settings, or an activation without probabilities."""
    check_choice("outputs", outputs, (None, "logits", "probabilities"))
    check_choice("activation", activation, (None, "softmax", "sigmoid"))
    if activation is not None and outputs != "probabilities":
        raise ConfigurationError(
            explain(
                "'activation' applies to probabilities only.",
                received=f"activation={activation!r}, outputs={outputs!r}",
                expected="outputs='probabilities'",
            )
        )


def logits_of_probabilities(probabilities: np.ndarray, activation: str, smallest: float = SMALLEST) -> np.ndarray:
    """Logits that `activation` maps to `probabilities`, as float32 of the same shape.

    `log p` for a softmax (which is invariant to an added constant), `log p - log(1 - p)` for a sigmoid. Values are
    clipped to at least `smallest`, so that a probability of 0 has a finite logit (-87.3 by default).

    >>> [round(float(logit), 1) for logit in logits_of_probabilities(np.array([0.5, 0.5, 0.0]), "softmax")]
    [-0.7, -0.7, -87.3]
    """
    probabilities = np.asarray(probabilities, np.float64)
    logits = np.log(np.maximum(probabilities, smallest))
    if activation == "sigmoid":
        logits -= np.log(np.maximum(1.0 - probabilities, smallest))
    return logits.astype(np.float32)


def is_distribution(values: np.ndarray) -> bool:
    """Whether every row `[..., classes]` is a distribution: at least two classes, nonnegative, summing to 1."""
    if values.shape[-1] < 2 or values.min() < 0:
        return False
    return np.allclose(values.sum(-1), 1, atol=SUM_TOLERANCE)


def looks_like_probabilities(teacher: str, name: str) -> TeacherError:
    """The error for supposed logits that look like probabilities."""
    return TeacherError(
        explain(
            f"The teacher's {name!r} looks like probabilities.",
            received="rows of numbers from 0 to 1 that sum to 1",
            expected="logits",
            fix=f"Pass {teacher}(..., outputs='probabilities'), or outputs='logits' if they are logits.",
        )
    )
