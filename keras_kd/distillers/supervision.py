"""Does the compiled loss expect what the student gives? A wrong answer trains badly and says nothing."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import Head
from keras_kd.losses import SoftTargets
from keras_kd.serialization import snake_case

_FROM_PROBABILITIES = {
    "bce",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "sparse_categorical_crossentropy",
}


def check_supervised_loss(loss: Any, heads: dict[str, Head]) -> None:
    """Raises `ConfigurationError` where a cross-entropy takes logits for probabilities, or the other way round.

    Args:
        loss: as given to `compile`: a name, a function, a `keras.losses.Loss`, or a dict or list of them.
        heads: of the student, by output name.
    """
    for name, head in heads.items():
        expects_logits = _expects_logits(loss_of_output(loss, name, list(heads)))
        if expects_logits is None or head.activation == "probabilities" or expects_logits == head.is_logits:
            continue
        gives, takes = ("logits", "probabilities") if head.is_logits else ("probabilities", "logits")
        raise ConfigurationError(
            explain(
                f"The loss takes {takes}, the student's {name!r} gives {gives} ({head.activation} at its end): "
                "it would train wrongly and silently.",
                received=f"loss={loss!r}",
                expected=f"from_logits={head.is_logits}",
                fix=f"For example keras.losses.SparseCategoricalCrossentropy(from_logits={head.is_logits}).",
            )
        )


def check_default_terms(loss: Any, terms: list[SoftTargets], heads: dict[str, Head]) -> None:
    """Raises `ConfigurationError` where a term that nobody chose compares independent labels as exclusive classes.

    Logits alone do not tell a multi-label model from one with exclusive classes; a binary cross-entropy does.
    """
    for name, term in zip(heads, terms, strict=False):
        if term.activation == "softmax" and _is_binary(loss_of_output(loss, term.student or name, list(heads))):
            raise ConfigurationError(
                explain(
                    "The compiled loss takes the student's outputs for independent labels, the default term "
                    f"{term.name!r} takes them for exclusive classes.",
                    received=f"loss={loss!r}",
                    expected="the same of both",
                    fix="Say which: Distiller(..., losses=[SoftTargets(activation='sigmoid')]), or 'softmax'.",
                )
            )


def _is_binary(loss: Any) -> bool:
    if not isinstance(loss, str):
        loss = type(loss).__name__ if isinstance(loss, keras.losses.Loss) else getattr(loss, "__name__", "")
    return snake_case(loss) == "bce" or snake_case(loss).startswith("binary_")


def loss_of_output(loss: Any, name: str, names: list[str]) -> Any:
    """What `compile` was given for one of the outputs: a name, a function, a `keras.losses.Loss` or None."""
    if isinstance(loss, dict):
        return loss.get(name)
    if isinstance(loss, (list, tuple)):
        return loss[names.index(name)] if names.index(name) < len(loss) else None
    return loss


def _expects_logits(loss: Any) -> bool | None:
    """None where the loss is no cross-entropy that we know."""
    if isinstance(loss, str):
        return False if snake_case(loss) in _FROM_PROBABILITIES else None
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") if type(loss).__module__.startswith("keras.") else None
    return False if getattr(loss, "__name__", "") in _FROM_PROBABILITIES else None
