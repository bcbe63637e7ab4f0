"""What a model ends in, and its logits out of the same forward pass."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.features import find_heads, forward, output_shapes
from keras_kd.features.logits import logits_from_probabilities

L = keras.layers


def sequential(*body):
    return keras.Sequential([keras.Input((4,)), *body])


def functional(make):
    x = keras.Input((4,))
    return keras.Model(x, make(x))


@keras.saving.register_keras_serializable("test_logits")
class Opaque(keras.Layer):
    def call(self, x):
        return keras.ops.softmax(x)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(x)


MODELS = {
    "linear": (lambda: sequential(L.Dense(3)), "linear"),
    "relu": (lambda: sequential(L.Dense(3, activation="relu")), "linear"),
    "softmax": (lambda: sequential(L.Dense(3, activation="softmax")), "softmax"),
    "sigmoid": (lambda: sequential(L.Dense(1, activation="sigmoid")), "sigmoid"),
    "softmax layer": (lambda: sequential(L.Dense(3), L.Softmax()), "softmax"),
    "activation layer": (lambda: sequential(L.Dense(3), L.Activation("softmax")), "softmax"),
    "function": (lambda: functional(lambda x: keras.activations.softmax(L.Dense(3)(x))), "softmax"),
    "operation": (lambda: functional(lambda x: keras.ops.softmax(L.Dense(3)(x))), "softmax"),
    "sigmoid operation": (lambda: functional(lambda x: keras.ops.sigmoid(L.Dense(3)(x))), "sigmoid"),
    "then a cast": (
        lambda: functional(lambda x: keras.ops.cast(L.Dense(3, activation="softmax")(x), "float32")),
        "softmax",
    ),
    "then a linear activation": (
        lambda: sequential(L.Dense(3, activation="softmax"), L.Activation("linear", dtype="float32")),
        "softmax",
    ),
    "nested": (lambda: sequential(sequential(L.Dense(3, activation="softmax"))), "softmax"),
    "sum of two": (lambda: functional(lambda x: L.Add()([L.Dense(3)(x), L.Dense(3)(x)])), "linear"),
    "batch norm": (lambda: sequential(L.Dense(3), L.BatchNormalization()), "linear"),
}
INVERSE = {
    "linear": lambda z: z,
    "softmax": lambda z: scipy.special.softmax(z, -1),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def case(request):
    make, activation = request.param
    return make(), activation


def test_the_last_activation_is_found(case):
    model, activation = case
    assert [head.activation for head in find_heads(model).values()] == [activation]


@pytest.mark.parametrize("compiled", [False, True])
def test_outputs_stay_and_logits_lead_to_them(case, compiled):
    model, activation = case
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32") * 4
    expected = model(x, training=False)
    heads = find_heads(model)
    call = tf.function(lambda x: forward(model, heads, x, training=False)) if compiled else None
    outputs, logits, _ = call(x) if compiled else forward(model, heads, x, training=False)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    recovered = INVERSE[activation](np.asarray(logits["output"], "float64"))
    np.testing.assert_allclose(recovered, expected, rtol=1e-5, atol=1e-7)


def test_logits_beyond_what_probabilities_can_hold_are_exact():
    model = sequential(L.Dense(4, activation="softmax", kernel_initializer="identity"))
    z = np.float32([[300.0, -300.0, 0.0, 5.0]])
    _, logits, _ = forward(model, find_heads(model), z)
    np.testing.assert_array_equal(logits["output"], z)


def test_the_model_is_left_as_it_was():
    for make in (lambda: sequential(L.Dense(3, activation="softmax")), lambda: sequential(L.Dense(3), L.Softmax())):
        model = make()
        before = {name: value for name, value in vars(model.layers[-1]).items() if name in ("activation", "call")}
        forward(model, find_heads(model), np.zeros((1, 4), "float32"))
        after = {name: value for name, value in vars(model.layers[-1]).items() if name in ("activation", "call")}
        assert after == before


def test_several_outputs_by_name():
    model = functional(lambda x: {"b": L.Dense(3, activation="softmax")(x), "a": [L.Dense(2)(x), L.Dense(5)(x)]})
    heads = find_heads(model)
    assert {name: head.activation for name, head in heads.items()} == {"a/0": "linear", "a/1": "linear", "b": "softmax"}
    assert output_shapes(model) == {"a/0": (None, 2), "a/1": (None, 5), "b": (None, 3)}
    _, logits, _ = forward(model, heads, np.zeros((2, 4), "float32"))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"a/0": (2, 2), "a/1": (2, 5), "b": (2, 3)}


def over(shape, *body):
    return keras.Sequential([keras.Input(shape), *body])


def graph(shape, make):
    x = keras.Input(shape)
    return keras.Model(x, make(x))


@keras.saving.register_keras_serializable("test_heads")
class Untouched(L.Dense):
    """A subclass that leaves `call` as it is."""


@keras.saving.register_keras_serializable("test_heads")
class Rewritten(L.Dense):
    def call(self, x):
        return keras.ops.softmax(super().call(x))


@keras.saving.register_keras_serializable("test_heads")
class OnTop(keras.Model):
    """A Functional model with a `call` of its own."""

    def call(self, x):
        return keras.ops.softmax(super().call(x))


def softmax_maps():
    return L.Conv2D(3, 1, activation="softmax")


IMAGE, STEPS, VECTOR = (4, 6, 2), (5, 4), (4,)
BEHIND = {
    # wrappers
    "time distributed": (lambda: over(STEPS, L.TimeDistributed(L.Dense(3, activation="softmax"))), "softmax"),
    "time distributed, linear": (lambda: over(STEPS, L.TimeDistributed(L.Dense(3))), "linear"),
    "time distributed sigmoid layer": (
        lambda: over(STEPS, L.Dense(1), L.TimeDistributed(L.Activation("sigmoid"))),
        "sigmoid",
    ),
    "time distributed dropout": (
        lambda: over(STEPS, L.Dense(3, activation="softmax"), L.TimeDistributed(L.Dropout(0.5))),
        "softmax",
    ),
    "time distributed model": (
        lambda: over(STEPS, L.TimeDistributed(sequential(L.Dense(3, activation="softmax")))),
        "softmax",
    ),
    "time distributed, twice": (
        lambda: over((2, 5, 4), L.TimeDistributed(L.TimeDistributed(L.Dense(3, activation="softmax")))),
        "softmax",
    ),
    "spectral normalization": (
        lambda: over(VECTOR, L.SpectralNormalization(L.Dense(3, activation="softmax"))),
        "softmax",
    ),
    "spectral normalization, linear": (lambda: over(VECTOR, L.SpectralNormalization(L.Dense(3))), "linear"),
    "bidirectional": (lambda: over(STEPS, L.Bidirectional(L.LSTM(3, return_sequences=True))), "linear"),
    "recurrent": (lambda: over(STEPS, L.GRU(3)), "linear"),
    "recurrent softmax": (lambda: over(STEPS, L.SimpleRNN(3, activation="softmax")), "softmax"),
    # activations
    "tensorflow's function": (lambda: over(VECTOR, L.Dense(3, activation=tf.nn.softmax)), "softmax"),
    "a layer as activation": (lambda: over(VECTOR, L.Dense(3, activation=L.Softmax())), "softmax"),
    "log-softmax": (lambda: over(VECTOR, L.Dense(3, activation="log_softmax")), "linear"),
    "a subclass without a call": (lambda: over(VECTOR, Untouched(3, activation="softmax")), "softmax"),
    # behind a softmax
    "global pooling": (lambda: over(IMAGE, softmax_maps(), L.GlobalAveragePooling2D()), "softmax"),
    "pooling": (lambda: over(IMAGE, softmax_maps(), L.AveragePooling2D(2)), "softmax"),
    "upsampling": (lambda: over(IMAGE, softmax_maps(), L.UpSampling2D(2, interpolation="bilinear")), "softmax"),
    "mean over positions": (
        lambda: graph(IMAGE, lambda x: keras.ops.mean(softmax_maps()(x), axis=(1, 2))),
        "softmax",
    ),
    "reshape of positions": (lambda: over(IMAGE, softmax_maps(), L.Reshape((24, 3))), "softmax"),
    "permute of positions": (lambda: over(IMAGE, softmax_maps(), L.Permute((2, 1, 3))), "softmax"),
    "transpose of positions": (
        lambda: graph(IMAGE, lambda x: keras.ops.transpose(softmax_maps()(x), (0, 2, 1, 3))),
        "softmax",
    ),
    "flatten of one position": (
        lambda: over((1, 1, 2), softmax_maps(), L.Flatten()),
        "softmax",
    ),
    "average of two": (
        lambda: graph(VECTOR, lambda x: L.Average()([L.Dense(3, "softmax")(x), L.Dense(3, "softmax")(x)])),
        "softmax",
    ),
    "noise": (lambda: over(VECTOR, L.Dense(3, activation="softmax"), L.GaussianNoise(0.1)), "softmax"),
    "nested, with the reshape in another model": (
        lambda: over(IMAGE, over(IMAGE, softmax_maps()), over((4, 6, 3), L.Reshape((24, 3)))),
        "softmax",
    ),
    # behind a sigmoid, each output for itself
    "flatten of sigmoids": (lambda: over(IMAGE, L.Conv2D(3, 1, activation="sigmoid"), L.Flatten()), "sigmoid"),
    "largest of sigmoids": (
        lambda: over(IMAGE, L.Conv2D(3, 1, activation="sigmoid"), L.GlobalMaxPooling2D()),
        "sigmoid",
    ),
    "one of the sigmoids": (
        lambda: graph(VECTOR, lambda x: L.Dense(3, activation="sigmoid")(x)[:, :2]),
        "sigmoid",
    ),
    "sigmoids side by side": (
        lambda: graph(VECTOR, lambda x: L.Concatenate()([L.Dense(1, "sigmoid")(x), L.Dense(2, "sigmoid")(x)])),
        "sigmoid",
    ),
    # logits all the way
    "pooled logits": (lambda: over(IMAGE, L.Conv2D(3, 1), L.GlobalAveragePooling2D()), "linear"),
    "flat logits": (lambda: over(IMAGE, L.Conv2D(3, 1), L.Flatten()), "linear"),
    "scaled logits": (lambda: over(VECTOR, L.Dense(3), L.Rescaling(0.1)), "linear"),
    "logits over a temperature": (lambda: graph(VECTOR, lambda x: L.Dense(3)(x) / 2.0), "linear"),
    "attention": (lambda: graph(STEPS, lambda x: L.MultiHeadAttention(2, 3)(x, x)), "linear"),
    "embedding": (lambda: over((5,), L.Embedding(4, 3)), "linear"),
}


@pytest.fixture(params=BEHIND.values(), ids=BEHIND.keys())
def behind(request):
    make, activation = request.param
    return make(), activation


def test_an_activation_is_found_behind_what_leaves_it_one(behind):
    model, activation = behind
    assert [head.activation for head in find_heads(model).values()] == [activation]


@pytest.mark.parametrize("compiled", [False, True])
def test_logits_from_behind_lead_to_the_outputs(behind, compiled):
    model, activation = behind
    x = np.random.default_rng(0).uniform(size=(2, *model.input_shape[1:])).astype("float32") * 3
    heads, expected = find_heads(model), model(x, training=False)
    run = tf.function(lambda x: forward(model, heads, x)) if compiled else lambda x: forward(model, heads, x)
    outputs, logits, _ = run(x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-7)
    recovered = INVERSE[activation](np.asarray(logits["output"], "float64"))
    np.testing.assert_allclose(recovered, expected, rtol=1e-4, atol=1e-6)


def half(x):
    return keras.ops.softmax(x / 2)


UNKNOWN = {
    "a lambda as activation": lambda: over(VECTOR, L.Dense(3, activation=lambda x: keras.ops.softmax(x))),
    "a function as activation": lambda: over(VECTOR, L.Dense(3, activation=half)),
    "a lambda in a wrapper": lambda: over(STEPS, L.TimeDistributed(L.Dense(3, activation=lambda x: half(x)))),
    "a layer of one's own in a wrapper": lambda: over(STEPS, L.TimeDistributed(Rewritten(3))),
    "a Lambda in a wrapper": lambda: over(STEPS, L.Dense(3), L.TimeDistributed(L.Lambda(half))),
    "a call of one's own": lambda: over(VECTOR, Rewritten(3)),
    "a call on top of the graph": lambda: OnTop(*(lambda x: (x, L.Dense(3)(x)))(keras.Input(VECTOR))),
    "a bidirectional softmax": lambda: over(STEPS, L.Bidirectional(L.SimpleRNN(3, activation="softmax"))),
    "an LSTM's softmax": lambda: over(STEPS, L.LSTM(3, activation="softmax")),
    "a cell of one's own": lambda: over(STEPS, L.RNN(type("Cell", (L.SimpleRNNCell,), {"call": lambda s, x, h: x})(4))),
    "hard sigmoid": lambda: over(VECTOR, L.Dense(3, activation="hard_sigmoid")),
    "exponential": lambda: over(VECTOR, L.Dense(3, activation="exponential")),
    "softmax over another axis": lambda: over((3, 4), L.Dense(3), L.Softmax(axis=1)),
    "largest of softmaxes": lambda: over(IMAGE, softmax_maps(), L.GlobalMaxPooling2D()),
    "flatten over positions": lambda: over(IMAGE, softmax_maps(), L.Flatten()),
    "reshape across classes": lambda: over(IMAGE, softmax_maps(), L.Reshape((12, 6))),
    "permute of classes": lambda: over((3, 2, 2), softmax_maps(), L.Permute((3, 2, 1))),
    "padding": lambda: over(IMAGE, softmax_maps(), L.ZeroPadding2D(1)),
    "scaled probabilities": lambda: over(VECTOR, L.Dense(3, activation="softmax"), L.Rescaling(2.0)),
    "rectified probabilities": lambda: over(VECTOR, L.Dense(3, activation="softmax"), L.PReLU()),
    "clipped probabilities": lambda: graph(
        VECTOR, lambda x: keras.ops.clip(L.Dense(3, activation="softmax")(x), 1e-6, 1.0)
    ),
    "some of the classes": lambda: graph(VECTOR, lambda x: L.Dense(3, activation="softmax")(x)[:, :2]),
    "sum of probabilities": lambda: graph(VECTOR, lambda x: L.Add()([L.Dense(3, "softmax")(x)] * 2)),
    "average of two kinds": lambda: graph(
        VECTOR, lambda x: L.Average()([L.Dense(3, "softmax")(x), L.Dense(3, "sigmoid")(x)])
    ),
    "softmaxes side by side": lambda: graph(
        VECTOR, lambda x: L.Concatenate()([L.Dense(3, "softmax")(x), L.Dense(3, "softmax")(x)])
    ),
    "a softmax by hand": lambda: graph(
        VECTOR, lambda x: (lambda e: e / keras.ops.sum(e, -1, keepdims=True))(keras.ops.exp(L.Dense(3)(x)))
    ),
    "numbers over their sum": lambda: graph(
        VECTOR, lambda x: (lambda e: e / keras.ops.sum(e, -1, keepdims=True))(L.Dense(3, "relu")(x))
    ),
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_nothing_is_guessed_behind_what_changes_probabilities(make):
    with pytest.raises(ConfigurationError, match="logits or in probabilities.*student_outputs"):
        find_heads(make(), role="student")


def test_the_layer_that_decides_is_named():
    with pytest.raises(ConfigurationError, match=r"a Sequential that ends in 'top' \(Dense\)"):
        find_heads(over(VECTOR, L.Dense(3, activation=half, name="top")))
    with pytest.raises(ConfigurationError, match="a Subclassed without a graph of layers"):
        find_heads(Subclassed())


def test_a_softmax_with_a_mask_is_read_from_its_output():
    x, mask = keras.Input((3,)), keras.Input((3,), dtype="bool")
    model = keras.Model([x, mask], L.Softmax()(L.Activation("linear")(x), mask=mask))
    inputs = [np.float32([[1, 2, 3]]), np.array([[True, True, False]])]
    outputs, logits, _ = forward(model, find_heads(model), inputs)
    np.testing.assert_allclose(scipy.special.softmax(logits["output"], -1), outputs, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(L.Dense(3), Opaque()),
        Subclassed,
        lambda: functional(lambda x: L.Average()([L.Dense(3, activation="softmax")(x), L.Dense(3)(x)])),
    ],
)
def test_where_it_cannot_be_known_the_user_is_asked(make):
    with pytest.raises(ConfigurationError, match="logits or in probabilities.*student_outputs"):
        find_heads(make(), role="student")
    assert all(head.is_logits for head in find_heads(make(), "logits").values())
    heads = find_heads(make(), "probabilities")
    assert not any(head.is_logits for head in heads.values())


def test_probabilities_of_a_subclassed_model_become_logits():
    model = Subclassed()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    outputs, logits, _ = forward(model, find_heads(model, "probabilities"), x)
    np.testing.assert_allclose(INVERSE["softmax"](np.asarray(logits["output"])), outputs, rtol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_of_0_and_1_give_finite_logits(activation):
    logits = np.asarray(logits_from_probabilities(np.float32([[0.0, 1.0]]), activation))
    assert np.isfinite(logits).all() and logits[0, 1] > logits[0, 0] + 80


def test_a_wrong_word_is_refused():
    with pytest.raises(ConfigurationError, match="'logit'.*'logits', 'probabilities'"):
        find_heads(sequential(L.Dense(3)), "logit")
