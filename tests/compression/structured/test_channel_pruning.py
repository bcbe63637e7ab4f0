"""A smaller model equals the original with the removed channels at zero, in every way that channels take."""

import keras
import numpy as np
import pytest
from prunable import MODELS, examples, masked, randomized

from keras_kd.compression import ChannelPruning, operations


@pytest.fixture(params=MODELS)
def model(request):
    return randomized(MODELS[request.param]())


def channels(report):
    return {row.layers: (row.before, row.after) for row in report.rows}


def test_the_output_is_that_of_the_model_with_the_removed_channels_at_zero(model, tmp_path):
    x = examples(model)
    prune = ChannelPruning(operations=0.6)
    weights, report = [w.copy() for w in model.get_weights()], prune.report(model)
    small = prune.apply(model, verbose=False)
    expected, made = masked(model, small)(x), small(x)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(made) - np.asarray(model(x))).max() > 1e-3
    # what the report says is what happened
    assert operations(small) == report.after <= 0.6 * report.before == 0.6 * operations(model)
    assert all(np.array_equal(one, other) for one, other in zip(weights, model.get_weights(), strict=True))
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert {type(layer).__module__.split(".")[0] for layer in small.layers} == {"keras"}
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "small.keras")(x), made)
