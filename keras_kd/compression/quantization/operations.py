"""What an integer file does with each operation of a graph: computes it, fuses it, or passes its input through."""

from __future__ import annotations

import enum
from typing import Any

import keras

from keras_kd.compression.quantization.inside import FUSED, TRANSPOSED, activation_name
from keras_kd.features.paths import has_activation

layers = keras.layers


class Kind(enum.Enum):
    """How the output of an operation is rounded."""

    OWN = "its own range"
    LINEAR = "a sum of products, into which a batch normalization or a ReLU is fused"
    NORMALIZATION = "fused into the operation before, and a ReLU into it"
    ARITHMETIC = "an operation into which a ReLU is fused"
    RELU = "fused into the operation before"
    JOINED = "one range for the inputs and the output"
    PASSED = "its input, unchanged"
    AVERAGED = "the range of its input"


_LINEAR = (
    *(layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
)
_PASSED = {
    *("Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "ActivityRegularization"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping1D", "Cropping2D", "Cropping3D"),
    *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
    *("UpSampling1D", "UpSampling3D"),
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise"),
    *("Transpose", "Squeeze", "ExpandDims", "GetItem", "Split", "Unstack", "Pad", "Flip", "Swapaxes", "Moveaxis"),
    *("Ravel", "Repeat", "Tile", "BroadcastTo", "Max", "MaxPool", "StopGradient", "Take", "Roll"),
}
_AVERAGED = {"AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "AveragePool"}
_JOINED = {"Concatenate", "Stack", "Hstack", "Vstack"}
_ARITHMETIC = {"Add", "Subtract", "Multiply"}


def kind_of(operation: Any) -> Kind:
    """How the output of a layer or `keras.ops` operation is rounded.

    >>> kind_of(keras.layers.Conv2D(1, 1)).name, kind_of(keras.layers.Conv2D(1, 1, activation="tanh")).name
    ('LINEAR', 'OWN')
    """
    operation = inner_operation(operation)
    name = type(operation).__name__
    if isinstance(operation, TRANSPOSED):
        return Kind.OWN
    if isinstance(operation, _LINEAR):
        return Kind.LINEAR if activation_name(operation.activation) == "linear" else Kind.OWN
    if isinstance(operation, layers.BatchNormalization):
        return Kind.NORMALIZATION
    if is_relu(operation):
        return Kind.RELU
    if isinstance(operation, layers.UpSampling2D):
        return Kind.PASSED if operation.interpolation == "nearest" else Kind.AVERAGED
    for names, kind in ((_PASSED, Kind.PASSED), (_AVERAGED, Kind.AVERAGED), (_JOINED, Kind.JOINED)):
        if name in names:
            return kind
    return Kind.ARITHMETIC if name in _ARITHMETIC else Kind.OWN


def inner_operation(operation: Any) -> Any:
    """The layer that a `TimeDistributed` runs; any other operation itself."""
    while isinstance(operation, layers.TimeDistributed):
        operation = operation.layer
    return operation


def is_relu(operation: Any) -> bool:
    """Whether an operation is a ReLU that an integer file fuses: without a bound, or with one at 6."""
    if isinstance(operation, layers.ReLU):
        is_plain = not operation.negative_slope and not operation.threshold
        return is_plain and operation.max_value in (None, 6, 6.0)
    if isinstance(operation, layers.Activation):
        return activation_name(operation.activation) in FUSED[1:]
    return type(operation).__name__ in ("Relu", "Relu6") and not isinstance(operation, layers.Layer)


def last_activation(operation: Any) -> str:
    """The name of the activation that makes an operation's output; `"linear"` if there is none.

    >>> last_activation(keras.layers.Softmax()), last_activation(keras.layers.Dense(1, activation="sigmoid"))
    ('softmax', 'sigmoid')
    """
    operation = inner_operation(operation)
    if has_activation(operation):
        return activation_name(operation.activation)
    name = type(operation).__name__
    return name.lower() if name in ("Softmax", "Sigmoid", "Tanh") else "linear"
