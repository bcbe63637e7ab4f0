"""Activation functions of Keras 3 for `tf_keras`, which lacks some and computes `hard_sigmoid` differently."""

from __future__ import annotations

from typing import Any

from keras_kd.compression.tfmot.importing import import_tf_keras
from keras_kd.errors import ConfigurationError, explain

_SAME = (
    "elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign",
    "tanh",
)  # fmt: skip
_RENAMED = {"silu": "swish", "swish": "swish"}


def legacy_activation(name: Any, where: str) -> Any:
    """An activation for a layer of `tf_keras`: a name, or a function that is registered there.

    Args:
        name: as in the configuration of a Keras 3 layer.
        where: the layer, for the error.

    Raises:
        ConfigurationError: a function without a counterpart.
    """
    if name is None:
        return None
    own = _own_functions()
    known = {same: same for same in _SAME} | _RENAMED | own
    if isinstance(name, str) and name in known:
        return known[name]
    raise ConfigurationError(
        explain(
            f"The activation of {where} has no counterpart in tf_keras.",
            received=repr(name),
            expected=f"one of {', '.join(sorted(known))}",
            fix="Compress this model with the transforms of keras_kd.compression, which take any layer.",
        )
    )


_made: dict[str, Any] = {}


def _own_functions() -> dict[str, Any]:
    """Functions that `tf_keras` lacks; registered there, because TFMOT rebuilds layers from their configuration."""
    if _made:
        return _made
    import tensorflow as tf

    def hard_sigmoid(x):
        return tf.nn.relu6(x + 3.0) / 6.0

    def hard_silu(x):
        return x * hard_sigmoid(x)

    def relu6(x):
        return tf.nn.relu6(x)

    def leaky_relu(x):
        return tf.nn.leaky_relu(x, alpha=0.2)

    def log_softmax(x):
        return tf.nn.log_softmax(x, axis=-1)

    register = import_tf_keras().saving.register_keras_serializable("keras_kd")
    for function in (hard_sigmoid, hard_silu, relu6, leaky_relu, log_softmax):
        _made[function.__name__] = register(function)
    _made["hard_swish"] = _made["hard_silu"]
    return _made
