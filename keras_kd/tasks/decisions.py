"""From a model's outputs to decisions: the class of each position, or which labels apply."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain


def class_ids(predictions: Any, *, from_logits: bool | None = None) -> tuple[np.ndarray, int | None]:
    """The predicted classes, integers `[n]` or `[n, ...]`, and the number of classes (None for predicted classes).

    Args:
        predictions: `[n, ..., C]` logits or probabilities; `[n, 1]` or `[n]` floats for two classes; or `[n]` integers,
            the predicted classes themselves.
        from_logits: needed for predictions of one column only: class 1 is above 0 for logits, else above 0.5.

    Raises:
        ConfigurationError: no predictions, NaN or infinity, or one column without `from_logits`.

    >>> class_ids(np.array([[-1.0], [0.2]]), from_logits=True)
    (array([0, 1]), 2)
    """
    predictions = finite(predictions)
    if predictions.ndim == 1 and predictions.dtype.kind in "iu":
        return predictions, None
    if predictions.ndim > 1 and predictions.shape[-1] > 1:
        return predictions.argmax(axis=-1), predictions.shape[-1]
    scores = predictions if predictions.ndim == 1 else predictions[..., 0]
    return applies(scores, from_logits=from_logits).astype(int), 2


def applies(scores: Any, *, from_logits: bool | None) -> np.ndarray:
    """Which of the independent labels are predicted, bool: probability above 0.5, or a logit above 0.

    >>> applies(np.array([[0.7, 0.2]]), from_logits=False).tolist()
    [[True, False]]
    """
    scores = finite(scores)
    if from_logits is None:
        raise ConfigurationError(
            explain(
                "Predictions of independent labels, or of one column, need 'from_logits'.",
                received=f"shape {scores.shape} without it",
                expected="from_logits=True for logits, False for probabilities",
            )
        )
    if not from_logits:
        check_probabilities(scores)
    return scores > (0.0 if from_logits else 0.5)


def finite(predictions: Any) -> np.ndarray:
    """Predictions as an array. Raises `ConfigurationError` if they are empty or contain NaN or infinity."""
    predictions = np.asarray(predictions)
    if predictions.ndim < 1 or not predictions.size:
        raise ConfigurationError(
            explain(
                "The predictions have an unusable shape.",
                received=predictions.shape,
                expected="[n, ..., C], [n, 1] or [n] with n >= 1",
            )
        )
    if not np.isfinite(predictions).all():
        rows = int((~np.isfinite(predictions.reshape(len(predictions), -1))).any(axis=1).sum())
        problem, expected = "The predictions hold NaN or infinity.", "finite numbers"
        raise ConfigurationError(explain(problem, received=f"{rows} such rows", expected=expected))
    return predictions


def check_probabilities(scores: np.ndarray) -> None:
    """Raises `ConfigurationError` if a number is outside 0..1."""
    if scores.min() < 0 or scores.max() > 1:
        problem, fix = "These predictions are not probabilities.", "Pass from_logits=True if they are logits."
        received = f"values from {scores.min():.3g} to {scores.max():.3g}"
        raise ConfigurationError(explain(problem, received=received, expected="0 to 1", fix=fix))
