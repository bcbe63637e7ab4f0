"""Every layer that has a counterpart in `tf_keras`, with an input that it takes."""

import keras

layers = keras.layers
IMAGE, SEQUENCE, VOLUME, ROW = (8, 8, 4), (6, 8), (5, 5, 5, 2), (8,)


def with_cells():
    return layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(4), layers.SimpleRNNCell(2)]))


def normalized():
    layer = layers.Normalization(axis=-1)
    layer.build((None, *ROW))
    for weight, value in zip(layer.weights, (0.3, 2.0, 7), strict=True):
        weight.assign(keras.ops.full(weight.shape, value, weight.dtype))
    layer.finalize_state()
    return layer


# The name of a layer: (layers, shape of the input).
SINGLE = {
    "Activation": ([lambda: layers.Activation("hard_silu"), lambda: layers.Activation("hard_sigmoid")], ROW),
    "ActivityRegularization": ([lambda: layers.ActivityRegularization(0.1)], ROW),
    "AlphaDropout": ([lambda: layers.AlphaDropout(0.1)], ROW),
    "AveragePooling1D": ([lambda: layers.AveragePooling1D(2, padding="same", strides=1)], SEQUENCE),
    "AveragePooling2D": ([lambda: layers.AveragePooling2D(3, 2, "same")], IMAGE),
    "AveragePooling3D": ([lambda: layers.AveragePooling3D(2)], VOLUME),
    "BatchNormalization": ([lambda: layers.BatchNormalization(scale=False, epsilon=0.01)], IMAGE),
    "Bidirectional": (
        [
            lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            lambda: layers.Bidirectional(layers.GRU(3), merge_mode="sum"),
        ],
        SEQUENCE,
    ),
    "Conv1D": ([lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2, activation="silu")], SEQUENCE),
    "Conv1DTranspose": ([lambda: layers.Conv1DTranspose(3, 3, 2)], SEQUENCE),
    "Conv2D": ([lambda: layers.Conv2D(6, 3, padding="same", groups=2, activation="relu6")], IMAGE),
    "Conv2DTranspose": ([lambda: layers.Conv2DTranspose(3, 3, 2, "same", output_padding=1)], IMAGE),
    "Conv3D": ([lambda: layers.Conv3D(3, 2, strides=2)], VOLUME),
    "Conv3DTranspose": ([lambda: layers.Conv3DTranspose(3, 2)], VOLUME),
    "Cropping1D": ([lambda: layers.Cropping1D((1, 2))], SEQUENCE),
    "Cropping2D": ([lambda: layers.Cropping2D(((1, 2), (0, 1)))], IMAGE),
    "Cropping3D": ([lambda: layers.Cropping3D(1)], VOLUME),
    "Dense": (
        [
            lambda: layers.Dense(
                3,
                "leaky_relu",
                kernel_initializer=keras.initializers.Orthogonal(gain=2.0, seed=3),
                kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2),
                kernel_constraint=keras.constraints.MaxNorm(1.5, axis=0),
            )
        ],
        ROW,
    ),
    "DepthwiseConv1D": ([lambda: layers.DepthwiseConv1D(3, depth_multiplier=2)], SEQUENCE),
    "DepthwiseConv2D": ([lambda: layers.DepthwiseConv2D(3, 2, "same", 2)], IMAGE),
    "Dropout": ([lambda: layers.Dropout(0.5, noise_shape=(None, 1), seed=3)], ROW),
    "ELU": ([lambda: layers.ELU(0.7)], ROW),
    "EinsumDense": ([lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="e")], SEQUENCE),
    "Flatten": ([layers.Flatten], IMAGE),
    "GRU": ([lambda: layers.GRU(3, reset_after=False), lambda: layers.GRU(3, go_backwards=True)], SEQUENCE),
    "GaussianDropout": ([lambda: layers.GaussianDropout(0.1)], ROW),
    "GaussianNoise": ([lambda: layers.GaussianNoise(0.1)], ROW),
    "GlobalAveragePooling1D": ([layers.GlobalAveragePooling1D], SEQUENCE),
    "GlobalAveragePooling2D": ([lambda: layers.GlobalAveragePooling2D(keepdims=True)], IMAGE),
    "GlobalAveragePooling3D": ([layers.GlobalAveragePooling3D], VOLUME),
    "GlobalMaxPooling1D": ([layers.GlobalMaxPooling1D], SEQUENCE),
    "GlobalMaxPooling2D": ([lambda: layers.GlobalMaxPooling2D(keepdims=True)], IMAGE),
    "GlobalMaxPooling3D": ([layers.GlobalMaxPooling3D], VOLUME),
    "GroupNormalization": ([lambda: layers.GroupNormalization(2)], IMAGE),
    "Identity": ([layers.Identity], ROW),
    "LSTM": (
        [
            lambda: layers.LSTM(3, unroll=True),
            lambda: layers.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid", seed=1),
        ],
        SEQUENCE,
    ),
    "LayerNormalization": ([lambda: layers.LayerNormalization(axis=(1, 2))], SEQUENCE),
    "LeakyReLU": ([lambda: layers.LeakyReLU(0.17)], ROW),
    "Masking": ([lambda: layers.Masking(0.5)], SEQUENCE),
    "MaxPooling1D": ([lambda: layers.MaxPooling1D(2)], SEQUENCE),
    "MaxPooling2D": ([lambda: layers.MaxPooling2D(3, 2, "same")], IMAGE),
    "MaxPooling3D": ([lambda: layers.MaxPooling3D(2)], VOLUME),
    "Normalization": (
        [normalized, lambda: layers.Normalization(mean=[0.1] * 8, variance=[3.0] * 8, invert=True)],
        ROW,
    ),
    "PReLU": ([lambda: layers.PReLU("random_uniform", shared_axes=[1, 2])], IMAGE),
    "Permute": ([lambda: layers.Permute((3, 1, 2))], IMAGE),
    "RNN": ([with_cells], SEQUENCE),
    "ReLU": ([lambda: layers.ReLU(0.8, negative_slope=0.1, threshold=0.2)], ROW),
    "RepeatVector": ([lambda: layers.RepeatVector(3)], ROW),
    "Rescaling": ([lambda: layers.Rescaling(1 / 127.5, -1)], IMAGE),
    "Reshape": ([lambda: layers.Reshape((-1, 2))], IMAGE),
    "SeparableConv1D": ([lambda: layers.SeparableConv1D(3, 3)], SEQUENCE),
    "SeparableConv2D": ([lambda: layers.SeparableConv2D(3, 3, 2, "same", depth_multiplier=2)], IMAGE),
    "SimpleRNN": ([lambda: layers.SimpleRNN(3)], SEQUENCE),
    "Softmax": ([lambda: layers.Softmax(axis=1)], SEQUENCE),
    "SpatialDropout1D": ([lambda: layers.SpatialDropout1D(0.1)], SEQUENCE),
    "SpatialDropout2D": ([lambda: layers.SpatialDropout2D(0.1)], IMAGE),
    "SpatialDropout3D": ([lambda: layers.SpatialDropout3D(0.1)], VOLUME),
    "TimeDistributed": ([lambda: layers.TimeDistributed(layers.Dense(3, "tanh"))], SEQUENCE),
    "UnitNormalization": ([layers.UnitNormalization], SEQUENCE),
    "UpSampling1D": ([lambda: layers.UpSampling1D(3)], SEQUENCE),
    "UpSampling2D": ([lambda: layers.UpSampling2D(2), lambda: layers.UpSampling2D(3, interpolation="bilinear")], IMAGE),
    "UpSampling3D": ([lambda: layers.UpSampling3D(2)], VOLUME),
    "ZeroPadding1D": ([lambda: layers.ZeroPadding1D(1)], SEQUENCE),
    "ZeroPadding2D": ([lambda: layers.ZeroPadding2D(((1, 0), (2, 1)))], IMAGE),
    "ZeroPadding3D": ([lambda: layers.ZeroPadding3D(1)], VOLUME),
}
# Layers of several inputs: (layers, how each is called with two sequences).
SEVERAL = {
    "Add": layers.Add,
    "AdditiveAttention": lambda: layers.AdditiveAttention(use_scale=True),
    "Attention": lambda: layers.Attention(use_scale=True, score_mode="concat"),
    "Average": layers.Average,
    "Concatenate": lambda: layers.Concatenate(axis=1),
    "Dot": lambda: layers.Dot(axes=2, normalize=True),
    "Maximum": layers.Maximum,
    "Minimum": layers.Minimum,
    "Multiply": layers.Multiply,
    "Subtract": layers.Subtract,
}
INSIDE_OTHERS = {"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"}
OF_TOKENS = {"Embedding", "MultiHeadAttention"}


def every_layer():
    """A model with an output for each layer."""
    images, sequences, volumes, rows = (
        keras.Input(shape, name=name)
        for shape, name in ((IMAGE, "image"), (SEQUENCE, "sequence"), (VOLUME, "volume"), (ROW, "row"))
    )
    inputs = {IMAGE: images, SEQUENCE: sequences, VOLUME: volumes, ROW: rows}
    outputs = {
        f"{kind}_{number}": make()(inputs[shape])
        for kind, (makes, shape) in SINGLE.items()
        for number, make in enumerate(makes)
    }
    other = layers.Dense(8, name="other")(sequences)
    outputs |= {kind: make()([sequences, other]) for kind, make in SEVERAL.items()}
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    embedded = layers.Embedding(9, 8, mask_zero=True, name="embedding")(tokens)
    outputs["Embedding"] = layers.LSTM(3, return_sequences=True, name="masked")(embedded)
    attention = layers.MultiHeadAttention(2, 4, value_dim=3, dropout=0.1, name="multi_head")
    outputs["MultiHeadAttention"] = attention(embedded, sequences, use_causal_mask=True)
    return keras.Model([images, sequences, volumes, rows, tokens], outputs, name="every_layer")
