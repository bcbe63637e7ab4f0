"""The `.tflite` files of a run: those for the phone, and the teacher's for comparison of size and latency."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import export
from keras_kd.compression import strip
from keras_kd.compression.stripping import stripped
from keras_kd.errors import ExportError
from keras_kd.evaluation.roles import Role
from keras_kd.export import Metadata
from keras_kd.litert import Format, get_format
from keras_kd.litert.formats import Mixed
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.file_metadata import file_metadata, metadata_settings
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.training_teacher import teacher_settings

GUARDED = "guarded"


@register("export", phase="export")
def plan_exports(plan: Any, settings: Any) -> Iterator[Stage]:
    """A file of the teacher if it is a Keras model, and one of the student for each format."""
    if plan.checked.teacher_is_model:
        yield TeacherExport(plan["teacher"], plan.checked)
    student, exports = _shipped(plan), []
    for name in settings.formats:
        exports.append(Export(student, get_format(name), plan.checked))
    if settings.mixed is not None:
        exports.append(Export(student, Mixed(settings.mixed), plan.checked))
    if settings.max_accuracy_drop is not None:
        exports.append(GuardedExport(student, plan.checked, settings.max_accuracy_drop))
    for export_ in exports:
        export_.inputs = (*export_.inputs, *plan.of(Role.SYNTHESIZED))  # calibrate
    yield from exports


def _shipped(plan: Any) -> Stage:
    """The distilled student, or the last model derived from it."""
    student = next(stage for stage in plan.of(Role.DISTILLED) if stage.makes.labels is None)
    for stage in plan.of(Role.MODEL):
        if stage.makes.derived_from == student.id:
            student = stage
    return student


class Export(Stage):
    """Exports the student in one format: a fake-quantized one as int8 with its ranges, stripped in other formats."""

    def __init__(self, source: Stage, format: Format, checked: CheckedRecipe):
        makes = Artifact(
            role=Role.EXPORTED,
            title=f"{_short(source)}, {format.name} TFLite",
            kind="tflite",
            file=Path(f"student_{format.name}.tflite"),
            derived_from=source.id,
        )
        settings = export_settings(format, checked)
        super().__init__(f"export_{format.name}", inputs=[source], settings=settings, makes=makes)
        self._format = format

    def prepare(self, context: Context) -> None:
        context.converter.start()  # loads TensorFlow in the background

    def run(self, context: Context) -> Artifact:
        with context.progress.stage(f"export {self.makes.title}"):
            model = context.model(self.inputs[0].id)
            if export.is_fake_quantized(model) and not export.has_ranges_for(model, self._format):
                model = strip(model)
            return self._export(context, model, self._metadata(context, model))

    def _metadata(self, context: Context, model: keras.Model) -> Metadata:
        is_taught = context.checked.recipe.has_own_teacher
        about = {"key": self.key(), "teacher_fingerprint": context.teacher.fingerprint if is_taught else None}
        return file_metadata(context.checked, model, **about)

    def _samples(self, context: Context) -> np.ndarray:
        """The examples that calibrate the file, or are compared with it."""
        return context.calibration

    def _export(self, context: Context, model: keras.Model, metadata: Metadata | None = None) -> Artifact:
        path = context.folder.path / self.makes.file
        path.parent.mkdir(parents=True, exist_ok=True)
        result = export.export_tflite(
            model,
            path,
            format=self._format,
            calibration=self._samples(context),
            metadata=metadata,
            converter=context.converter,
        )
        return dataclasses.replace(self.makes, record={"export": str(result)})


class GuardedExport(Export):
    """Exports the smallest file that keeps the student's measure on the validation split, without fake quantization."""

    def __init__(self, source: Stage, checked: CheckedRecipe, max_drop: float):
        makes = Artifact(
            role=Role.EXPORTED,
            title=f"{_short(source)}, {GUARDED} TFLite",
            kind="tflite",
            file=Path(f"student_{GUARDED}.tflite"),
            derived_from=source.id,
        )
        settings = export_settings(get_format("int8"), checked) | {"format": GUARDED, "max_accuracy_drop": max_drop}
        Stage.__init__(self, "export_guarded", inputs=[source], settings=settings, makes=makes)
        self._max_drop = max_drop

    def run(self, context: Context) -> Artifact:
        with context.progress.stage(f"export {self.makes.title}") as stage:
            model = stripped(context.model(self.inputs[0].id))
            path = context.folder.path / self.makes.file
            path.parent.mkdir(parents=True, exist_ok=True)
            result = export.export_guarded(
                model,
                path,
                max_accuracy_drop=self._max_drop,
                validation=context.checked.source.validation.arrays(),
                calibration=context.calibration,
                task=context.checked.task.kind,
                metadata=self._metadata(context, model),
                converter=context.converter,
                progress=stage.note,
            )
        return dataclasses.replace(self.makes, record={"export": str(result)})


class TeacherExport(Export):
    """Exports the teacher in float32; if that fails, the report lacks its size and latency."""

    def __init__(self, teacher: Stage, checked: CheckedRecipe):
        format = get_format("float32")
        makes = Artifact(
            role=Role.REFERENCE,
            title="teacher, float32 TFLite",
            kind="tflite",
            file=Path(".state", "teacher_float32.tflite"),
            derived_from=teacher.id,
        )
        settings = _settings(format, checked) | teacher_settings([teacher], checked)
        Stage.__init__(self, "export_teacher", inputs=[teacher], settings=settings, makes=makes)
        self._format = format

    def prepare(self, context: Context) -> None:
        """Does nothing: the students are trained first, and the converter starts when the first of them is ready."""

    def _samples(self, context: Context) -> np.ndarray:
        return context.teacher_samples

    def run(self, context: Context) -> Artifact:
        try:
            with context.progress.stage(f"export {self.makes.title}"):
                return self._export(context, context.teacher.model)
        except ExportError as error:
            (context.folder.path / self.makes.file).unlink(missing_ok=True)
            note = f"The teacher cannot be compared as a TFLite file. {error}"
            return dataclasses.replace(self.makes, file=None, record={"notes": [note]}, is_complete=False)


def _short(source: Stage) -> str:
    return "distilled" if source.makes.role is Role.DISTILLED else source.makes.title


def export_settings(format: Format, checked: CheckedRecipe) -> dict[str, Any]:
    """What a file for the phone depends on besides the model."""
    return _settings(format, checked) | metadata_settings(checked)


def _settings(format: Format, checked: CheckedRecipe) -> dict[str, Any]:
    form = {"format": format.name} | ({"rules": format.rules} if isinstance(format, Mixed) else {})
    if not format.needs_calibration:
        return form
    return {
        **form,
        f"data{FINGERPRINT}": checked.source.fingerprint,
        "seed": checked.recipe.seed,
        "calibration_samples": checked.recipe.export.calibration_samples,
    }
