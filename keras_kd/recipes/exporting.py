"""The `.tflite` files of a run: those for the phone, and the teacher's to compare size and latency with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, export
from keras_kd.errors import ExportError
from keras_kd.evaluation.summary import TEACHER
from keras_kd.litert import FORMATS
from keras_kd.recipes.folder import FINGERPRINT, RunFolder
from keras_kd.recipes.progress import RunProgress
from keras_kd.recipes.schema import Recipe
from keras_kd.teachers import FrozenTeacher


class Exporter:
    """Writes the files of one run into its folder, those that are not there yet.

    Args:
        recipe: of the run.
        source: its data, of which int8 takes the ranges.
        folder: where the files lie.
        progress: where it is shown.
        converter: does the conversions.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: data.DataSource,
        folder: RunFolder,
        progress: RunProgress,
        converter: export.Converter,
    ):
        self.recipe, self.source, self.folder = recipe, source, folder
        self.progress, self.converter = progress, converter

    def export(self, teacher: Any, student: keras.Model) -> dict[str, Path]:
        """The files by row name; of a teacher that is not a Keras model, or cannot be converted, there is none."""
        settings, jobs = self.recipe.export, {}
        calibration = data.calibration_samples(self.source.train, settings.calibration_samples, seed=self.recipe.seed)
        if isinstance(teacher, keras.Model):
            jobs[TEACHER] = (teacher, "float32", self.folder.state / "teacher_float32.tflite")
        for kind in settings.formats:
            jobs[f"distilled, {kind} TFLite"] = (student, kind, self.folder.path / f"student_{kind}.tflite")
        with self.progress.stage("export to TFLite", total=len(jobs)) as stage:
            for name, (model, kind, file) in jobs.items():
                stage.note(name)
                try:
                    self._export(name, model, kind, file, calibration)
                except ExportError as error:
                    if name != TEACHER:
                        raise
                    file.unlink(missing_ok=True)
                    self.progress.say(f"The teacher cannot be compared as a TFLite file. {error}")
                stage.advance()
        self._discard_others(student, settings.formats)
        return {name: file for name, (_, _, file) in jobs.items() if file.exists()}

    def _export(self, name: str, model: keras.Model, kind: str, file: Path, calibration: np.ndarray) -> None:
        stage, settings = f"export {name}", self._settings(model, kind)
        if self.folder.finished(stage, settings, file) is None:
            result = export.export_tflite(
                model,
                file,
                format=kind,
                calibration=calibration,
                converter=self.converter,
            )
            self.folder.finish(stage, settings, {"export": str(result)}, file)

    def _settings(self, model: keras.Model, kind: str) -> dict[str, Any]:
        return {
            f"model{FINGERPRINT}": FrozenTeacher(model).fingerprint,
            "format": kind,
            f"data{FINGERPRINT}": self.source.fingerprint,
            "seed": self.recipe.seed,
            "calibration_samples": self.recipe.export.calibration_samples,
        }

    def _discard_others(self, student: keras.Model, formats: tuple[str, ...]) -> None:
        """Removes the files of an earlier student in formats that are not asked for any more."""
        for kind in FORMATS:
            stage, file = f"export distilled, {kind} TFLite", self.folder.path / f"student_{kind}.tflite"
            if kind in formats or self.folder.finished(stage, self._settings(student, kind), file) is not None:
                continue
            if self.folder.discard(stage, file):
                self.progress.say(f"{file.name}: removed, it was of an earlier student.")
