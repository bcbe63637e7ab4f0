"""The measurements of all models and files of a run: accuracy on the whole test split, size, agreement, latency."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_kd import data, evaluation, tasks
from keras_kd.compression.stripping import stripped
from keras_kd.evaluation import comparison
from keras_kd.evaluation.report import plain
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.scale import replicates
from keras_kd.features.logits import logits_from_probabilities
from keras_kd.recipes.checked import CheckedRecipe, Sides
from keras_kd.recipes.comparisons import against_teacher, compared_file, reliabilities
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.registry import register
from keras_kd.recipes.shown_examples import soft_target_examples
from keras_kd.recipes.stages.training_teacher import BATCH_SIZE, predict, teacher_settings
from keras_kd.recipes.synthesized import as_field, images_to_show, sheet
from keras_kd.recipes.task import gives_logits
from keras_kd.teachers import Ensemble, FrozenTeacher


@register(phase="measure")
def plan_measurements(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The measurements of all models and files, except a teacher without outputs for the test split."""
    hidden = {Role.TEACHER} if plan.checked.teacher_knows_one_set else set()
    measured = plan.of(*(MODELS - hidden), Role.EXPORTED, Role.REFERENCE, Role.SYNTHESIZED)
    yield Measurements(measured, plan.checked)


class Measurements(Stage):
    """Measures its inputs on the test split."""

    def __init__(self, measured: Sequence[Stage], checked: CheckedRecipe):
        settings = {
            f"data{FINGERPRINT}": checked.source.fingerprint,
            "num_threads": checked.recipe.export.num_threads,
            **checked.sides.taught_settings(),
            **teacher_settings(measured, checked),
        }
        makes = Artifact(role=Role.MEASUREMENTS, title="measurements", kind="text", file=Path(".state", "rows.json"))
        super().__init__("measurements", inputs=measured, settings=settings, makes=makes)

    def skipped(self, file: Path | None) -> str:
        return "measurements: none of the models and files has changed."

    def run(self, context: Context) -> Artifact:
        return context.save_text(self.makes, json.dumps(plain(self.measure(context)), indent=1))

    def measure(self, context: Context) -> dict[str, Any]:
        """Rows, confusion matrix, soft targets, and the environment of the measurement."""
        test, task = context.checked.source.test, context.checked.task
        files = self._files(context)
        runners = {
            id: evaluation.TFLiteRunner(file, num_threads=self.settings["num_threads"]) for id, file in files.items()
        }
        with context.progress.stage("measure", total=len(self._sources)) as stage:
            predictions = self._predictions(context, runners, stage)
            scores = self._scores(context, predictions, stage)
            stage.note("latency")
            latencies = evaluation.compare_latency(runners, self._samples(context))
        measured = {
            "rows": [
                asdict(self._row(source, predictions[source.id], scores[source.id], files, latencies, context))
                for source in self._sources
            ],
            "test_size": test.num_examples,
            "task": task.kind.name,
            "unit": task.source.unit,
            "environment": environment(),
        }
        shipped = self._sources[-1].id
        if scores[shipped].quality.confusion is not None:
            measured |= {"confusion": scores[shipped].quality.confusion, "confusion_of": shipped}
        if "teacher" in predictions and task.is_classification:
            examples = soft_target_examples(predictions["teacher"].logits(), context.checked.sides.teacher.test)
            measured["soft_targets"] = {"temperatures": [1, 4, 20], "examples": examples}
        return measured | self._synthesized(context) | self._comparisons(context, predictions)

    def _synthesized(self, context: Context) -> dict[str, Any]:
        """The field `synthesized` of the report: images that the student learned from, with the teacher's classes."""
        split = context.synthesized
        if split is None:
            return {}
        shown, value_range = images_to_show(split), context.checked.recipe.data.value_range
        teacher = _predict(context.teacher.model, shown)
        predicted = comparison.predictions(teacher.outputs, from_logits=teacher.from_logits)
        return as_field(sheet(predicted, shown, value_range, count=split.num_examples))

    def _comparisons(self, context: Context, predictions: Mapping[str, _Predictions]) -> dict[str, Any]:
        """Further fields of the report of a classification, of the files and of one of them against the teacher."""
        file, checked = self._compared_file(context), context.checked
        if file is None or not checked.task.is_classification or checked.source.num_classes < 2:
            return {}
        predicted = {
            id: comparison.predictions(one.outputs, from_logits=one.from_logits) for id, one in predictions.items()
        }
        exported = {stage.id for stage in self._sources if stage.makes.role is Role.EXPORTED}
        compared = reliabilities({id: predicted[id] for id in predicted if id in exported | {"teacher"}}, checked)
        if "teacher" in predicted:
            names = {"teacher": "teacher", "student": file.makes.derived_from, "file": file.id}
            compared |= against_teacher(predicted, checked, **names)
        return compared

    def _compared_file(self, context: Context) -> Stage | None:
        """The file to compare with the teacher; None without files."""
        files = {stage.id: stage for stage in self._sources if stage.makes.role is Role.EXPORTED}
        sizes = {id: context.file(id).stat().st_size for id in files}
        chosen = compared_file({id: stage.settings["format"] for id, stage in files.items()}, sizes)
        return files.get(chosen)

    @property
    def _sources(self) -> list[Stage]:
        """The stages with a row in the report: the models, then the files."""
        models = [stage for stage in self.inputs if stage.makes.role in MODELS]
        return models + [stage for stage in self.inputs if stage.makes.role is Role.EXPORTED]

    def _files(self, context: Context) -> dict[str, Path]:
        """The `.tflite` files by stage id; without the teacher's file if it cannot be converted."""
        known = [stage for stage in self.inputs if stage.makes.kind == "tflite" and context.file(stage.id)]
        return {stage.id: context.file(stage.id) for stage in known}

    def _predictions(
        self, context: Context, runners: Mapping[str, evaluation.Runner], progress: Any
    ) -> dict[str, _Predictions]:
        """The predictions of all models and files for the test split, by stage id."""
        predictions = {}
        for source in self._sources:
            test = context.checked.sides.of(source.id).test
            if source.makes.role is Role.EXPORTED:
                origin = predictions[source.makes.derived_from]
                predictions[source.id] = dataclasses.replace(origin, outputs=_outputs(runners[source.id], test))
            else:
                predictions[source.id] = _predict(_model(source, context), test)
            progress.advance(source.makes.title)
        return predictions

    def _samples(self, context: Context) -> dict[str, np.ndarray]:
        """One test example for each file, as its model sees it."""
        one, sides = np.array([0]), context.checked.sides
        makers = {stage.id: stage.makes.derived_from for stage in self.inputs if stage.makes.kind == "tflite"}
        return {id: sides.of(maker).test.subset(one, name="one example").arrays()[0] for id, maker in makers.items()}

    def _scores(self, context: Context, predictions: Mapping[str, _Predictions], progress: Any) -> dict[str, _Scores]:
        """The measures of all models and files by stage id, and the agreement of a file with its origin."""
        task, labels, scores = context.checked.task, context.checked.source.test.labels(), {}
        for source in self._sources:
            progress.note(source.makes.title)
            made, own = source.makes, predictions[source.id]
            reference = predictions[made.derived_from].outputs if made.role is Role.EXPORTED else None
            quality = task.measure(own.outputs, labels, reference, from_logits=own.from_logits)
            scores[source.id] = _Scores(
                quality, replicates(task.kind, own.outputs, labels, from_logits=own.from_logits)
            )
        return scores

    def _row(
        self,
        source: Stage,
        predictions: _Predictions,
        scores: _Scores,
        files: Mapping[str, Path],
        latencies: Mapping[str, evaluation.Latency],
        context: Context,
    ) -> ModelRow:
        """The row of a model or file; the teacher's row takes size and latency from the teacher's file."""
        made = source.makes
        own = next(
            (s.id for s in self.inputs if s.makes.role is Role.REFERENCE and s.makes.derived_from == source.id), ""
        )
        file, latency = files.get(own or source.id), latencies.get(own or source.id)
        num_bytes, gzip_bytes = (None, None) if file is None else evaluation.file_sizes(file)
        notes = ["size and latency of its float32 TFLite file"] if own in files else []
        if source.makes.role is Role.TEACHER and context.checked.sides.differ:
            notes.append(_own_inputs(context.checked.sides))
        return ModelRow(
            id=source.id,
            title=made.title,
            role=made.role,
            derived_from=made.derived_from,
            labels=made.labels,
            format=source.settings["format"] if made.role is Role.EXPORTED else None,
            parameters=predictions.parameters,
            values=scores.quality.values,
            replicates=scores.replicates,
            num_bytes=num_bytes,
            gzip_bytes=gzip_bytes,
            agreement=scores.quality.agreement,
            latency_p50_ms=latency and latency.p50_ms,
            latency_p95_ms=latency and latency.p95_ms,
            runtime=latency and f"LiteRT, {latency.num_threads} thread{'s' * (latency.num_threads != 1)}",
            note="; ".join(notes),
        )


