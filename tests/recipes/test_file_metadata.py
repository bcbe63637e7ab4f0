"""The normalization that a run writes into its files, against the numbers that the models are trained on."""

import numpy as np
import pytest

from keras_kd import recipes
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.file_metadata import file_metadata

RECIPE = {
    "name": "pets",
    "teacher": {"model": "digits_student", "epochs": 1},
    "student": {"model": "digits_student", "epochs": 1},
    "export": {"metadata": {"author": "Ada", "license": "MIT", "version": "3", "description": "pets"}},
}


@pytest.mark.parametrize("value_range", [[0, 1], [-1, 1], [-0.5, 2.5]], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_normalized_pixels_are_the_inputs(tmp_path, value_range, channels):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, channels), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "pets.npz", x=x, y=y, class_names=["cat", "dog", "rat"])
    settings = {"source": f"npz:{tmp_path / 'pets.npz'}", "value_range": value_range}
    checked = check_recipe(recipes.Recipe.model_validate(RECIPE | {"data": settings}))
    found = file_metadata(checked, checked.models["student"].build(), key="k", teacher_fingerprint="sha256:12")
    assert (found.name, found.author, found.license, found.version) == ("pets", "Ada", "MIT", "3")
    assert found.inputs.is_image and found.outputs.labels == ("cat", "dog", "rat")
    split = checked.source.train
    raw = split.records.stored[:].reshape(-1, 8, 8, channels).astype("float64")
    np.testing.assert_allclose((raw - found.inputs.mean) / found.inputs.std, split.arrays()[0], atol=1e-6)
    assert found.provenance == {"recipe": {"name": "pets", "key": "k"}, "teacher": "sha256:12"}


def test_features_are_not_normalized(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 8, 8, 1)).astype("float32")
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 3)
    checked = check_recipe(recipes.Recipe.model_validate(RECIPE | {"data": {"source": f"npz:{tmp_path / 'a.npz'}"}}))
    found = file_metadata(checked, checked.models["student"].build(), key="k", teacher_fingerprint="sha256:12")
    assert found.inputs.mean == found.inputs.std == () and not found.inputs.is_image
