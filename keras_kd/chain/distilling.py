"""Distillation in several steps: through assistants to a student, or over generations of the same model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_kd.chain.links import check_links, for_each, take_models, teacher_name, unique
from keras_kd.chain.progress import RunProgress
from keras_kd.chain.result import Chain
from keras_kd.chain.settings import Settings
from keras_kd.chain.training import Training
from keras_kd.chain.training_file import alone_in
from keras_kd.errors import check_choice, check_integer, check_number
from keras_kd.hyperparameters import DEFAULT_ALPHA, DEFAULT_TEMPERATURE
from keras_kd.teachers import FrozenTeacher

GUIDANCE = ("previous", "all")


def distill_chain(
    models: Sequence[Any],
    data: Any,
    *,
    epochs: int | Sequence[int],
    optimizer: Any = "adam",
    loss: Any = None,
    metrics: Any = ("accuracy",),
    compile: Mapping[str, Any] | None = None,
    alpha: Any = DEFAULT_ALPHA,
    temperature: Any = DEFAULT_TEMPERATURE,
    losses: Any = None,
    guidance: str = "previous",
    drop: float = 0.0,
    validation_data: Any = None,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> Chain:
    """Trains a chain of models: each is distilled from the one, or from all, before it.

        chain = kd.distill_chain([teacher, assistant, student], (x, y), epochs=30, validation_data=(x_val, y_val))
        print(chain)
        chain.student

    An assistant of intermediate size helps a student that is much smaller than its teacher. With `guidance="all"`, each
    model learns from all models before it, by the mean of one soft-target term per teacher.

    With a `folder`, finished models are saved there (`training-1.keras`, `training-2.keras` and so on). A second call
    with the same arguments resumes an interrupted run and gives the same result. The initial weights are part of the
    arguments: pass functions, which are seeded here, or call `keras.utils.set_random_seed` before building the models.
    A model whose training is interrupted gets its initial weights back.

    Sources: S. I. Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020; W. Son, J. Na,
    J. Choi & W. Hwang, "Densely Guided Knowledge Distillation Using Multiple Teacher Assistants", 2021
    (`"all"`, `drop`).

    Args:
        models: a trained teacher (a Keras model, the path of a `.keras` file, or a keras_kd teacher), then the models
            to train, in order: Keras models, trained in place, or functions without arguments that build one.
        data: arrays `(x, y)`, a `keras_kd.data.Pipeline`, or a `tf.data.Dataset` of batches. The content of a data set
            is not checked: make sure that it yields the same batches in each epoch and in a second call.
        epochs: one number for all trainings, or a list with one per training.
        optimizer: a name, a config, an optimizer (each training gets a copy), or a function that makes one.
        loss: for the labels, as in `compile`; None means sparse categorical cross-entropy.
        metrics: as in `compile`.
        compile: further settings of `compile`, such as `{"jit_compile": False}`.
        alpha: the weight of the teacher, see `Distiller`.
        temperature: of the soft targets, see `Distiller`.
        losses: see `Distiller`; each training gets copies. None means soft targets.
        guidance: the teachers of each model: the `"previous"` one, or `"all"` before it.
        drop: with `"all"`, the probability, below 1, that a teacher is left out of a step. The weights of the others
            grow accordingly, and at least one teacher remains.
        validation_data: as in `fit`.
        batch_size: for arrays; None means 64.
        folder: where finished and interrupted trainings are saved; None saves nothing.
        seed: of the models that functions build, and of the trainings: `seed` for the first, `seed + 1` for the second,
            and so on.
        callbacks: shared by all trainings.
        progress: whether to show a bar for each training.

    Returns:
        The trained models and a record of each training.

    Raises:
        ConfigurationError: fewer than two models, models that do not fit together, other settings out of range, or
            another process is using `folder`.
        TeacherError: the teacher's file is missing.
    """
    check_choice("guidance", guidance, GUIDANCE)
    check_number("drop", drop, at_least=0.0, at_most=0.99, fix="`drop` is a probability.")
    settings = Settings(
        optimizer, loss, metrics, dict(compile or {}), alpha, temperature, losses, guidance, drop, batch_size, seed
    )
    teacher, students = take_models(models, seed)
    check_links(teacher, students, guidance=guidance, drop=drop, loss=loss, losses=losses)
    epochs = for_each(epochs, len(students))
    names = unique([teacher_name(teacher), *(student.name for student in students)])
    teachers, trainings = [teacher], []
    with alone_in(folder), RunProgress(shown=progress) as shown:
        for index, (student, num_epochs) in enumerate(zip(students, epochs, strict=True)):
            first = 0 if guidance == "all" else index
            training = Training(student, teachers[first:], names[first : index + 2], num_epochs, index, settings)
            trainings.append(training.run(data, validation_data, folder and Path(folder), list(callbacks), shown))
            teachers.append(FrozenTeacher(student))
    return Chain(tuple(students), tuple(trainings))


def born_again(teacher: Any, build: Callable[[], keras.Model], generations: int, data: Any, **settings: Any) -> Chain:
    """Trains several generations of one architecture, each distilled from the generation before it.

    The same as `distill_chain` with `build` for every model to train.

    Source: T. Furlanello et al., "Born-Again Neural Networks", 2018, which uses a temperature of 1. Its ensemble is the
    mean over the generations: `keras_kd.teachers.Ensemble(chain.models)`.

    Args:
        teacher: a trained model, see `distill_chain`.
        build: builds an untrained model; called once per generation, each time with a different seed.
        generations: how many to train, at least 1.
        data, settings: see `distill_chain`.
    """
    count = check_integer("generations", generations, at_least=1)
    return distill_chain([teacher, *[build] * count], data, **settings)
