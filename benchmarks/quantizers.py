"""TensorFlow's converter against ai-edge-quantizer: the signal-to-noise ratio of int8 files, by the choice of ranges.

    python benchmarks/quantizers.py --data-dir DIR

Trained models: digits by convolutions and by dense layers, spoken digits, and sentences by a transformer. The ratio is
that of the logits for 300 test examples against the float32 file; the ranges are measured on the same 200 training
examples. "Its own calibration" is `Quantizer.calibrate` of ai-edge-quantizer. The last table is the guard's on a
network with one channel a thousand times as large as the others.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
from common import markdown, write
from export_models import TRAINED, Case, digits, trained
from keras import layers

import keras_kd as kd
from keras_kd.export import measure_ranges
from keras_kd.export._comparison import signal_to_noise
from keras_kd.export.ranges import METHODS
from keras_kd.litert import Model, quantize
from keras_kd.litert.formats import Int8

NUM_TEST = 300
OWN = "ai-edge-quantizer, its own calibration"
FORM = Int8(io="float32")


def dense_digits(folder: Path):
    x, y, x_test, y_test, _, epochs = digits(folder)
    image = keras.Input((8, 8, 1), name="image")
    h = layers.Dense(64, "relu")(layers.Dense(128, "relu")(layers.Flatten()(image)))
    return x, y, x_test, y_test, keras.Model(image, layers.Dense(10, name="logits")(h)), epochs


MODELS = {
    "digits, convolutions": "digits",
    "digits, dense": "dense_digits",
    "spoken digits, convolutions": "spoken_digits",
    "SST-2, transformer": "sst2",
}


def ratios(case: Case, folder: Path) -> dict[str, float | str]:
    """The signal-to-noise ratio in dB of each file; the first line of the error of one that cannot be made or run."""
    path, x = folder / "float32.tflite", case.test[0][:NUM_TEST]
    kd.export_tflite(case.model, path, samples=case.samples)
    content = path.read_bytes()
    (reference,) = Model(content).predict(x).values()

    def by_tensorflow() -> bytes:
        kd.export_tflite(case.model, folder / "int8.tflite", format=FORM, calibration=case.samples)
        return (folder / "int8.tflite").read_bytes()

    ways = {"TensorFlow's converter": by_tensorflow}
    for method in METHODS:
        ways[f"ai-edge-quantizer, {method}"] = lambda method=method: quantize(
            content, FORM, measure_ranges(content, case.samples, method).values
        )
    ways[OWN] = lambda: own_calibration(path, case.samples)
    found: dict[str, float | str] = {}
    for name, make in ways.items():
        try:
            (output,) = Model(make()).predict(x).values()
            found[name] = signal_to_noise(reference, output)
        except Exception as error:  # of three libraries
            found[name] = f"no: {str(error).splitlines()[0][:80]}"
        print(name, found[name], flush=True)
    return found


def own_calibration(path: Path, samples: np.ndarray) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    engine = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    ((key, signature),) = Model(path)._interpreter.get_signature_list().items()
    (name,) = signature["inputs"]
    measured = engine.calibrate({key: [{name: one[None]} for one in samples]})
    return bytes(engine.quantize(measured).quantized_model)


def loud_channel(folder: Path) -> str:
    """The guard's table for a network whose first layer has a channel a thousand times as large as the others."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,), name="features")
    h = layers.Dense(32, "relu", name="body")(inputs)
    model = keras.Model(inputs, layers.Dense(10, name="scores")(layers.Dense(32, "relu", name="neck")(h)))
    body, neck = (model.get_layer(name) for name in ("body", "neck"))
    kernel, bias = body.get_weights()
    body.set_weights([kernel * np.where(np.arange(32) == 0, 1000.0, 1.0), bias])
    kernel, bias = neck.get_weights()
    neck.set_weights([kernel * np.where(np.arange(32) == 0, 1e-3, 1.0)[:, None], bias])
    generator = np.random.default_rng(0)
    x, x_val = (generator.normal(size=(size, 16)).astype("float32") for size in (200, 500))
    labels = model.predict(x_val, verbose=0).argmax(-1)
    guarded = kd.export.export_guarded(
        model, folder / "guarded.tflite", max_accuracy_drop=2.0, validation=(x_val, labels), calibration=x
    )
    return str(guarded)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    TRAINED["dense_digits"] = dense_digits
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, name in MODELS.items():
            found[title] = ratios(trained(name, options.data_dir), Path(folder))
        loud = loud_channel(Path(folder))
    ways = next(iter(found.values()))
    rows = [[way, *(_cell(one[way]) for one in found.values())] for way in ways]
    table = f"{markdown(['int8 file', *found], rows)}\n\n```text\n{loud}\n```"
    write("quantizers", {"snr_db": found, "guard": loud}, table, "python benchmarks/quantizers.py --data-dir DIR")


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f} dB"


if __name__ == "__main__":
    main()
