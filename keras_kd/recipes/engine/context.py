"""The context in which a stage runs: the checked recipe, the run folder, the artifacts so far."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, export
from keras_kd.chain.progress import RunProgress
from keras_kd.keras_private import forget_compilation
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.folder import RunFolder, removed_on_error
from keras_kd.recipes.making import teacher_of
from keras_kd.recipes.synthesized import read_synthesized
from keras_kd.teachers import Teacher


@dataclasses.dataclass
class Context:
    """The context shared by the stages of one run.

    Attributes:
        checked: the checked recipe with its data and models.
        folder: the run folder.
        progress: the display of the run's progress.
        converter: converts models to `.tflite` files.
        artifacts: the artifacts of the stages so far, by stage id.
        shard, num_shards: the share of a cache that this process builds.
    """

    checked: CheckedRecipe
    folder: RunFolder
    progress: RunProgress
    converter: export.Converter
    artifacts: dict[str, Artifact] = dataclasses.field(default_factory=dict)
    shard: int = 0
    num_shards: int = 1

    def file(self, id: str) -> Path | None:
        """The file made by a stage; None if it has none."""
        file = self.artifacts[id].file
        return file and self.folder.path / file

    def model(self, id: str) -> keras.Model:
        """The Keras model made by a stage."""
        return keras.models.load_model(self.file(id), compile=False)

    @functools.cached_property
    def teacher(self) -> Teacher:
        """The recipe's teacher in its final form: its trained model or file, in its precision, or as an ensemble."""
        return teacher_of(self.checked.recipe, self.file("teacher"), self.checked.sides.teacher)

    @functools.cached_property
    def synthesized(self) -> data.Split | None:
        """The images that the student learns from, with the classes that they are for; None if it learns from data."""
        if self.checked.recipe.distillation.method != "data_free":
            return None
        return read_synthesized(self.file("synthesized"), self.checked.source.task)

    @functools.cached_property
    def calibration(self) -> np.ndarray:
        """The training examples, or synthesized ones, on which the ranges of integer formats are measured."""
        return self._samples(self.checked.source.train if self.synthesized is None else self.synthesized)

    @functools.cached_property
    def teacher_samples(self) -> np.ndarray:
        """Training examples as the teacher sees them, with which its file is compared."""
        sides = self.checked.sides
        return self._samples(sides.teacher.train) if sides.differ else self.calibration

    def _samples(self, split: data.Split) -> np.ndarray:
        recipe = self.checked.recipe
        return data.calibration_samples(split, recipe.export.calibration_samples, seed=recipe.seed)

    def save_model(self, makes: Artifact, model: keras.Model, **record: Any) -> Artifact:
        """Saves a Keras model made by a stage as a draft, without compile state; returns its artifact."""
        forget_compilation(model)
        return self._saved(makes, model.save, record)

    def save_text(self, makes: Artifact, text: str, **record: Any) -> Artifact:
        """Saves a text made by a stage as a draft; returns its artifact."""
        return self._saved(makes, lambda draft: draft.write_text(text, "utf-8"), record)

    def save_arrays(self, makes: Artifact, **arrays: np.ndarray) -> Artifact:
        """Saves arrays made by a stage as a draft; returns its artifact."""

        def save(draft: Path) -> None:
            with draft.open("wb") as file:
                np.savez(file, **arrays)

        return self._saved(makes, save, {})

    def _saved(self, makes: Artifact, save: Callable[[Path], Any], record: dict[str, Any]) -> Artifact:
        draft = self.folder.draft(makes.file)
        with removed_on_error(draft):
            save(draft)
        return dataclasses.replace(makes, draft=draft, record=record)
