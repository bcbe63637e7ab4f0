"""Padding under a Keras mask is ignored, whether a token model ends in logits or in probabilities."""

import keras
import numpy as np
import pytest

import keras_kd as kd

layers = keras.layers
TOKENS = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 0, 0, 0, 0]])


def model(seed, activation=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,), dtype="int32")
    wide = keras.initializers.RandomNormal(stddev=2.0, seed=seed)
    x = layers.Embedding(10, 8, wide, mask_zero=True)(inputs)
    x = layers.LSTM(8, return_sequences=True)(x)
    return keras.Model(inputs, layers.Dense(4, activation=activation, kernel_initializer=wide)(x))


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_the_soft_targets_of_padding_do_not_count(activation, run_eagerly):
    teacher, student = (log_softmax(model(seed)(TOKENS)) for seed in (1, 2))
    divergence = (np.exp(teacher) * (teacher - student)).sum(-1)
    expected = np.mean([row[tokens != 0].mean() for row, tokens in zip(divergence, TOKENS, strict=True)])
    distiller = kd.Distiller(model(1, activation), model(2, activation), alpha=1.0, temperature=1.0)
    distiller.compile("sgd", run_eagerly=run_eagerly)
    assert distiller.train_on_batch(TOKENS, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-3)
    assert divergence.mean() != pytest.approx(expected, rel=1e-2)
