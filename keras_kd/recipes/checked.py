"""The result of checking a recipe: its data, models and task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_kd import data
from keras_kd.recipes.reading.schema import Recipe, Training
from keras_kd.recipes.task import RecipeTask


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model that the run trains, or a given `.keras` file of the teacher.

    Attributes:
        settings: of its training.
        build: builds a new copy, with weights that depend only on the recipe's seed.
        identity: a hash of the newly built model.
    """

    settings: Training
    build: Callable[[], keras.Model]
    identity: str


@dataclasses.dataclass(frozen=True)
class CheckedRecipe:
    """A checked recipe with its data and models.

    Attributes:
        recipe: the recipe as read.
        source: the opened data.
        task: the kind of problem: losses, metrics, labels, measures and words.
        models: the models of the run: `"teacher"` (unless it is not a Keras model), `"assistant_1"` and so on,
            `"student"`.
        teacher_settings: what the teacher's outputs depend on besides the weights of its model: precision, ensemble, or
            the fingerprint of an external teacher.
        teacher_is_model: whether the teacher is a single Keras model.
        teacher_knows_one_set: whether the teacher has outputs for the training examples only.
    """

    recipe: Recipe
    source: data.DataSource
    task: RecipeTask
    models: dict[str, TrainedModel]
    teacher_settings: dict[str, Any]
    teacher_is_model: bool
    teacher_knows_one_set: bool

    @property
    def assistants(self) -> dict[str, TrainedModel]:
        """The assistants by id, the largest first."""
        return {id: model for id, model in self.models.items() if id.startswith("assistant_")}
