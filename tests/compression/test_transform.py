"""What all techniques share: which layers they find, and what `apply` refuses."""

import keras
import numpy as np
import pytest
from compressible import nested

import keras_kd as kd
from keras_kd.compression import Clustering, Pruning, QuantizationAware, chain
from keras_kd.compression.transform import graph_layers


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "transform", [Pruning(0.5), Clustering(4), QuantizationAware(), chain(Pruning(0.5), QuantizationAware())]
)
def test_weights_that_are_not_numbers(transform, value):
    model = nested()
    kernel = model.get_layer("head").kernel
    kernel.assign(np.full(kernel.shape, value))
    with pytest.raises(kd.errors.ConfigurationError, match="'head' cannot be compressed.*that are NaN or infinite"):
        transform.apply(model)


def test_runs_of_a_layer_that_several_models_share():
    """`inner` runs alone once, in `outer` once, and in each of the two runs of `outer` as a part of `twice`."""
    inner, image = keras.layers.Dense(8, name="inner"), keras.Input((8,))
    outer = keras.Sequential([keras.Input((8,)), inner, keras.layers.ReLU(name="relu")], name="outer")
    twice = keras.Sequential([keras.Input((8,)), outer, outer], name="twice")
    model = keras.Model(image, twice(outer(inner(image))))
    assert {path: runs for path, _, runs in graph_layers(model)} == {"inner": 4, "outer/relu": 3}
    sparse = Pruning(0.5).apply(model, verbose=False)
    sparse(np.zeros((1, 8)), training=True)
    mask = sparse.get_layer("inner").reparametrizations["kernel"]
    assert int(mask.step) == mask.calls == 4


def test_what_a_technique_learns_is_frozen_with_its_layer(tmp_path):
    model = nested()
    model.get_layer("head").trainable = False
    aware = QuantizationAware(algorithm="lsq").apply(model, verbose=False)
    aware.save(tmp_path / "aware.keras")
    for one in (aware, keras.models.load_model(tmp_path / "aware.keras")):
        assert not one.get_layer("head").trainable_weights
        assert any(weight.name == "step_size" for weight in one.trainable_weights)
