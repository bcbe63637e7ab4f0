"""Which Keras losses are meaningful between the logits of two models, and alternatives for the others."""

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
    "SoftTargets(temperature=1.0) applies this to the softmax of both (the cross-entropy minus the teacher's entropy, "
    "with the same gradient); SoftTargets() uses the distiller's temperature."
)
_SIGMOID = (
    "SoftTargets(activation='sigmoid', temperature=1.0) applies this to the sigmoid of both, minus the teacher's "
    "entropy."
)
_CLASS = (
    "SoftTargets() compares the probabilities; to use the teacher's predicted class as a label, pass a function: "
    "lambda teacher, student: keras.losses.sparse_categorical_crossentropy(keras.ops.argmax(teacher, -1), student, "
    "from_logits=True)."
)
_FUNCTION = "Convert both in a function of your own, (teacher, student) -> [batch], and pass that function."


def check_compares_raw_outputs(loss: Any) -> None:
    """Raises `ConfigurationError` for a Keras loss that takes anything but the logits of two models, such as labels.

    Args:
        loss: a `keras.losses.Loss` or a function; custom ones are not checked.
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
            f"This loss takes {takes}, but would receive the logits of both models: its values would be wrong.",
            received=f"{name_of(loss)} in losses=[...]",
            expected="a loss that compares values with values, such as keras.losses.MeanSquaredError()",
            fix=fix,
        )
    )


def is_of_library(function: Any) -> bool:
    """Whether a function comes from Keras or another known library, rather than from the user."""
    return str(getattr(function, "__module__", "")).split(".")[0] in _LIBRARIES


def name_of(loss: Any) -> str:
    """The name of a function or an object for messages and logs; `"function"` if it has none."""
    if isinstance(loss, functools.partial):
        return name_of(loss.func)
    name = getattr(loss, "__name__", None) or type(loss).__name__
    return "function" if name == "<lambda>" else name


def keras_loss_named(name: str) -> Any:
    """The Keras loss with this name, or None."""
    try:
        return keras.losses.get(name)
    except ValueError:
        return None


def _function_of(loss: Any) -> Any:
    """The library function that a loss computes; None if it is the user's."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    if isinstance(loss, keras.losses.Loss):
        owner = next(cls for cls in type(loss).__mro__ if "call" in vars(cls))
        loss = getattr(loss, "fn", owner) if is_of_library(owner) else None
    return loss if is_of_library(loss) else None


def _is_known(function: Any, key: str) -> bool:
    """Whether a function is a Keras loss, or a cross-entropy or divergence of another library."""
    is_keras_loss = ".losses" in str(function.__module__)
    return is_keras_loss or any(part in key for part in ("crossentropy", "kldiv", "divergence"))


def _what_it_takes(key: str) -> tuple[str, str]:
    if "sparse" in key:
        return "class indices", _CLASS
    if "crossentropy" in key or "div" in key:
        is_binary = "binary" in key or "sigmoid" in key
        return "probabilities", _SIGMOID if is_binary else _SOFTMAX
    if "poisson" in key or "logarithmic" in key:
        return "non-negative numbers", _FUNCTION
    return "labels or probabilities", _FUNCTION
