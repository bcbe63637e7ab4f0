"""The transforms that a recipe makes from its `compress` items."""

import keras
import numpy as np
import pytest

from keras_kd.compression import sparsity
from keras_kd.recipes.compressing import make_transform
from keras_kd.recipes.reading.schema import Pruning


@pytest.mark.parametrize("total_steps", [1, 2, 3, 50])
def test_pruning_reaches_its_sparsity_in_a_training_of_any_length(total_steps):
    settings = Pruning(name="pruning", epochs=1, sparsity=0.75)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    sparse = make_transform(settings, total_steps).apply(model, verbose=False)
    for _ in range(total_steps):
        sparse(np.ones((1, 4)), training=True)
    assert list(sparsity(sparse).values()) == [0.75]
