"""Misspelled names are found without Keras: known names match the modules, and undecidable ones are accepted."""

import keras
import pytest

from keras_kd import models, recipes, schedules
from keras_kd.data import augmentation
from keras_kd.errors import RecipeError
from keras_kd.losses.base import registry as losses
from keras_kd.recipes.reading.names import check_names, known


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("model", models.names()),
        ("loss", losses.names),
        ("schedule", schedules.registry.names),
        ("augmentation", augmentation.registry.names),
        ("data source", ["digits", "folder", "npz", "tfds"]),
    ],
)
def test_the_names_that_are_read_are_those_that_are_registered(kind, names):
    assert sorted(known(kind)) == names


def test_every_optimizer_of_keras_is_known():
    classes = [value for value in vars(keras.optimizers).values() if isinstance(value, type)]
    assert {value.__name__.lower() for value in classes if issubclass(value, keras.optimizers.Optimizer)} <= set(
        known("optimizer")
    )


@pytest.mark.parametrize(
    ("override", "key", "hint"),
    [
        ("teacher.model=digits_techer", "teacher.model", "'digits_teacher'"),
        ("assistants=[{model: resnet_8, epochs: 1}]", "assistant 1.model", "'resnet8'"),
        ("student.optimizer=adamm", "student.optimizer", "'adam'"),
        ("distillation.alpha={name: cosin}", "distillation.alpha", "'cosine'"),
        ("few_labels.temperature={name: linea}", "few_labels.temperature", "'linear'"),
        ("distillation.losses=[soft_target]", "distillation.losses", "'soft_targets'"),
        ("few_labels.losses=[{name: hintt}]", "few_labels.losses", "'hint'"),
        ("augment=[flop]", "augment", "'flip'"),
        ("data.source=digit", "data.source", "'digits'"),
    ],
)
def test_a_misspelled_name(override, key, hint):
    with pytest.raises(RecipeError) as caught:
        check_names(recipes.load(None, [override]))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{key}: Unknown ") and line.endswith(f"Did you mean {hint}?")


def test_all_misspelled_names_at_once():
    with pytest.raises(RecipeError) as caught:
        check_names(recipes.load(None, ["student.model=x", "student.optimizer=y"]))
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["student.optimizer=AdamW"],
        ["student.model=folder/model.keras"],
        ["data.source=npz:digits.npz"],
        ["student.model=own:student", "augment=[one_of_my_own]"],
    ],
)
def test_what_only_the_modules_can_tell_is_left_to_them(overrides):
    check_names(recipes.load(None, overrides))


def test_a_folder_of_a_saved_model_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").touch()
    check_names(recipes.load(None, ["teacher.model=saved"]))
