"""Export from a JAX process gives the same file as TensorFlow from the saved model."""

import json
import os
import subprocess
import sys

import numpy as np

from keras_kd import litert

SCRIPT = """
import json, sys
import keras, numpy as np
import keras_kd as kd
from keras_kd.evaluation import KerasRunner, TFLiteRunner

sys.path.insert(0, sys.argv[1])
import own_layers  # a class that the child has to find

folder, results = sys.argv[1], {}
assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
image = keras.Input((8, 8, 1), name="image")
x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
x = own_layers.Doubled()(keras.layers.Flatten()(x))
net = keras.Model(image, {"scores": keras.layers.Dense(5)(x)})
images = np.random.default_rng(0).random((20, 8, 8, 1), dtype="float32")

ids = keras.Input((6,), dtype="int32", name="ids")
x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(70_000, 4)(ids))
words = keras.Model(ids, keras.layers.Dense(3, name="scores")(x))
numbers = np.random.default_rng(0).integers(0, 70_000, (20, 6))

with kd.export.Converter() as converter:
    for name, model, data, form in (("net", net, images, "int8"), ("words", words, numbers, "float32")):
        path = f"{folder}/{name}.tflite"
        result = kd.export.export_tflite(model, path, format=form, calibration=data, converter=converter)
        (expected,) = keras.tree.flatten(model(data))
        error = np.abs(TFLiteRunner(path).predict(data) - np.asarray(expected))
        results[name] = [result.max_difference, float(error.max())]
    both = {"scores": net, "body": keras.Model(image, net.layers[1].output)}
    path = f"{folder}/both.tflite"
    found = kd.export.export_signatures(both, path, format="int8", calibration=images, converter=converter)
    output = TFLiteRunner(path, signature="body").predict(images)
    results["both"] = [found["body"].max_difference, float(np.abs(output - np.asarray(both["body"](images))).max())]
    np.save(f"{folder}/outputs.npy", KerasRunner(words).predict(numbers))
    class Local(keras.layers.Layer):
        def call(self, x):
            return x
    try:
        local = keras.Sequential([keras.Input((4,)), Local()])
        kd.export.export_tflite(local, f"{folder}/local.tflite", converter=converter)
    except kd.errors.ExportError as error:
        results["local"] = str(error)
json.dump(results, open(f"{folder}/results.json", "w"))
"""
OWN_LAYERS = """
import keras

@keras.saving.register_keras_serializable("own")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_export_on_jax(tmp_path):
    (tmp_path / "own_layers.py").write_text(OWN_LAYERS)
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert 0 < results["net"][0] < 0.2 and results["net"][1] < 0.2
    assert 0 < results["both"][0] < 0.1 and results["both"][1] < 0.1
    assert results["words"][0] < 1e-5 and results["words"][1] < 1e-5
    assert "could not be loaded on TensorFlow" in results["local"] and "register_keras_serializable" in results["local"]
    words = litert.Model(tmp_path / "words.tflite", num_threads=1)
    numbers = np.random.default_rng(0).integers(0, 70_000, (20, 6))
    np.testing.assert_allclose(words.predict(numbers)["scores"], np.load(tmp_path / "outputs.npy"), atol=1e-5)
