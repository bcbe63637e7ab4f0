"""The student that keeps its early exits: its training, the model and files with exits, and what the exits bring."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_kd import data
from keras_kd.evaluation.report import plain
from keras_kd.evaluation.roles import Role
from keras_kd.export import Metadata
from keras_kd.keras_private import all_layers
from keras_kd.litert import Format, get_format
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.file_metadata import output_info
from keras_kd.recipes.methods.self_taught import SelfTaughtTraining
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.exports import Export, export_settings
from keras_kd.recipes.stages.training_teacher import BATCH_SIZE
from keras_kd.regimes import early_exits
from keras_kd.regimes.early_exits import THRESHOLDS

ID = "exits"


def named(format: str) -> str:
    """The name of a format in the file of the student with exits, `student_NAME.tflite`."""
    return f"exits_{format}"


def keeps_exits(plan: Any) -> bool:
    """Whether the student with its exits is kept."""
    return getattr(plan.checked.recipe.distillation, "keep_exits", False)


def plan_exits(plan: Any, makes: Artifact) -> Iterator[Stage]:
    """The training of the student with its exits, the student without them, and the one with them."""
    training = ExitsTraining(plan)
    yield training
    student = StudentWithoutExits(training, makes, plan.checked)
    yield student
    yield StudentWithExits(training, student)


@register("export", phase="export")
def plan_exit_exports(plan: Any, settings: Any) -> Iterator[Stage]:
    """A file of the student with its exits for each format."""
    if keeps_exits(plan):
        yield from (ExitsExport(plan, get_format(name)) for name in settings.formats)


@register(phase="measure")
def plan_exit_curve(plan: Any, recipe: Any) -> Iterator[Stage]:
    """What the exits bring."""
    if keeps_exits(plan):
        yield ExitsMeasured(plan["student_exits"], plan.checked)


class ExitsTraining(SelfTaughtTraining):
    """Trains the student with its exits, and makes a model with all of them."""

    def __init__(self, plan: Any):
        file = Path(".state", "self_taught.keras")
        super().__init__(
            plan, Artifact(role=Role.EXITS, title="student distilled", kind="keras", file=file), "self_taught"
        )

    def distiller_of(self, context: Context, model: keras.Model, split: data.Split, total_steps: int) -> keras.Model:
        self._distiller = super().distiller_of(context, model, split, total_steps)
        return self._distiller

    def finished_model(self, model: keras.Model) -> keras.Model:
        return self._distiller.strip(exits=True)

    def _train(self, context: Context, model: keras.Model, split: data.Split) -> dict[str, Any]:
        layers = [layer.name for layer in self.student_of(model).layers]
        return super()._train(context, model, split) | {"layers": layers}


class StudentWithoutExits(Stage):
    """The student that was trained with exits, as a model of its own, built as it is without them."""

    def __init__(self, training: ExitsTraining, makes: Artifact, checked: CheckedRecipe):
        super().__init__("distilled", inputs=[training], settings={}, makes=makes)
        self._build, self._input_shape = checked.models["student"].build, checked.source.input_shape

    def run(self, context: Context) -> Artifact:
        (training,) = self.inputs
        record = dict(context.artifacts[training.id].record)
        trained, student = context.model(training.id), self._build()
        if not student.built:
            student.build((None, *self._input_shape))
        for name, layer in zip(record.pop("layers"), student.layers, strict=True):
            _copy(trained.get_layer(name), layer)
        return context.save_model(self.makes, student, **record)


def _copy(trained: keras.layers.Layer, layer: keras.layers.Layer) -> None:
    """Copies the weights of a layer, and which of its inner layers are frozen, to another one of its kind."""
    for one, other in zip(all_layers(trained), all_layers(layer), strict=True):  # the outer ones first
        other.trainable = one.trainable
    layer.set_weights(trained.get_weights())


class StudentWithExits(Stage):
    """The student with its exits; reads the one without them, so that it is removed with an earlier student."""

    def __init__(self, training: ExitsTraining, student: Stage):
        file = Path("student_exits.keras")
        makes = Artifact(role=Role.EXITS, title="student with exits", kind="keras", file=file, derived_from=student.id)
        super().__init__("student_exits", inputs=[training, student], settings={}, makes=makes)

    def run(self, context: Context) -> Artifact:
        return context.save_model(self.makes, context.model(self.inputs[0].id))


class ExitsExport(Export):
    """Exports the student with its exits in one format: a file with an output for each of them."""

    def __init__(self, plan: Any, format: Format):
        source, name = plan["student_exits"], named(format.name)
        makes = Artifact(
            role=Role.EXITS_FILE,
            title=f"{source.makes.title}, {format.name} TFLite",
            kind="tflite",
            file=Path(f"student_{name}.tflite"),
            derived_from=source.id,
        )
        settings = export_settings(format, plan.checked)
        inputs = [source, plan["distilled"]]  # which it is removed with
        Stage.__init__(self, f"export_{name}", inputs=inputs, settings=settings, makes=makes)
        self._format = format

    def _metadata(self, context: Context, model: keras.Model) -> Metadata:
        about = output_info(model, context.checked.source)
        return dataclasses.replace(super()._metadata(context, model), outputs=dict.fromkeys(model.output, about))


class ExitsMeasured(Stage):
    """Measures the student with its exits on the labeled test examples, for each threshold of the confidence."""

    def __init__(self, student: Stage, checked: CheckedRecipe):
        settings = {f"data{FINGERPRINT}": checked.source.fingerprint, "thresholds": THRESHOLDS}
        makes = Artifact(
            role=Role.MEASUREMENTS, title="early exits", kind="text", file=Path(".state", "early_exits.json")
        )
        super().__init__(ID, inputs=[student], settings=settings, makes=makes)

    def skipped(self, file: Path | None) -> str:
        return "early exits: the student has not changed."

    def run(self, context: Context) -> Artifact:
        test = context.checked.source.test
        with context.progress.stage(f"measure {self.makes.title}"):
            curve = early_exits(
                context.model(self.inputs[0].id),
                data.evaluation_batches(test, BATCH_SIZE),
                test.labels(),
                thresholds=self.settings["thresholds"],
            )
        return context.save_text(self.makes, json.dumps(plain(dataclasses.asdict(curve)), indent=1))
