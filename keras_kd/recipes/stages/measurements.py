"""The measurements of all models and files of a run: accuracy on the whole test split, size, agreement, latency."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, evaluation, tasks
from keras_kd.evaluation.plots import softened
from keras_kd.evaluation.report import plain
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.evaluation.summary import ModelRow
from keras_kd.features import find_heads
from keras_kd.features.logits import logits_from_probabilities
from keras_kd.recipes.assembly import Assembly
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.teaching import BATCH_SIZE, predict, teaching_settings
from keras_kd.recipes.task import gives_logits
from keras_kd.teachers import Ensemble, FrozenTeacher


@register(phase="measure")
def plan_measurements(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The measurements of all models and files, except a teacher without outputs for the test split."""
    hidden = {Role.TEACHER} if plan.assembly.teacher_knows_one_set else set()
    measured = plan.of(*(MODELS - hidden), Role.EXPORTED, Role.REFERENCE)
    yield Measurements(measured, plan.assembly)


class Measurements(Stage):
    """Measures its inputs on the test split."""

    def __init__(self, measured: Sequence[Stage], assembly: Assembly):
        settings = {
            f"data{FINGERPRINT}": assembly.source.fingerprint,
            "num_threads": assembly.recipe.export.num_threads,
            **teaching_settings(measured, assembly),
        }
        makes = Artifact(role=Role.MEASUREMENTS, title="measurements", kind="text", file=Path(".state", "rows.json"))
        super().__init__("measurements", inputs=measured, settings=settings, makes=makes)

    def skipped(self, file: Path | None) -> str:
        return "measurements: none of the models and files has changed."

    def run(self, context: Context) -> Artifact:
        return context.save_text(self.makes, json.dumps(plain(self.measure(context)), indent=1))

    def measure(self, context: Context) -> dict[str, Any]:
        """Rows, confusion matrix, soft targets, and the environment of the measurement."""
        test, task = context.assembly.source.test, context.assembly.task
        models, files = self._models(context), self._files(context)
        runners = {
            id: evaluation.TFLiteRunner(file, num_threads=self.settings["num_threads"]) for id, file in files.items()
        }
        with context.progress.stage("measure", total=len(models) + len(runners)) as stage:
            outputs, sizes, logits = {}, {}, {}
            for source in models:
                model = _model(source, context)
                sizes[source.id] = count_parameters(model)
                outputs[source.id] = _predict(model, test)
                logits[source.id] = gives_logits(model) if isinstance(model, keras.Model) else True
                if source.makes.role is Role.TEACHER:
                    teacher = model
                stage.advance(source.makes.title)
            for source in self._exported:
                outputs[source.id] = _outputs(runners[source.id], test)
                sizes[source.id] = sizes[source.makes.derived_from]
                logits[source.id] = logits[source.makes.derived_from]
                stage.advance(source.makes.title)
            stage.note("latency")
            sample, _ = test.subset(np.array([0]), name="one example").arrays()
            latencies = evaluation.compare_latency(runners, sample)
        scores = {source.id: self._scores(source, outputs, logits, context) for source in (*models, *self._exported)}
        rows = [self._row(source, scores[source.id], sizes, files, latencies) for source in (*models, *self._exported)]
        shipped = self._exported[-1].id
        measured = {
            "rows": [asdict(row) for row in rows],
            "test_size": test.num_examples,
            "task": task.kind.name,
            "unit": task.source.unit,
            "environment": environment(),
        }
        if scores[shipped].confusion is not None:
            measured |= {"confusion": scores[shipped].confusion, "confusion_of": shipped}
        if "teacher" in outputs and task.is_classification:
            examples = soft_target_examples(teacher, outputs["teacher"], test)
            measured["soft_targets"] = {"temperatures": [1, 4, 20], "examples": examples}
        return measured

    @property
    def _exported(self) -> list[Stage]:
        return [stage for stage in self.inputs if stage.makes.role is Role.EXPORTED]

    def _models(self, context: Context) -> list[Stage]:
        return [stage for stage in self.inputs if stage.makes.role in MODELS]

    def _files(self, context: Context) -> dict[str, Path]:
        """The `.tflite` files by stage id; without the teacher's file if it cannot be converted."""
        known = [stage for stage in self.inputs if stage.makes.kind == "tflite" and context.file(stage.id)]
        return {stage.id: context.file(stage.id) for stage in known}

    def _scores(
        self, source: Stage, outputs: dict[str, np.ndarray], logits: dict[str, bool], context: Context
    ) -> tasks.Scores:
        """The measures of a model or file, and the agreement of a file with the model it was made from."""
        made, labels = source.makes, context.assembly.source.test.labels()
        reference = outputs[made.derived_from] if made.role is Role.EXPORTED else None
        return context.assembly.task.measure(outputs[source.id], labels, reference, from_logits=logits[source.id])

    def _row(
        self,
        source: Stage,
        quality: tasks.Scores,
        sizes: dict[str, int],
        files: dict[str, Path],
        latencies: dict[str, evaluation.Latency],
    ) -> ModelRow:
        """The row of a model or file; the teacher's row takes size and latency from the teacher's file."""
        made = source.makes
        own = next(
            (s.id for s in self.inputs if s.makes.role is Role.REFERENCE and s.makes.derived_from == source.id), ""
        )
        file, latency = files.get(own or source.id), latencies.get(own or source.id)
        num_bytes, gzip_bytes = (None, None) if file is None else evaluation.file_sizes(file)
        return ModelRow(
            id=source.id,
            title=made.title,
            role=made.role,
            derived_from=made.derived_from,
            labels=made.labels,
            format=source.settings["format"] if made.role is Role.EXPORTED else None,
            parameters=sizes[source.id],
            values=quality.values,
            num_bytes=num_bytes,
            gzip_bytes=gzip_bytes,
            agreement=quality.agreement,
            latency_p50_ms=latency and latency.p50_ms,
            latency_p95_ms=latency and latency.p95_ms,
            runtime=latency and f"LiteRT, {latency.num_threads} thread{'s' * (latency.num_threads != 1)}",
            note="size and latency of its float32 TFLite file" if own in files else "",
        )


