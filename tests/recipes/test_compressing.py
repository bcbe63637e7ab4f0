"""The transforms that a recipe makes from its `compress` items."""

import keras
import numpy as np
import pytest

from keras_kd.compression import sparsity
from keras_kd.recipes.compressing import keeps_ranges, make_transform, title_of
from keras_kd.recipes.reading.schema import Pruning, QuantizationAware


@pytest.mark.parametrize("total_steps", [1, 2, 3, 50])
def test_pruning_reaches_its_sparsity_in_a_training_of_any_length(total_steps):
    settings = Pruning(name="pruning", epochs=1, sparsity=0.75)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    sparse = make_transform(settings, total_steps).apply(model, verbose=False)
    for _ in range(total_steps):
        sparse(np.ones((1, 4)), training=True)
    assert list(sparsity(sparse).values()) == [0.75]


@pytest.mark.parametrize(
    "settings, found, title",
    [
        ({"sparsity": {"a": 0.5}}, {"a/kernel": 0.5}, "pruned, by layer"),
        ({"sparsity": 0.5, "scope": "global"}, {"a/kernel": 0.0, "b/kernel": 15 / 16}, "pruned 50%, global"),
        ({"sparsity": 0.75, "score": "movement"}, {"a/kernel": 0.75, "b/kernel": 0.75}, "pruned 75%, movement"),
        ({"pattern": "2:4"}, {"a/kernel": 0.5, "b/kernel": 0.5}, "pruned, 2:4"),
    ],
)
def test_settings_of_pruning(settings, found, title):
    step = Pruning(name="pruning", epochs=1, **settings)
    a, b = keras.layers.Dense(4, name="a"), keras.layers.Dense(4, name="b")
    model = keras.Sequential([keras.Input((4,)), a, b])
    a.kernel.assign(np.full((4, 4), 2.0))
    b.kernel.assign(np.full((4, 4), 1.0))
    sparse = make_transform(step, 4).apply(model, verbose=False)
    for _ in range(4):
        sparse(np.ones((1, 4)), training=True)
    assert sparsity(sparse) == found and title_of(step) == title


@pytest.mark.parametrize(
    "settings, title",
    [
        ({}, "quantization-aware"),
        ({"bits": 4, "activation_bits": 16}, "quantization-aware, 4-bit weights, 16-bit activations"),
        ({"algorithm": "lsq"}, "quantization-aware, learned steps"),
    ],
)
def test_settings_of_quantization_aware_training(settings, title):
    step = QuantizationAware(name="quantization_aware", epochs=1, skip=("b",), **settings)
    aware = make_transform(step, 50)
    assert (aware.freeze, aware.skip, title_of(step), keeps_ranges(step)) == (40, ("b",), title, True)
    assert make_transform(step, 1).freeze == 1
