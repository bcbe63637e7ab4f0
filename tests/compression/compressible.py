"""Small models with every kind of kernel."""

import keras

layers = keras.layers


def convolutional():
    x = keras.Input((8, 8, 4))
    h = layers.Conv2D(8, 3, use_bias=False, name="conv")(x)
    h = layers.BatchNormalization(name="norm")(h)
    h = layers.ReLU()(h)
    h = layers.SeparableConv2D(8, 3, name="separable")(h)
    h = layers.DepthwiseConv2D(3, name="depthwise")(h)
    h = layers.Conv2DTranspose(4, 2, name="transposed")(h)
    h = layers.Dropout(0.2)(layers.Flatten()(h))
    return keras.Model(x, layers.Dense(5, name="head")(h), name="convolutional")


def sequence():
    tokens = keras.Input((6,), dtype="int32")
    h = layers.Embedding(20, 8, mask_zero=True, name="embedding")(tokens)
    h = layers.MultiHeadAttention(2, 4, dropout=0.1, name="attention")(h, h)
    h = layers.LSTM(8, return_sequences=True, name="lstm")(h)
    h = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both_ways")(h)
    h = layers.TimeDistributed(layers.Dense(6), name="each")(h)
    h = layers.GlobalAveragePooling1D()(h)
    h = layers.EinsumDense("bc,cd->bd", output_shape=8, name="einsum")(h)
    return keras.Model(tokens, layers.Dense(5, name="head")(h), name="sequence")


def nested():
    block = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu", name="one"), layers.Dense(8, name="two")], name="block"
    )
    x = keras.Input((8,))
    h = layers.Add()([block(x), x])
    return keras.Model(x, layers.Dense(5, name="head")(block(h)), name="nested")


def sequential():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu", name="body"), layers.Dense(5, name="head")],
        name="sequential",
    )


MODELS = {"convolutional": convolutional, "sequence": sequence, "nested": nested, "sequential": sequential}
