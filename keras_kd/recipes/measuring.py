"""What the models of a run are worth: accuracy on the whole test split, bytes, agreement, latency."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data, evaluation
from keras_kd.evaluation.plots import softened
from keras_kd.evaluation.summary import DISTILLED, TEACHER, ModelRow
from keras_kd.features import find_heads
from keras_kd.features.logits import logits_from_probabilities
from keras_kd.recipes import teaching
from keras_kd.recipes.progress import Stage
from keras_kd.teachers import Ensemble, FrozenTeacher

BATCH_SIZE = 256


def predict(runner: evaluation.Runner, split: data.Split) -> np.ndarray:
    """The outputs for a whole split, `[examples, classes]`, batch by batch."""
    batches = data.evaluation_batches(split, BATCH_SIZE).as_numpy_iterator()
    return np.concatenate([runner.predict(batch[0]) for batch in batches])


def measure_models(models: dict[str, Any], split: data.Split, stage: Stage) -> dict[str, np.ndarray]:
    """The predictions of each Keras model by row name; of a teacher that is none, its logits."""
    predictions = {}
    for name, model in models.items():
        is_keras = isinstance(model, keras.Model)
        predictions[name] = (
            predict(evaluation.KerasRunner(model), split) if is_keras else teaching.predict(model, split)
        )
        stage.advance(name)
    return predictions


def model_rows(
    models: dict[str, Any],
    predictions: dict[str, np.ndarray],
    labels: np.ndarray,
    files: dict[str, Path],
    latencies: dict[str, evaluation.Latency],
) -> list[ModelRow]:
    """A row per model and per exported file, the teacher first.

    Args:
        models: Keras models by row name; the teacher may be none.
        predictions: `[examples, classes]` by row name, of models and of files.
        files: `.tflite` files by row name; the teacher's own counts as its size and latency.
        latencies: by row name.
    """
    rows = []
    for name, outputs in predictions.items():
        quality = evaluation.measure(outputs, labels, reference=predictions[DISTILLED] if name in files else None)
        file, latency = files.get(name), latencies.get(name)
        is_own_file = file is not None and name not in models
        size = evaluation.file_sizes(file) if file is not None else (None, None)
        rows.append(
            ModelRow(
                name=name,
                parameters=_count(models.get(name, models[DISTILLED])),
                accuracy=quality["accuracy"],
                macro_f1=quality["macro_f1"],
                num_bytes=size[0],
                gzip_bytes=size[1],
                agreement=quality.agreement if is_own_file else None,
                latency_p50_ms=latency and latency.p50_ms,
                latency_p95_ms=latency and latency.p95_ms,
                runtime=latency and f"LiteRT, {latency.num_threads} thread{'s' * (latency.num_threads != 1)}",
                note="size and latency of its float32 TFLite file" if name == TEACHER and name in files else "",
            )
        )
    return rows


def _count(model: Any) -> int:
    """The weights of a model; 0 where nobody can count them."""
    if isinstance(model, keras.Model):
        return model.count_params()
    if isinstance(model, Ensemble):
        return sum(map(_count, model.members))
    return _count(model.model) if isinstance(model, FrozenTeacher) else 0


def soft_target_examples(
    teacher: Any, outputs: np.ndarray, split: data.Split, num_examples: int = 4
) -> list[dict[str, Any]]:
    """Test examples of different classes: those on which the teacher's soft targets have the highest entropy."""
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
    in_order = sorted(chosen)  # as they are read, whatever order they are shown in
    inputs = dict(zip(in_order, split.subset(np.array(in_order), name="soft targets").arrays()[0], strict=True))
    return [{"image": _as_picture(inputs[i]), "label": int(labels[i]), "logits": outputs[i].tolist()} for i in chosen]


def environment() -> dict[str, Any]:
    """What the numbers were measured with."""
    packages = ("keras", "tensorflow", "ai-edge-litert", "numpy")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "keras_kd": version("keras_kd"),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _as_picture(image: np.ndarray) -> list:
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-12)).round(4).tolist()
