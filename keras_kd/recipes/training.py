"""The trainings of a run: the teacher, the student alone, and the student by distillation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_kd import data
from keras_kd.callbacks import Resume
from keras_kd.distillers import Distiller
from keras_kd.features import find_heads
from keras_kd.recipes import teaching
from keras_kd.recipes.assembly import Assembly, Role, make_distiller, make_optimizer
from keras_kd.recipes.folder import RunFolder
from keras_kd.recipes.progress import EpochProgress, RunProgress
from keras_kd.recipes.schema import Distillation, Training
from keras_kd.teachers import Teacher

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
) -> dict[str, list[float]]:
    """Compiles a model or distiller and fits it, from where an interrupted training stopped.

    Args:
        model: built; its weights are trained in place.
        settings: epochs, batch size and optimizer.
        split: what to train on; labels of -1 are ignored.
        name: of the training, for its bar.
        key: of its settings; only a training with the same ones is gone on with.

    Returns:
        The history of all epochs, those before an interruption too; without the training accuracy where labels are
        missing.
    """
    steps = data.steps_per_epoch(split, settings.batch_size)
    student = getattr(model, "student", model)
    is_logits = all(head.is_logits for head in find_heads(student).values())
    pipeline = teaching.pipeline(assembly.recipe, split, settings, assembly.source.num_classes)
    is_mixed = any(isinstance(step, data.Mixing) for step in pipeline.augment)
    if is_mixed:  # labels are shares of classes, none at all a row of zeros
        loss = keras.losses.CategoricalCrossentropy(from_logits=is_logits)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits, ignore_class=data.UNLABELLED)
    model.compile(make_optimizer(settings, settings.epochs * steps), loss=loss, metrics=["accuracy"])
    resume = Resume(folder.state / key, every_seconds=SAVE_EVERY_SECONDS)
    first_epoch = resume.restore(model)
    if first_epoch:
        progress.say(f"{name}: going on after epoch {first_epoch} of {settings.epochs}.")
    one_hot = assembly.source.num_classes if is_mixed else None
    if isinstance(model, Distiller):
        pipeline = pipeline.with_teacher(model.teacher)
    with progress.stage(name, total=settings.epochs, done=first_epoch) as stage:
        model.fit(
            pipeline.from_epoch(first_epoch),
            initial_epoch=first_epoch,
            epochs=settings.epochs,
            validation_data=data.evaluation_batches(assembly.source.validation, settings.batch_size, one_hot=one_hot),
            callbacks=[resume, EpochProgress(stage)],
            verbose=0,
        )
    history = dict(resume.history)
    if np.any(split.labels() == data.UNLABELLED):
        del history["accuracy"]  # of labels that mostly are not there; the validation accuracy stands
    return history


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
) -> tuple[keras.Model, dict[str, list[float]]]:
    """The student or an assistant, alone or by distillation; the same start and the same batches either way."""
    student = role.build()
    if not student.built:
        student.build((None, *assembly.source.input_shape))
    model: Any = student
    settings = role.settings
    if teacher is not None:
        total_steps = settings.epochs * data.steps_per_epoch(split, settings.batch_size)
        recipe = assembly.recipe
        model = make_distiller(teacher, student, distillation, total_steps, recipe.drop, recipe.seed)
    keras.utils.set_random_seed(assembly.recipe.seed)
    history = train(model, settings, split, assembly, folder, progress, name, key)
    return student, history


def few_label_splits(assembly: Assembly) -> tuple[data.Split, data.Split]:
    """The labelled images alone, repeated to the size of the whole split; the whole split with the other labels gone.

    Both give the same number of steps per epoch.
    """
    train_split = assembly.source.train
    labelled, partly = data.few_labels(train_split, assembly.recipe.few_labels.num_labels, assembly.recipe.seed)
    repeated = np.sort(np.resize(np.arange(labelled.num_examples), train_split.num_examples))
    return labelled.subset(repeated, name=f"{labelled.name}, repeated"), partly


def finish_training(folder: RunFolder, model: keras.Model, path: Any, name: str, key: str, history: dict) -> None:
    """Saves the trained model, marks the stage as done, and only then drops the state of the training."""
    folder.finish_model(name, key, {"history": history}, path, model)
    Resume(folder.state / key).clear()
