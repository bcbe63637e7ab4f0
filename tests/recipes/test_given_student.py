"""A trained model that is compressed without being trained before, by default with itself as the teacher."""

import keras
import numpy as np
import pytest

from keras_kd import errors, recipes
from keras_kd.compression import Pruning
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.reading.compressing import parse_steps

STEPS = ["pruning: sparsity=0.5, epochs=1; pruning:pattern=2:4,sparsity=8e-1,epochs=1,score=movement"]


@pytest.fixture
def given(tmp_path):
    """A small classifier of the digits in a file."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, name="head")])
    model.save(tmp_path / "my net.keras")
    return tmp_path / "my net.keras"


def test_from_the_arguments_to_the_report(given, tmp_path, run_recipe):
    folder = tmp_path / "run"
    recipe = recipes.compression_recipe(
        given, "digits", STEPS, overrides=["export.formats=[float32]"], output_dir=folder
    )
    assert recipe.name == "my_net-compressed" and recipe.teacher.model == recipe.student.model == str(given)
    report, said = run_recipe(folder, recipe=recipe)
    assert [(row.id, row.role, row.derived_from) for row in report.rows] == [
        ("teacher", Role.TEACHER, None),
        ("distilled", Role.DISTILLED, None),
        ("compressed_1", Role.MODEL, "distilled"),
        ("compressed_2", Role.MODEL, "compressed_1"),
        ("export_float32", Role.EXPORTED, "compressed_2"),
    ]
    before, given_copy = keras.models.load_model(given), keras.models.load_model(folder / "student.keras")
    for one, other in zip(before.get_weights(), given_copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    kernel = keras.models.load_model(folder / "compressed_2.keras").layers[-1].kernel
    assert np.mean(kernel == 0) == pytest.approx(0.8) and not np.array_equal(kernel, before.layers[-1].kernel)
    assert report.rows[0].values == report.rows[1].values
    _, said = run_recipe(folder, recipe=recipe)
    assert "student: loaded" in said and said.count("trained before with these settings") == 2


@pytest.mark.parametrize(
    "model, changes, message",
    [
        ("none.keras", {}, "MODEL: no such file"),
        ("model.h5", {}, "MODEL: not a .keras file"),
        ("given", {"steps": ["pruning"]}, "compress.0.epochs: this key is missing"),
        ("given", {"steps": ["prune:epochs=1"]}, "compress.0"),
        ("given", {"steps": ["pruning:epochs=1,sparsity"]}, "--steps: invalid setting"),
        ("given", {"steps": ["pruning:epochs=1,epochs=2"]}, "--steps: epochs is given twice"),
        ("given", {"steps": [" ; "]}, "student.epochs: null means that the student is only compressed, but there is"),
        ("given", {"steps": ["pruning:epochs=1,sparsity=1.5"]}, "compress.0.sparsity"),
        ("given", {"data": "mnist"}, "data: "),
        ("given", {"teacher": "big.keras"}, "teacher.model: file not found"),
        ("wide", {}, "teacher.model: The teacher's input does not fit the data"),
        ("sparse", {}, "compress.0: 'sequential.*' is compressed already"),
        ("given", {"overrides": ["few_labels={num_labels: 100}"]}, "student.epochs: null .* few labels"),
        ("given", {"overrides": ["student.model=digits_student"]}, "student.epochs: invalid value.*only compressed"),
    ],
)
def test_wrong_arguments(given, tmp_path, monkeypatch, model, changes, message):
    monkeypatch.chdir(tmp_path)
    if model == "wide":
        keras.Sequential([keras.Input((9, 9, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save("wide.keras")
    if model == "sparse":
        Pruning(0.5).apply(keras.models.load_model(given), verbose=False).save("sparse.keras")
    names = {"given": given, "wide": "wide.keras", "sparse": "sparse.keras"}
    settings = {"data": "digits", "steps": STEPS} | changes
    with pytest.raises(errors.RecipeError, match=f"^{message}"):
        check_recipe(recipes.compression_recipe(names.get(model, model), settings.pop("data"), **settings))
    assert not (tmp_path / "saved_models").exists()


def test_steps_as_yaml():
    text = "[{name: pruning, sparsity: {head: 0.5}, epochs: 1}, {name: clustering, epochs: 2}]"
    assert [step["name"] for step in parse_steps(text)] == ["pruning", "clustering"]
    with pytest.raises(errors.RecipeError, match="--steps is not valid YAML"):
        parse_steps("{name: ")
