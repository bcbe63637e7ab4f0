"""The pairs of layers that are proposed for models of many kinds."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.features.matching import LayerPair, match_layers
from keras_kd.losses import Hint


def build(name, size=32):
    shape = (8, 8, 1) if size == 8 else (size, size, 3)
    return kd.models.build(name, input_shape=shape, num_classes=10)


def names(pairs):
    return [(pair.teacher, pair.student) for pair in pairs]


@pytest.fixture(scope="module")
def mobilenet():
    return keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def resnet20():
    return build("resnet20")


def test_the_digits_pair_by_stage():
    pairs = match_layers(build("digits_teacher", 8), build("digits_student", 8))
    assert names(pairs) == [("block_1_out", "block_1_relu"), ("block_2_out", "block_4_relu"), ("pool", "pool")]
    assert pairs[1] == LayerPair("block_2_out", "block_4_relu", (None, 4, 4, 64), (None, 4, 4, 24))


def test_prints_as_a_table():
    pairs = match_layers(build("digits_teacher", 8), build("digits_student", 8))
    assert repr(pairs) == "\n".join(
        [
            "teacher      student       teacher shape     student shape",
            "-----------  ------------  ----------------  ----------------",
            "block_1_out  block_1_relu  (None, 8, 8, 32)  (None, 8, 8, 8)",
            "block_2_out  block_4_relu  (None, 4, 4, 64)  (None, 4, 4, 24)",
            "pool         pool          (None, 128)       (None, 24)",
        ]
    )


def test_residual_stages_are_spoken_for_by_their_last_relu(resnet20):
    pairs = match_layers(build("resnet32x4"), resnet20)
    assert names(pairs) == [(name, name) for name in ("stage_1", "stage_2", "stage_3", "pool")]


def test_models_of_other_depths_pair_where_the_size_is_the_same(mobilenet, resnet20):
    pairs = match_layers(mobilenet, resnet20)
    assert names(pairs) == [
        ("block_1_expand_relu", "stage_2"),
        ("block_3_expand_relu", "stage_3"),
        (mobilenet.layers[-2].name, "pool"),
    ]
    assert names(match_layers(resnet20, mobilenet)) == [(s, t) for t, s in names(pairs)]


def test_a_nested_backbone_is_looked_into(resnet20):
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(32, 32, 3), name="body")
    pool = layers.GlobalAveragePooling2D(name="pool")
    body = [keras.Input((32, 32, 3)), layers.Rescaling(2.0), backbone, pool, layers.Dropout(0.1), layers.Dense(10)]
    pairs = match_layers(keras.Sequential(body), resnet20)
    assert names(pairs) == [
        ("body/block_1_expand_relu", "stage_2"),
        ("body/block_3_expand_relu", "stage_3"),
        ("pool", "pool"),
    ]


def plain(*sizes, size=16):
    """A convolution with ReLU for each size of the map, and nothing below the logits."""
    x = inputs = keras.Input((size, size, 1))
    for number, wanted in enumerate(sizes):
        x = layers.Conv2D(3, 1, strides=x.shape[1] // wanted, name=f"conv_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
        x = layers.ZeroPadding2D(((0, 0), (0, 0)), name=f"pad_{number}")(layers.Dropout(0.1)(x))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def test_dropout_and_padding_do_not_speak_for_a_stage_and_a_flattened_map_is_no_vector():
    assert names(match_layers(plain(8, 4), plain(8, 4))) == [("relu_0", "relu_0"), ("relu_1", "relu_1")]


def test_sizes_count_relative_to_the_input():
    assert names(match_layers(plain(16, 8, size=32), plain(8, 4))) == [("relu_0", "relu_0"), ("relu_1", "relu_1")]


def test_what_has_no_equal_goes_to_the_nearest_in_order():
    pairs = match_layers(plain(16, 8, 1), plain(8, 2))  # halved 0, 1 and 4 times; 1 and 3 times
    assert names(pairs) == [("relu_1", "relu_0"), ("relu_2", "relu_1")]
    assert names(match_layers(plain(8, 4), plain(16, 8))) == [("relu_0", "relu_1")]  # 0 cannot go below 1


def test_the_end_of_a_residual_block_goes_before_the_start_of_the_next():
    x = inputs = keras.Input((8, 8, 2))
    x = layers.ReLU(name="block_1")(layers.Add()([x, layers.Conv2D(2, 1)(x)]))
    y = layers.ReLU(name="inside_block_2")(layers.Conv2D(6, 1)(x))  # still 8x8
    y, x = layers.Conv2D(4, 3, strides=2, padding="same")(y), layers.Conv2D(4, 1, strides=2)(x)
    model = keras.Model(inputs, layers.ReLU(name="block_2")(layers.Add()([x, y])))
    assert names(match_layers(model, model)) == [("block_1", "block_1"), ("block_2", "block_2")]


def test_the_gate_of_a_squeeze_and_excitation_is_no_stage():
    inputs = keras.Input((8, 8, 4))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
    gate = layers.Activation("sigmoid", name="gate")(layers.Conv2D(4, 1)(gate))
    model = keras.Model(inputs, layers.ReLU(name="out")(layers.Multiply()([inputs, gate])))
    assert names(match_layers(model, model)) == [("out", "out")]


def test_a_size_that_is_not_fixed_is_asked_for():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.ReLU(name="relu")(layers.Conv2D(3, 3, 2, "same")(inputs)))
    with pytest.raises(ConfigurationError, match="no comparable layers.*input_shape"):
        match_layers(model, model)
    (pair,) = match_layers(model, model, input_shape=(None, 8, 8, 1))
    assert pair == LayerPair("relu", "relu", (None, 4, 4, 3), (None, 4, 4, 3))


# Sequences.


class Block(layers.Layer):
    def __init__(self, width, **settings):
        super().__init__(**settings)
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.norm = layers.LayerNormalization()
        self.dense = layers.Dense(width)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(self.norm(x + self.attention(x, x)))


def transformer(width, depth, *, nested, tokens=4):
    x = inputs = keras.Input((tokens,), dtype="int32")
    x = layers.Embedding(9, width, name="embedding")(x)
    for number in range(1, depth + 1):
        if nested:
            x = Block(width, name=f"block_{number}")(x)
        else:
            attended = layers.MultiHeadAttention(2, width // 2, name=f"attention_{number}")(x, x)
            x = layers.LayerNormalization(name=f"middle_{number}")(x + attended)
            x = layers.LayerNormalization(name=f"end_{number}")(x + layers.Dense(width)(x))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


@pytest.mark.parametrize("tokens", [4, None])
def test_transformers_pair_block_by_block(tokens):
    pairs = match_layers(transformer(8, 4, nested=True, tokens=tokens), transformer(4, 2, nested=False, tokens=tokens))
    assert names(pairs) == [("block_2", "end_1"), ("block_4", "end_2"), ("pool", "pool")]
    assert pairs[0].teacher_shape == (None, tokens, 8)


def test_sequences_of_other_lengths_are_left_out():
    pairs = match_layers(transformer(8, 2, nested=True, tokens=6), transformer(4, 2, nested=False))
    assert names(pairs) == [("pool", "pool")]


def test_a_convolutional_teacher_of_a_transformer_leaves_the_vector():
    assert names(match_layers(build("digits_teacher", 8), transformer(4, 1, nested=False))) == [("pool", "pool")]


def test_nothing_in_common_is_said():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ConfigurationError, match="no comparable layers"):
        match_layers(model, model)


@pytest.mark.parametrize("kind", ["maps", "sequences"])
def test_every_pair_is_a_hint(kind, digits):
    if kind == "maps":
        teacher, student, x = build("digits_teacher", 8), build("digits_student", 8), digits[0][:3]
    else:
        teacher, student = transformer(8, 4, nested=True), transformer(4, 2, nested=False)
        x = np.array([[1, 2, 3, 0], [4, 5, 6, 7], [8, 0, 0, 0]])
    losses = [Hint(teacher=pair.teacher, student=pair.student) for pair in match_layers(teacher, student)]
    with pytest.warns(kd.errors.Notice, match="Projectors"):
        distiller = kd.Distiller(teacher, student, losses=losses)
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logs = distiller.fit(x, np.array([0, 1, 2]), verbose=0).history
    assert len(losses) == 3 and all(np.isfinite(logs[loss.name]) for loss in losses)
