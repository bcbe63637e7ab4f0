"""Checks the compiled loss against the student's outputs, since a mismatch would silently train wrong."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import Head, name_outputs
from keras_kd.serialization import snake_case
from keras_kd.tasks import losses as task_losses

_ALIASES = {
    "bce": "binary_crossentropy",
    "ce": "crossentropy",
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
}
_FROM_PROBABILITIES = {
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "crossentropy",
    "sparse_categorical_crossentropy",
}


def check_supervised_loss(loss: Any, heads: dict[str, Head]) -> None:
    """Raises `ConfigurationError` if a cross-entropy would treat logits as probabilities, or the reverse.

    Args:
        loss: as given to `compile`: a name, a function, a `keras.losses.Loss`, or a dict or list of them.
        heads: of the student, by output name.
    """
    losses = losses_by_output(loss, list(heads))
    for name, head in heads.items():
        expects_logits = _expects_logits(losses[name])
        if expects_logits is None or head.activation == "probabilities" or expects_logits == head.is_logits:
            continue
        returned, expected = ("logits", "probabilities") if head.is_logits else ("probabilities", "logits")
        raise ConfigurationError(
            explain(
                f"The loss expects {expected}, but the student's {name!r} returns {returned} (final activation: "
                f"{head.activation}): it would train wrongly and silently.",
                received=f"loss={loss!r}",
                expected=f"from_logits={head.is_logits}",
                fix=f"For example keras.losses.SparseCategoricalCrossentropy(from_logits={head.is_logits}).",
            )
        )


def losses_by_output(loss: Any, names: list[str]) -> dict[str, Any]:
    """The loss given to `compile` for each output: a name, a function, a `keras.losses.Loss`, or None.

    Args:
        loss: as given to `compile`; a dict by output name, a list in the order of the outputs.
        names: of the outputs; `["*"]` if they are unknown.

    Raises:
        ConfigurationError: a dict has a name that is not an output.
    """
    if not isinstance(loss, (dict, list, tuple)):
        return dict.fromkeys(names, loss)
    given = name_outputs(loss)
    if not isinstance(loss, dict):
        return dict(zip(names, [*given.values(), *[None] * len(names)], strict=False))
    unknown = [] if names == ["*"] else [name for name in given if name not in names]
    if unknown:
        raise ConfigurationError(
            explain(
                "The compiled loss names an output that the student does not have.",
                received=", ".join(map(repr, unknown)),
                expected="one of " + ", ".join(map(repr, names)),
                fix="Outputs are named by the keys of a dict or their position in a list; a single one is 'output'.",
            )
        )
    return {name: given.get(name) for name in names}


def known_name(loss: Any) -> str | None:
    """The name of one of Keras' own losses, such as `mean_squared_error`; None for any other loss.

    Losses of `keras_kd.tasks` count as the Keras losses of the same name.

    >>> known_name("mse"), known_name(keras.losses.MeanSquaredError()), known_name(lambda y_true, y_pred: y_pred)
    ('mean_squared_error', 'mean_squared_error', None)
    """
    if isinstance(loss, str):
        name = snake_case(loss)
    else:
        described = type(loss) if isinstance(loss, keras.losses.Loss) else loss
        if not (getattr(described, "__module__", None) or "").startswith(("keras.", task_losses.__name__)):
            return None
        name = snake_case(getattr(described, "__name__", ""))
    return _ALIASES.get(name, name)


def _expects_logits(loss: Any) -> bool | None:
    """Whether a cross-entropy expects logits; None for any other loss."""
    name = known_name(loss)
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") if name is not None else None
    return False if name in _FROM_PROBABILITIES else None
