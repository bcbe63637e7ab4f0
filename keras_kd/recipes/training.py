"""The trainings of a run: the teacher, the student alone, and the student by distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data
from keras_kd.callbacks import Resume
from keras_kd.distillers import Distiller
from keras_kd.errors import TrainingError, explain
from keras_kd.features import find_heads
from keras_kd.recipes import teaching
from keras_kd.recipes.assembly import Assembly, Role, make_distiller, make_optimizer
from keras_kd.recipes.building import not_finite
from keras_kd.recipes.folder import RunFolder, settings_key
from keras_kd.recipes.progress import EpochProgress, RunProgress
from keras_kd.recipes.schema import Distillation, Training
from keras_kd.recipes.speed import build_ahead, steps_per_execution
from keras_kd.teachers import Teacher
from keras_kd.teachers.frozen import fingerprint

SAVE_EVERY_SECONDS = 5.0


def train(
    model: keras.Model,
    settings: Training,
    split: data.Split,
    assembly: Assembly,
    folder: RunFolder,
    progress: RunProgress,
    name: str,
    key: str,
    views: int | None = None,
) -> dict[str, Any]:
    """Compiles a model or distiller and fits it, from where an interrupted training stopped.

    Args:
        model: built; its weights are trained in place.
        settings: epochs, batch size and optimizer.
        split: what to train on; labels of -1 are ignored.
        name: of the training, for its bar.
        key: of its settings; only a training with the same ones is gone on with.
        views: how many views of an image there are; None gives a fresh one each epoch.

    Returns:
        `"history"` of all epochs, those before an interruption too, without the training accuracy where labels are
        missing; and `"conditions"`, what the model was trained with.

    Raises:
        TrainingError: a loss or a weight became NaN or infinite.
    """
    student = getattr(model, "student", model)
    conditions = {"first weights": fingerprint(student)}
    is_logits = all(head.is_logits for head in find_heads(student).values())
    pipeline = teaching.pipeline(assembly.recipe, split, settings, assembly.source.num_classes, views)
    is_mixed = any(isinstance(step, data.Mixing) for step in pipeline.augment)
    if is_mixed:  # labels are shares of classes, none at all a row of zeros
        loss = keras.losses.CategoricalCrossentropy(from_logits=is_logits)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits, ignore_class=data.UNLABELLED)
    total_steps = settings.epochs * pipeline.steps_per_epoch
    model.compile(
        make_optimizer(settings, total_steps),
        loss=loss,
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution(model, pipeline),
    )
    build_ahead(model, pipeline)
    resume = Resume(folder.state / key, every_seconds=SAVE_EVERY_SECONDS, keep_finished=True)
    first_epoch = resume.restore(model)
    if first_epoch:
        progress.say(f"{name}: going on after epoch {first_epoch} of {settings.epochs}.")
    one_hot = assembly.source.num_classes if is_mixed else None
    if isinstance(model, Distiller):
        pipeline = pipeline.with_teacher(model.teacher)
        pipeline.views = views  # a cache may hold more of them
    with progress.stage(name, total=settings.epochs, done=first_epoch) as stage:
        model.fit(
            pipeline.from_epoch(first_epoch),
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            validation_data=data.evaluation_batches(assembly.source.validation, settings.batch_size, one_hot=one_hot),
            callbacks=[_StopsWhenDiverged(name), resume, EpochProgress(stage, resume)],
            verbose=0,
        )
    _check_weights(student, name)
    history = dict(resume.history)
    if np.any(split.labels() == data.UNLABELLED):
        del history["accuracy"]  # of labels that mostly are not there; the validation accuracy stands
    return {"history": history, "conditions": conditions | _conditions(model, pipeline, settings, split)}


def _conditions(model: keras.Model, pipeline: data.Pipeline, settings: Training, split: data.Split) -> dict[str, Any]:
    """What a training was done with, as it was done; what two students of a comparison have to have in common."""
    fresh = "a fresh one each epoch" if pipeline.views is None else pipeline.views
    return {
        "images": split.name,
        "views": fresh if pipeline.augment else 1,
        "seed": pipeline.seed,
        "steps": int(model.optimizer.iterations),
        **settings.model_dump(mode="json", include=set(Training.model_fields) - {"model"}),
    }


class _StopsWhenDiverged(keras.callbacks.Callback):
    """Ends a training whose loss became NaN or infinite, before its state is saved."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        lost = [f"{key} {value}" for key, value in (logs or {}).items() if "loss" in key and not math.isfinite(value)]
        if lost:
            raise _diverged(f"{self._name}, epoch {epoch + 1}", ", ".join(lost))


def _check_weights(model: keras.Model, name: str) -> None:
    if lost := not_finite(model):
        raise _diverged(name, f"NaN or infinity in {', '.join(lost)}")


def _diverged(where: str, received: str) -> TrainingError:
    return TrainingError(
        explain(
            f"{where}: the training diverged.",
            received=received,
            expected="finite losses and weights",
            fix="Lower its learning_rate, or the weights of its losses.",
        )
    )


def train_student(
    assembly: Assembly,
    split: data.Split,
    folder: RunFolder,
    progress: RunProgress,
    name: str,
    *,
    role: Role,
    key: str,
    teacher: Teacher | None = None,
    distillation: Distillation | None = None,
) -> tuple[keras.Model, dict[str, Any]]:
    """The student or an assistant, alone or by distillation: same start, same order, same views either way.

    Returns:
        The model, and what `train` returns.
    """
    student = role.build()
    if not student.built:
        student.build((None, *assembly.source.input_shape))
    model: Any = student
    settings, recipe = role.settings, assembly.recipe
    if teacher is not None:
        total_steps = settings.epochs * data.steps_per_epoch(split, settings.batch_size)
        teacher = teaching.asked_once(teacher, recipe, split, distillation.losses, progress, name)
        model = make_distiller(teacher, student, distillation, total_steps, recipe.drop, recipe.seed)
    keras.utils.set_random_seed(recipe.seed)
    result = train(model, settings, split, assembly, folder, progress, name, key, teaching.views(recipe))
    return student, result


def few_label_splits(assembly: Assembly) -> tuple[data.Split, data.Split]:
    """The labelled images alone, repeated to the size of the whole split; the whole split with the other labels gone.

    Both give the same number of steps per epoch.
    """
    train_split, num_labels = assembly.source.train, assembly.recipe.few_labels.num_labels
    labelled, partly = data.few_labels(train_split, num_labels, assembly.recipe.seed)
    repeated = np.sort(np.resize(np.arange(labelled.num_examples), train_split.num_examples))
    alone = labelled.subset(repeated, name=f"the {num_labels} labeled ones, repeated")
    return alone, partly.relabelled(partly.labels(), name=f"all, {num_labels} of them labeled")


def finish_training(
    folder: RunFolder, model: keras.Model, path: Path, name: str, settings: Mapping[str, Any], result: dict[str, Any]
) -> None:
    """Saves the trained model, marks the stage as done, and only then drops the state of the training."""
    folder.finish_model(name, settings, result, path, model)
    Resume(folder.state / settings_key(settings)).clear()
