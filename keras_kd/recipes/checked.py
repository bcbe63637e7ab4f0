"""The result of checking a recipe: its data, models and task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_kd import data
from keras_kd.data.pairs.joining import PairedExamples
from keras_kd.recipes.engine.folder import FINGERPRINT
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
class Sides:
    """What teacher and student see of the same examples: one source twice, or one for each.

    Attributes:
        teacher: the source of the teacher, with the labels and the classes of the student's.
        student: the source of the student, `data` in the recipe.
    """

    teacher: data.DataSource
    student: data.DataSource

    @property
    def differ(self) -> bool:
        """Whether the recipe has other inputs for the teacher."""
        return self.teacher is not self.student

    @property
    def inputs(self) -> Mapping[str, str]:
        """What the two models take of a pair, as arguments of a `Distiller`; nothing if both take the same."""
        return {"teacher_inputs": "teacher", "student_inputs": "student"} if self.differ else {}

    def of(self, name: str) -> data.DataSource:
        """The source of a model by its name in the run: that of the teacher, or of any other model."""
        return self.teacher if name == "teacher" else self.student

    def examples(self, split_of: Callable[[data.DataSource], data.Split]) -> data.Split | PairedExamples:
        """The examples of a split, as pairs if the sides differ.

        Args:
            split_of: takes the split from a source, with the same examples from both.
        """
        student = split_of(self.student)
        return data.pair(split_of(self.teacher), student) if self.differ else student

    def views_settings(self, source: data.DataSource) -> dict[str, Any]:
        """What the augmented views of a side depend on besides its own data: a smaller grid of the other side."""
        smallest = [
            min(sizes) for sizes in zip(self.teacher.input_shape[:-1], self.student.input_shape[:-1], strict=False)
        ]
        return {} if [*source.input_shape[: len(smallest)]] == smallest else {"grid": smallest}

    def taught_settings(self) -> dict[str, str]:
        """What a training by a teacher depends on besides the student's data."""
        return {f"teacher data{FINGERPRINT}": self.teacher.fingerprint} if self.differ else {}


@dataclasses.dataclass(frozen=True)
class CheckedRecipe:
    """A checked recipe with its data and models.

    Attributes:
        recipe: the recipe as read.
        sides: the opened data, for the teacher and for the student.
        task: the kind of problem: losses, metrics, labels, measures and words.
        models: the models of the run: `"teacher"` (unless it is not a Keras model), `"assistant_1"` and so on,
            `"student"`.
        teacher_settings: what the teacher's outputs depend on besides the weights of its model: precision, ensemble, or
            the fingerprint of an external teacher.
        teacher_is_model: whether the teacher is a single Keras model.
        teacher_knows_one_set: whether the teacher has outputs for the training examples only.
    """

    recipe: Recipe
    sides: Sides
    task: RecipeTask
    models: dict[str, TrainedModel]
    teacher_settings: dict[str, Any]
    teacher_is_model: bool
    teacher_knows_one_set: bool

    @property
    def source(self) -> data.DataSource:
        """The data of the student; those of the teacher, too, unless it has its own."""
        return self.sides.student

    @property
    def assistants(self) -> dict[str, TrainedModel]:
        """The assistants by id, the largest first."""
        return {id: model for id, model in self.models.items() if id.startswith("assistant_")}
