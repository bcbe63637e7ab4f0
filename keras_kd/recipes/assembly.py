"""A recipe whose parts are known to fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_kd import data
from keras_kd.recipes.models import is_file
from keras_kd.recipes.reading.schema import Recipe, Training
from keras_kd.recipes.task import RecipeTask


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A model that the run trains, or a given `.keras` file of the teacher.

    Attributes:
        settings: how it is trained.
        build: makes it anew, with weights that depend on the recipe's seed alone.
        identity: a hash of the model as it is built.
    """

    settings: Training
    build: Callable[[], keras.Model]
    identity: str


@dataclasses.dataclass(frozen=True)
class Assembly:
    """A recipe whose parts are known to fit.

    Attributes:
        recipe: as it was read.
        source: the opened data.
        task: the kind of problem: losses, metrics, labels, measures and words.
        models: the models of the run: `"teacher"` (unless it is not a Keras model), `"assistant_1"` and so on,
            `"student"`.
        teaching: what the teacher's outputs depend on besides the weights of its model: precision, ensemble, or what a
            teacher from elsewhere is.
        teacher_is_model: whether a single Keras model teaches.
        teacher_knows_one_set: whether the teacher has outputs for the training examples only.
    """

    recipe: Recipe
    source: data.DataSource
    task: RecipeTask
    models: dict[str, TrainedModel]
    teaching: dict[str, Any]
    teacher_is_model: bool
    teacher_knows_one_set: bool

    @property
    def teacher_is_given(self) -> bool:
        """Whether the teacher comes trained: as a file, or from a function."""
        return "teacher" not in self.models or is_file(self.recipe.teacher.model)

    @property
    def assistants(self) -> dict[str, TrainedModel]:
        """The assistants by id, the largest first."""
        return {id: model for id, model in self.models.items() if id.startswith("assistant_")}
