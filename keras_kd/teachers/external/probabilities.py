"""Probabilities where logits are wanted, on NumPy arrays: turned into logits, or told apart from them."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, TeacherError, check_choice, explain

SMALLEST = float(np.finfo(np.float32).tiny)  # the smallest positive normal float32, 1.2e-38
SUM_TOLERANCE = 1e-3


def check_outputs(outputs: Any, activation: Any) -> None:
    """Raises `ConfigurationError` where these are not settings, or an activation goes without probabilities."""
    check_choice("outputs", outputs, (None, "logits", "probabilities"))
    check_choice("activation", activation, (None, "softmax", "sigmoid"))
    if activation is not None and outputs != "probabilities":
        raise ConfigurationError(
            explain(
                "'activation' says what made probabilities.",
                received=f"activation={activation!r}, outputs={outputs!r}",
                expected="outputs='probabilities' beside it",
            )
        )


def logits_of_probabilities(probabilities: np.ndarray, activation: str, smallest: float = SMALLEST) -> np.ndarray:
    """Logits that `activation` maps to `probabilities`, as float32 of the same shape.

    `log p` for a softmax (which does not see a constant added to all), `log p - log(1 - p)` for a sigmoid. What is
    below `smallest` is taken for `smallest`, so that a probability of 0 has a finite logit (-87.3 as a rule).

    >>> [round(float(logit), 1) for logit in logits_of_probabilities(np.array([0.5, 0.5, 0.0]), "softmax")]
    [-0.7, -0.7, -87.3]
    """
    probabilities = np.asarray(probabilities, np.float64)
    logits = np.log(np.maximum(probabilities, smallest))
    if activation == "sigmoid":
        logits -= np.log(np.maximum(1.0 - probabilities, smallest))
    return logits.astype(np.float32)


def is_distribution(values: np.ndarray) -> bool:
    """Whether every row `[..., classes]` is one: two or more classes, none below 0, a sum of 1."""
    if values.shape[-1] < 2 or values.min() < 0:
        return False
    return np.allclose(values.sum(-1), 1, atol=SUM_TOLERANCE)


def looks_like_probabilities(teacher: str, name: str) -> TeacherError:
    """The error for logits that are none."""
    return TeacherError(
        explain(
            f"The teacher's {name!r} looks like probabilities.",
            received="rows of numbers from 0 to 1 whose sum is 1",
            expected="logits, or to be told",
            fix=f"Say {teacher}(..., outputs='probabilities'), or outputs='logits' where it is right as it is.",
        )
    )
