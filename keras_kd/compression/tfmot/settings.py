"""A layer of `tf_keras` from the configuration of a Keras 3 layer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from keras_kd.compression.tfmot.activations import legacy_activation
from keras_kd.compression.tfmot.importing import import_tf_keras
from keras_kd.errors import ConfigurationError, explain

# Layers that compute the same in both; a test compares each. A layer of the same name alone is not enough.
COUNTERPARTS = frozenset(
    """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average AveragePooling1D
    AveragePooling2D AveragePooling3D BatchNormalization Bidirectional Concatenate Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose Cropping1D Cropping2D Cropping3D Dense DepthwiseConv1D DepthwiseConv2D Dot
    Dropout ELU EinsumDense Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D
    GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization Identity LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute RNN ReLU RepeatVector Rescaling
    Reshape SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D SpatialDropout2D
    SpatialDropout3D StackedRNNCells Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
    """.split()
)
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_ALWAYS = {"name", "trainable", "dtype", "zero_output_for_mask"}  # the last by recurrent layers, without being declared
_RANDOM = ("seed",)  # draws differ anyway
_INITIALIZER_ONLY = ("input_axes", "output_axes")


def legacy_layer(layer: keras.layers.Layer) -> Any:
    """The counterpart of a layer in `tf_keras`: not built, with fresh weights.

    Raises:
        ConfigurationError: its class, or one of its settings, has no counterpart.
    """
    kind = type(layer)
    if getattr(keras.layers, kind.__name__, None) is not kind:
        raise _no_counterpart(layer.name, f"{kind.__module__}.{kind.__qualname__}")
    return _from_config(kind.__name__, layer.get_config(), layer.name)


def _from_config(kind: str, config: Mapping[str, Any], where: str) -> Any:
    if kind not in COUNTERPARTS:
        raise _no_counterpart(where, kind)
    legacy = getattr(import_tf_keras().layers, kind)
    accepted, defaults = _parameters(legacy), _parameters(getattr(keras.layers, kind))
    settings = {}
    for key, value in config.items():
        name = _RENAMED.get(kind, {}).get(key, key)
        if name in accepted or name in _ALWAYS:
            settings[name] = _translated(key, value, where)
        elif key not in _RANDOM and not _is_default(key, value, defaults):
            raise _no_setting(where, kind, key, value)
    try:
        return legacy(**settings)
    except Exception as error:  # tf_keras raises many kinds
        raise ConfigurationError(
            explain(f"tf_keras refuses the settings of {where!r}, a {kind}.", received=repr(error))
        ) from error


def _translated(key: str, value: Any, where: str) -> Any:
    if key.endswith("activation"):
        return legacy_activation(value, repr(where))
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [_translated(key, item, where) for item in value]
    if not (isinstance(value, dict) and {"class_name", "config"} <= value.keys()):
        return value
    module, kind, config = value.get("module"), value["class_name"], value["config"]
    if kind == "DTypePolicy":
        return config["name"]
    if module == "keras.layers":
        return _from_config(kind, config, f"{where}/{config.get('name', kind)}")
    if module in ("keras.initializers", "keras.regularizers", "keras.constraints"):
        legacy = getattr(getattr(import_tf_keras(), module.split(".")[1]), kind, None)
        if legacy is not None:
            return _made(legacy, module, kind, config, where)
    raise _no_setting(where, "", key, f"{module}.{kind}")


def _made(legacy: Any, module: str, kind: str, config: Mapping[str, Any], where: str) -> Any:
    """An initializer, regularizer or constraint."""
    accepted = _parameters(legacy)
    settings = {name: value for name, value in config.items() if name in accepted}
    for name, value in config.items():
        if name in accepted or name in _INITIALIZER_ONLY:
            continue
        if not _is_default(name, value, _parameters(getattr(getattr(keras, module.split(".")[1]), kind))):
            raise _no_setting(where, kind, name, value)
    if not isinstance(settings.get("seed"), int):
        settings.pop("seed", None)
    return legacy(**settings)


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class and of those to which it passes the rest."""
    found: dict[str, inspect.Parameter] = {}
    for owner in kind.__mro__:
        if "__init__" not in vars(owner):
            continue
        own = inspect.signature(owner.__init__).parameters
        found = {**own, **found}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
            break
    return found


def _is_default(key: str, value: Any, parameters: Mapping[str, inspect.Parameter]) -> bool:
    if key == "data_format":
        return value == keras.config.image_data_format() == "channels_last"
    return parameters[key].default == value if key in parameters else value in (None, False)


def _no_counterpart(where: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"Layer {where!r} has no counterpart in tf_keras.",
            received=f"a {kind}",
            expected="a layer of keras.layers that tf_keras computes alike (tfmot.settings.COUNTERPARTS lists them)",
            fix="Compress this model with the transforms of keras_kd.compression, which take any layer.",
        )
    )


def _no_setting(where: str, kind: str, key: str, value: Any) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"A setting of layer {where!r} has no counterpart in tf_keras.",
            received=f"{kind}({key}={value!r})" if kind else f"{key}={value!r}",
            expected="settings that the layer has in tf_keras as well",
        )
    )
