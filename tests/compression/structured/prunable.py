"""Small models in which channels take every way, and the model that a smaller one must equal."""

import keras
import numpy as np
from keras import layers, ops

from keras_kd.compression import ChannelPruning
from keras_kd.surgery.weights import weights_by_name


def residual():
    """A sum, squeeze and excitation, depthwise kernels with a multiplier, a scalar operation."""
    x = keras.Input((8, 8, 3))
    h = stem = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="stem")(x)))
    h = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="depthwise")(h)
    h = layers.BatchNormalization(scale=False)(h)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(h)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="expand")(layers.Conv2D(4, 1, name="squeeze")(gate))
    h = layers.Multiply()([h, gate])
    h = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(8, 1, name="project")(h))
    h = layers.Maximum()([layers.Add()([h, stem]), stem]) * 0.5
    h = layers.UpSampling2D()(layers.ZeroPadding2D()(layers.MaxPooling2D()(h)))
    return keras.Model(x, layers.Dense(5, name="head")(layers.GlobalMaxPooling2D()(h)), name="residual")


def concatenated():
    """Concatenations, along channels and along height, a flatten, transposed and separable kernels."""
    x = keras.Input((8, 8, 3))
    left = layers.Conv2D(4, 3, padding="same", name="left")(x)
    right = layers.SeparableConv2D(6, 3, depth_multiplier=2, padding="same", name="right")(x)
    h = layers.BatchNormalization()(layers.Concatenate()([left, right, x]))
    top = layers.Conv2DTranspose(6, 2, name="top")(h)
    bottom = layers.Conv2D(6, 2, padding="same", name="bottom")(layers.ZeroPadding2D(((0, 1), (0, 1)))(h))
    h = layers.Concatenate(axis=1)([top, bottom])
    h = layers.PReLU()(layers.MaxPooling2D(3)(h))
    h = layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(h))
    h = layers.Reshape((3, 4, 1))(h)
    h = layers.Conv2D(4, 1, name="after")(h)
    return keras.Model(x, layers.Dense(5, name="head")(layers.Flatten()(h)), name="concatenated")


def grouped():
    """Grouped kernels, group normalization, a channel shuffle."""
    x = keras.Input((6, 6, 3))
    h = layers.Conv2D(12, 1, name="stem")(x)
    h = layers.Conv2D(12, 3, groups=3, padding="same", name="groups")(h)
    h = layers.Reshape((36, 3, 4))(layers.ReLU()(h))
    h = layers.Reshape((6, 6, 12), name="shuffled")(layers.Permute((1, 3, 2))(h))
    h = layers.GroupNormalization(4, name="normed")(layers.Conv2D(12, 3, name="plain")(h))
    h = layers.Conv2D(8, 3, name="single")(h)
    h = layers.Conv2D(16, 1, groups=8, name="one_each")(h)
    return keras.Model(x, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(h)), name="grouped")


def sequences():
    """An embedding, recurrent layers, one of them unrolled, and the layers around them."""
    x = keras.Input((5,), dtype="int32")
    h = layers.Embedding(30, 6, name="embedding")(x)
    h = layers.Conv1D(8, 3, padding="same", name="conv")(h)
    h = layers.LSTM(6, return_sequences=True, unroll=True, bias_initializer="uniform", name="lstm")(h)
    h = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both_ways")(h)
    h = layers.TimeDistributed(layers.Dense(7, activation="tanh"), name="each")(h)
    h = layers.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d", name="einsum")(h)
    h, state = layers.GRU(6, return_state=True, name="gru")(h)
    h = layers.SimpleRNN(4, name="simple")(layers.RepeatVector(3)(layers.Add()([h, state])))
    return keras.Model(x, layers.Dense(5, name="head")(h), name="sequences")


def transformer():
    """Attention, whose heads leave, with residual sums through normalization; the width stays."""
    x = keras.Input((6, 8))
    h = layers.Add()([x, layers.MultiHeadAttention(4, 3, value_dim=2, name="attention")(x, x)])
    h = kept = layers.LayerNormalization(name="norm")(h)
    h = layers.Dense(16, activation="gelu", name="up")(h)
    h = layers.Add()([layers.Dropout(0.1)(layers.Dense(8, name="down")(h)), kept])
    h = layers.MultiHeadAttention(2, 4, output_shape=6, name="cross")(h, kept)
    return keras.Model(x, layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(h)), name="transformer")


def nested():
    """A model inside, run twice, of which inputs and outputs shrink."""
    block = keras.Sequential(
        [keras.Input((8,)), layers.Dense(12, activation="relu", name="one"), layers.Dense(8, name="two")], name="block"
    )
    x = keras.Input((4,))
    h = layers.Dense(8, activation="relu", name="stem")(x)
    h = layers.Add()([block(h), h])
    return keras.Model(x, layers.Dense(5, name="head")(block(h)), name="nested")


def perceptron():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, activation="sigmoid", name="body"), layers.Dense(5, name="head")],
        name="perceptron",
    )


MODELS = {made.__name__: made for made in (residual, concatenated, grouped, sequences, transformer, nested, perceptron)}


def randomized(model, *, kernels=True):
    """The model with weights that are all different; without kernels, only those that are vectors."""
    rng = np.random.default_rng(1)
    for weight in weights_by_name(model).values():
        if (len(weight.shape) > 1 and not kernels) or weight.name in ("mean", "variance", "count"):
            continue  # the last are those of Normalization, which reads them once
        low = 0.5 if weight.name in ("gamma", "scale", "moving_variance") else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))
    return model


def examples(model, count=4):
    rng = np.random.default_rng(2)
    shape = (count, *(size or 6 for size in model.inputs[0].shape[1:]))  # 6 for a size that is open
    is_text = "int" in model.inputs[0].dtype
    return rng.integers(0, 30, shape) if is_text else rng.normal(size=shape).astype("float32")


def masked(model, small):
    """The model with every element of a weight set to zero that the smaller model does not have.

    Found by value, so that nothing is taken over from the code under test.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    others = weights_by_name(small)
    for name, weight in weights_by_name(copy).items():
        value, kept = ops.convert_to_numpy(weight), ops.convert_to_numpy(others[name])
        stays = np.isin(value, kept)
        assert np.array_equal(value[stays], kept.ravel()), name  # all of them, in their order
        weight.assign(np.where(stays, value, 0))
    return copy


def assert_equals_masked(model, **settings):
    """Prunes at random, compares with the masked model, and returns the smaller one."""
    small = ChannelPruning(score="random", **settings).apply(model, verbose=False)
    x = examples(model)
    pairs = zip(keras.tree.flatten(masked(model, small)(x)), keras.tree.flatten(small(x)), strict=True)
    for expected, made in pairs:
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert small.count_params() < model.count_params()
    return small