def _model(source: Stage, context: Context) -> Any:
    """A Keras model, or a teacher that is not one."""
    if source.makes.role is not Role.TEACHER:
        return context.model(source.id)
    return context.teacher.model if isinstance(context.teacher, FrozenTeacher) else context.teacher


def _predict(model: Any, split: data.Split) -> np.ndarray:
    """The outputs of a Keras model, or the logits of a teacher that is not one, `[examples, ..., outputs]`."""
    if not isinstance(model, keras.Model):
        return predict(model, split)
    return _outputs(evaluation.KerasRunner(model), split)


def _outputs(runner: evaluation.Runner, split: data.Split) -> np.ndarray:
    batches = data.evaluation_batches(split, BATCH_SIZE).as_numpy_iterator()
    return np.concatenate([runner.predict(batch[0]) for batch in batches])


def count_parameters(model: Any) -> int:
    """The number of weights of a model; 0 if it is unknown."""
    if isinstance(model, keras.Model):
        return model.count_params()
    if isinstance(model, Ensemble):
        return sum(map(count_parameters, model.members))
    return count_parameters(model.model) if isinstance(model, FrozenTeacher) else 0


def soft_target_examples(
    teacher: Any, outputs: np.ndarray, split: data.Split, num_examples: int = 4
) -> list[dict[str, Any]]:
    """Test examples of different classes on which the teacher's soft targets have the highest entropy."""
    if isinstance(teacher, keras.Model):
        (head,) = find_heads(teacher, role="teacher").values()
        if not head.is_logits:
            outputs = np.asarray(logits_from_probabilities(outputs, "softmax"))
    soft = softened(outputs, temperature=4.0)
    entropy = -np.sum(soft * np.log(soft + 1e-12), axis=-1)
    labels, chosen = split.labels(), []
    for index in np.argsort(-entropy):
        if labels[index] not in labels[chosen]:
            chosen.append(int(index))
        if len(chosen) == num_examples:
            break
    in_order = sorted(chosen)  # the reading order, independent of the display order
    inputs = dict(zip(in_order, split.subset(np.array(in_order), name="soft targets").arrays()[0], strict=True))
    return [{"image": _scaled(inputs[i]), "label": int(labels[i]), "logits": outputs[i].tolist()} for i in chosen]


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


def _scaled(image: np.ndarray) -> list:
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-12)).round(4).tolist()
