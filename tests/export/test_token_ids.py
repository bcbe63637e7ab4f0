"""Token ids stay integers from the samples to the runner."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import KerasRunner, TFLiteRunner
from keras_kd.export import export_tflite

layers = keras.layers
VOCABULARY = 70_000  # float16 does not hold every id


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(VOCABULARY, 4, embeddings_initializer="normal")(ids))
    return keras.Model(ids, layers.Dense(3, name="scores")(layers.Dense(8, activation="relu")(x)))


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(VOCABULARY - 2000, VOCABULARY, (60, 6))


@pytest.fixture(scope="module", params=["float32", "int8"])
def exported(request, model, ids, tmp_path_factory):
    path = tmp_path_factory.mktemp("ids") / "net.tflite"
    calibration = (ids[start : start + 20] for start in range(0, 60, 20))
    return export_tflite(model, path, format=request.param, calibration=calibration, samples=ids, isolate=False)


def test_the_file_takes_integers_and_is_compared_on_them(exported):
    (tensor,) = litert.Model(exported.path).inputs.values()
    assert (tensor.name, tensor.dtype, tensor.is_quantized) == ("ids", np.int32, False)
    assert exported.num_samples == 60 and not exported.samples_are_random
    assert exported.max_difference < {"float32": 1e-5, "int8": 0.01}[exported.format]
    assert exported.agreement > 0.9


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32"])
def test_runners_take_integers_of_any_size(dtype, exported, model, ids):
    expected = model.predict(ids, verbose=0)
    np.testing.assert_allclose(KerasRunner(model).predict(ids.astype(dtype)), expected, atol=1e-6)
    output = TFLiteRunner(exported.path).predict(ids.astype(dtype))
    np.testing.assert_allclose(output, expected, atol=max(2 * exported.max_difference, 1e-6))


def test_prepared_ids_are_integers(exported, ids):
    (content,) = litert.Model(exported.path).encode(ids[:1])[0].values()
    assert content.dtype == np.int32 and content.tolist() == ids[:1].tolist()
    runner = TFLiteRunner(exported.path)
    assert runner.run(runner.prepare(ids[:1])).shape == (1, 3)


def test_floating_point_ids_are_refused(exported, model, ids, tmp_path):
    with pytest.raises(ConfigurationError, match="'ids' takes whole numbers. Received: float32"):
        TFLiteRunner(exported.path).predict(ids.astype("float32"))
    with pytest.raises(ConfigurationError, match="'samples' has a dtype that input 'ids' does not take"):
        export_tflite(model, tmp_path / "net.tflite", samples=ids.astype("float32"), isolate=False)