@dataclasses.dataclass(frozen=True)
class _Predictions:
    """The outputs `[examples, ..., outputs]` of a model or file for the test split."""

    outputs: np.ndarray
    from_logits: bool
    parameters: int

    def logits(self) -> np.ndarray:
        return self.outputs if self.from_logits else np.asarray(logits_from_probabilities(self.outputs, "softmax"))


class _Scores(NamedTuple):
    """The measures of a model or file, and its headline measure without each of some groups of examples."""

    quality: tasks.Scores
    replicates: list[float]


def _model(source: Stage, context: Context) -> Any:
    """A Keras model, or a teacher that is not one."""
    if source.makes.role is not Role.TEACHER:
        return context.model(source.id)
    return context.teacher.model if isinstance(context.teacher, FrozenTeacher) else context.teacher


def _own_inputs(sides: Sides) -> str:
    """The remark about a teacher that sees other inputs than the students.

    >>> from types import SimpleNamespace as Side
    >>> _own_inputs(Sides(Side(input_shape=(16, 16, 3)), Side(input_shape=(8, 8, 1))))
    'measured on the same test examples with inputs of its own (16x16x3, for the students 8x8x1)'
    """
    shapes = ["x".join(map(str, side.input_shape)) for side in (sides.teacher, sides.student)]
    differ = f" ({shapes[0]}, for the students {shapes[1]})" if shapes[0] != shapes[1] else ""
    return f"measured on the same test examples with inputs of its own{differ}"


def _predict(model: Any, split: data.Split) -> _Predictions:
    """The outputs of a Keras model, or the logits of a teacher that is not one."""
    parameters = count_parameters(model)
    if not isinstance(model, keras.Model):
        return _Predictions(predict(model, split), True, parameters)
    return _Predictions(_outputs(evaluation.KerasRunner(model), split), gives_logits(model), parameters)


def _outputs(runner: evaluation.Runner, split: data.Split) -> np.ndarray:
    batches = data.evaluation_batches(split, BATCH_SIZE).as_numpy_iterator()
    return np.concatenate([runner.predict(batch[0]) for batch in batches])


def count_parameters(model: Any) -> int:
    """The number of weights of a model, of its plain architecture if it is compressed; 0 if it is unknown."""
    if isinstance(model, keras.Model):
        return stripped(model).count_params()
    if isinstance(model, Ensemble):
        return sum(map(count_parameters, model.members))
    return count_parameters(model.model) if isinstance(model, FrozenTeacher) else 0


def environment() -> dict[str, Any]:
    """The environment of the measurement: versions, machine, date."""
    packages = ("keras", "tensorflow", "ai-edge-litert", "numpy")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "keras_kd": version("keras_kd"),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
