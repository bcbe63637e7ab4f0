"""Which of Keras' losses mean something between two models' logits, and what to write in the place of the others."""

from __future__ import annotations

import functools
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain

_LIBRARIES = ("keras", "tensorflow", "tf_keras", "jax", "optax")
_COMPARE_RAW_OUTPUTS = (
    "cosinesimilarity",
    "huber",
    "logcosh",
    "meanabsoluteerror",
    "meanabsolutepercentageerror",
    "meansquarederror",
)
_SOFTMAX = (
    "SoftTargets(temperature=1.0) is this of the softmax of both (a cross-entropy less the teacher's entropy, with the "
    "same gradient); SoftTargets() takes the distiller's temperature."
)
_SIGMOID = (
    "SoftTargets(activation='sigmoid', temperature=1.0) is this of the sigmoid of both, less the teacher's entropy."
)
_CLASS = (
    "SoftTargets() compares the probabilities; for the teacher's likeliest class as a label pass a function: lambda "
    "teacher, student: keras.losses.sparse_categorical_crossentropy(keras.ops.argmax(teacher, -1), student, "
    "from_logits=True)."
)
_FUNCTION = "Turn both into that in a function of your own, (teacher, student) -> [batch], and pass this."


def check_compares_raw_outputs(loss: Any) -> None:
    """Raises `ConfigurationError` where a loss of Keras takes something else than two models' logits, such as labels.

    Args:
        loss: a `keras.losses.Loss` or a function; those that are not of a library pass.
    """
    function = _function_of(loss)
    if function is None:
        return
    key = name_of(function).replace("_", "")
    if key in _COMPARE_RAW_OUTPUTS or not _is_known(function, key):
        return
    takes, fix = _what_it_takes(key)
    raise ConfigurationError(
        explain(
            f"This loss takes {takes}, and is given the logits of both models here: its numbers would be wrong.",
            received=f"{name_of(loss)} in losses=[...]",
            expected="a loss that compares values with values, such as keras.losses.MeanSquaredError()",
            fix=fix,
        )
    )


def is_of_library(function: Any) -> bool:
    """Whether a function comes with Keras or another of the libraries, rather than from the user."""
    return str(getattr(function, "__module__", "")).split(".")[0] in _LIBRARIES


def name_of(loss: Any) -> str:
    """What to call a function or an object in a message or the logs; `"function"` where it has no name."""
    if isinstance(loss, functools.partial):
        return name_of(loss.func)
    name = getattr(loss, "__name__", None) or type(loss).__name__
    return "function" if name == "<lambda>" else name


def keras_loss_named(name: str) -> Any:
    """Keras' loss of that name, or None."""
    try:
        return keras.losses.get(name)
    except ValueError:
        return None


def _function_of(loss: Any) -> Any:
    """The function of a library that a loss computes; None where it is the user's."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    if isinstance(loss, keras.losses.Loss):
        owner = next(cls for cls in type(loss).__mro__ if "call" in vars(cls))
        loss = getattr(loss, "fn", owner) if is_of_library(owner) else None
    return loss if is_of_library(loss) else None


def _is_known(function: Any, key: str) -> bool:
    """Whether it is a loss: one of Keras', or a cross-entropy or divergence of another library."""
    is_keras_loss = ".losses" in str(function.__module__)
    return is_keras_loss or any(part in key for part in ("crossentropy", "kldiv", "divergence"))


def _what_it_takes(key: str) -> tuple[str, str]:
    if "sparse" in key:
        return "class numbers", _CLASS
    if "crossentropy" in key or "div" in key:
        is_binary = "binary" in key or "sigmoid" in key
        return "probabilities", _SIGMOID if is_binary else _SOFTMAX
    if "poisson" in key or "logarithmic" in key:
        return "numbers that are not negative", _FUNCTION
    return "labels or probabilities", _FUNCTION
