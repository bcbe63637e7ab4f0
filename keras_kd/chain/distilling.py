"""Distillation in several steps: a teacher teaches an assistant, the assistant a student, or a model its own likes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_kd.chain.links import check_links, for_each, take_models, teacher_name, unique
from keras_kd.chain.progress import RunProgress
from keras_kd.chain.result import Chain
from keras_kd.chain.settings import Settings
from keras_kd.chain.training import Training
from keras_kd.errors import check_choice, check_number
from keras_kd.hyperparameters import DEFAULT_ALPHA, DEFAULT_TEMPERATURE
from keras_kd.locks import locked
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
    """Trains each model by distillation from those before it: teacher, assistants, student.

        chain = kd.distill_chain([teacher, assistant, student], (x, y), epochs=30, validation_data=(x_val, y_val))
        print(chain)
        chain.student

    Where a student is much smaller than its teacher, one of a size between the two helps. With `guidance="all"` each
    model learns from all before it: the mean of one soft-target term for each of them.

    With a `folder`, what is finished is kept there (`stage-1.keras`, `stage-2.keras` and so on), and a second call with
    the same arguments goes on where the first one was interrupted, to the same result. The first weights count among
    the arguments: pass functions, which are seeded here, or call `keras.utils.set_random_seed` before the models are
    made. A model whose training is interrupted gets the weights back that it came with.

    Sources: S. I. Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020; W. Son, J. Na,
    J. Choi & W. Hwang, "Densely Guided Knowledge Distillation Using Multiple Teacher Assistants", 2021
    (`"all"`, `drop`).

    Args:
        models: a trained teacher (a Keras model, the path of a `.keras` file, or a keras_kd teacher), then the models
            to train in order: Keras models, trained in place, or functions without arguments that build one.
        data: arrays `(x, y)`, a `keras_kd.data.Pipeline`, or a `tf.data.Dataset` of batches. A data set is not looked
            into: that it gives the same batches in each epoch, and is the same in a second call, is up to you.
        epochs: for each training, or a list with one for each.
        optimizer: a name, a config, an optimizer (each training has a copy), or a function that makes one.
        loss: for the labels, as in `compile`; None takes the cross-entropy of class numbers.
        metrics: as in `compile`.
        compile: further settings of `compile`, such as `{"jit_compile": False}`.
        alpha: the weight of the teacher, see `Distiller`.
        temperature: of the soft targets, see `Distiller`.
        losses: see `Distiller`; each training has copies. None takes soft targets.
        guidance: who teaches: the one `"previous"` model, or `"all"` before it.
        drop: with `"all"`, the probability that a teacher is left out of a step, below 1; the others then count for
            more, and one always stays.
        validation_data: as in `fit`.
        batch_size: of arrays; None takes 64.
        folder: where to keep what is finished, or half finished; None keeps nothing.
        seed: of what the functions build, and of the trainings: 0 for the first, seed + 1 for the second, and so on.
        callbacks: for each training; all trainings share them.
        progress: shows a bar for each training.

    Returns:
        The trained models and how it went.

    Raises:
        ConfigurationError: fewer than two models, models that do not fit together, other settings out of range, or
            another process that works in `folder`.
        TeacherError: the teacher's file is missing.
    """
    check_choice("guidance", guidance, GUIDANCE)
    check_number("drop", drop, at_least=0.0, at_most=0.99, fix="It is a probability.")
    settings = Settings(
        optimizer, loss, metrics, dict(compile or {}), alpha, temperature, losses, guidance, drop, batch_size, seed
    )
    teacher, students = take_models(models, seed)
    check_links(teacher, students, guidance=guidance, drop=drop, loss=loss, losses=losses)
    epochs = for_each(epochs, len(students))
    names = unique([teacher_name(teacher), *(student.name for student in students)])
    teachers, stages = [teacher], []
    with _alone_in(folder), RunProgress(shown=progress) as shown:
        for index, (student, num_epochs) in enumerate(zip(students, epochs, strict=True)):
            first = 0 if guidance == "all" else index
            training = Training(student, teachers[first:], names[first : index + 2], num_epochs, index, settings)
            stages.append(training.run(data, validation_data, folder and Path(folder), list(callbacks), shown))
            teachers.append(FrozenTeacher(student))
    return Chain(tuple(students), tuple(stages))


def born_again(teacher: Any, build: Callable[[], keras.Model], generations: int, data: Any, **settings: Any) -> Chain:
    """Trains a model from a teacher of its own kind, the next from that one, and so on: `distill_chain` of `build`.

    Source: T. Furlanello et al., "Born-Again Neural Networks", 2018; there the temperature is 1. Their ensemble is the
    mean over the generations: `keras_kd.teachers.Ensemble(chain.models)`.

    Args:
        teacher: a trained model, see `distill_chain`.
        build: makes an untrained model; it is called once for each generation, under another seed.
        generations: how many to train, at least 1.
        data, settings: see `distill_chain`.
    """
    check_number("generations", generations, at_least=1)
    return distill_chain([teacher, *[build] * generations], data, **settings)


def _alone_in(folder: str | Path | None) -> contextlib.AbstractContextManager[None]:
    """Keeps other calls out of the folder while this one works there."""
    return contextlib.nullcontext() if folder is None else locked(Path(folder) / ".lock")
