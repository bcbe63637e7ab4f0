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
