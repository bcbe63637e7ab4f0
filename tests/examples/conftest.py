"""The digits student, exported with the names, labels and normalization of a run."""

from pathlib import Path

import keras
import pytest

import keras_kd as kd
from keras_kd.recipes.file_metadata import ends

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def examples():
    return ROOT / "examples"


@pytest.fixture(scope="session")
def exported(digits, tmp_path_factory):
    """The folder with `student_float32.tflite` and `student_int8.tflite`."""
    folder, (images, targets) = tmp_path_factory.mktemp("exported"), digits
    keras.utils.set_random_seed(0)
    model = kd.models.digits_student((8, 8, 1), 10)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, targets, epochs=4, verbose=0)
    metadata = kd.export.Metadata(**ends(model, kd.data.open_source("digits"), (0.0, 1.0)))
    for name in ("float32", "int8"):
        path = folder / f"student_{name}.tflite"
        kd.export_tflite(model, path, format=name, calibration=images[:200], metadata=metadata, isolate=False)
    return folder
