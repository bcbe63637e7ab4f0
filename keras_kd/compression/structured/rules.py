"""Which rule follows the channels through which layer or operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

from keras_kd.compression.structured import elementwise, kernels, normalization, sequences, shapes
from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.visit import Visit

Rule = Callable[[Visit], list[Flow]]

_LAYERS: dict[Rule, str] = {
    elementwise.unary: "ReLU LeakyReLU ELU Activation SpatialDropout1D SpatialDropout2D SpatialDropout3D "
    "GaussianDropout GaussianNoise ActivityRegularization Identity",
    elementwise.dropout: "Dropout AlphaDropout",
    elementwise.softmax: "Softmax",
    elementwise.rescaling: "Rescaling",
    elementwise.merge: "Add Subtract Multiply Maximum Minimum Average",
    elementwise.concatenate: "Concatenate",
    shapes.spatial: "ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D "
    "UpSampling2D UpSampling3D "
    "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D",
    shapes.global_pooling: "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D",
    shapes.reshape: "Reshape",
    shapes.flatten_first: "Flatten",
    shapes.permute: "Permute",
    shapes.repeat_vector: "RepeatVector",
    kernels.dense: "Dense",
    kernels.einsum_dense: "EinsumDense",
    kernels.embedding: "Embedding",
    kernels.convolution: "Conv1D Conv2D Conv3D",
    kernels.transposed_convolution: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
    kernels.depthwise_convolution: "DepthwiseConv1D DepthwiseConv2D",
    kernels.separable_convolution: "SeparableConv1D SeparableConv2D",
    normalization.batch_normalization: "BatchNormalization",
    normalization.layer_normalization: "LayerNormalization RMSNormalization",
    normalization.group_normalization: "GroupNormalization",
    normalization.parametric_relu: "PReLU",
    sequences.recurrent: "LSTM GRU SimpleRNN",
    sequences.attention: "MultiHeadAttention",
    sequences.time_distributed: "TimeDistributed",
    sequences.bidirectional: "Bidirectional",
}
_OPERATIONS: dict[Rule, str] = {
    elementwise.unary: "Abs Absolute Cast Celu Cos Elu Exp Expm1 Gelu HardShrink HardSigmoid HardSilu HardTanh "
    "LeakyRelu Log Log1p LogSigmoid Mish Negative Reciprocal Relu Relu6 Rsqrt Selu Sigmoid Sign Silu Sin SoftShrink "
    "Softplus Softsign Sqrt Square StopGradient Tanh",
    elementwise.clip: "Clip",
    elementwise.binary_operation: "Add Subtract Multiply Divide TrueDivide Maximum Minimum Power",
    elementwise.concatenate: "Concatenate",
    elementwise.split: "Split",
    shapes.reduction: "Mean Sum Max Min Amax Amin",
    shapes.transpose: "Transpose",
    shapes.expand_dims: "ExpandDims",
    shapes.squeeze: "Squeeze",
}
_BY_LAYER = {getattr(layers, name): rule for rule, names in _LAYERS.items() for name in names.split()}
_BY_OPERATION = {name: rule for rule, names in _OPERATIONS.items() for name in names.split()}


def rule_of(layer: Any) -> Rule | None:
    """The rule of a layer or `keras.ops` operation; None if it is not known. A subclass may do something else.

    >>> rule_of(layers.Dense(1)).__name__, rule_of(layers.Lambda(abs))
    ('dense', None)
    """
    if isinstance(layer, layers.Layer):
        return _BY_LAYER.get(type(layer))
    kind = type(layer)
    return _BY_OPERATION.get(kind.__name__) if kind.__module__.startswith("keras.") else None
