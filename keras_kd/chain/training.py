"""One resumable training of a chain."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd import files
from keras_kd.callbacks import Resume
from keras_kd.chain.fitting import fit
from keras_kd.chain.progress import RunProgress
from keras_kd.chain.result import TrainingRecord
from keras_kd.chain.settings import Settings, plain
from keras_kd.chain.training_file import TrainingFile
from keras_kd.data import Pipeline
from keras_kd.distillers import Distiller
from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses.multi_teacher import soft_targets_per_teacher
from keras_kd.teachers import Teacher, fingerprint
from keras_kd.teachers.several.panel import Panel

_BATCH_SIZE = 64
SAVE_EVERY_SECONDS = 10.0
_SMALLER_IS_BETTER = ("loss", "error", "divergence")


class Training:
    """The training of one student by its teachers, or alone.

    With `steps`, it ends after that many steps; an error if its epochs have fewer.
    """

    def __init__(
        self,
        student: keras.Model,
        teachers: list[Teacher],
        names: list[str],
        epochs: int,
        index: int,
        settings: Settings,
        steps: int | None = None,
    ):
        self.student = student
        self.teachers = teachers
        *self.teacher_names, self.name = names
        self.epochs = epochs
        self.number = index + 1
        self.seed = settings.seed + index
        self.settings = settings
        self.steps = steps

    def run(
        self, data: Any, validation_data: Any, folder: Path | None, callbacks: list[Any], progress: RunProgress
    ) -> TrainingRecord:
        """Trains the student, or loads the weights from an earlier call."""
        data = _checked_data(data, self.settings.batch_size, self.seed)
        with _restored_on_error(self.student):
            if folder is None:
                return self._record(self._fit(data, validation_data, callbacks, None, progress))
            file = TrainingFile(folder, self.number, self._key(data))
            record = file.load(self.student)
            if record is None:
                initial = fingerprint(self.student)
                resume = Resume(file.unfinished(initial), every_seconds=SAVE_EVERY_SECONDS, keep_finished=True)
                record = self._record(self._fit(data, validation_data, callbacks, resume, progress))
                file.save(self.student, initial, record)
                resume.clear()
            else:
                progress.say(f"{self.name}: loaded from {folder}, trained before with these settings.")
            return record

    def _fit(
        self, data: Any, validation_data: Any, callbacks: list[Any], resume: Resume | None, progress: RunProgress
    ) -> dict[str, list[float]]:
        is_pipeline = isinstance(data, Pipeline)
        batch_size = data.batch_size if isinstance(validation_data, tuple) and is_pipeline else None
        model = self._seeded()
        model.compile(**self.settings.compiled(self.student))
        ending = [] if self.steps is None else [_StopAfter(self.steps)]
        return fit(
            model,
            data.with_teacher(model.teacher) if is_pipeline and self.teachers else data,
            name=", taught by ".join(filter(None, (self.name, ", ".join(self.teacher_names)))),
            epochs=self.epochs,
            progress=progress,
            resume=resume,
            validation_data=validation_data,
            validation_batch_size=batch_size,
            callbacks=[*callbacks, *ending, _Seconds()],
        )

    def _seeded(self) -> keras.Model:
        """The student, or its distiller."""
        if not self.teachers:
            keras.utils.set_random_seed(self.seed)
            return self.student
        teacher = self.teachers[0] if len(self.teachers) == 1 else Panel(self.teachers, names=self.teacher_names)
        keras.utils.set_random_seed(self.seed)  # before the weights of the losses are created
        return Distiller(
            teacher,
            self.student,
            alpha=self.settings.alpha,
            temperature=self.settings.temperature,
            losses=self._losses(),
        )

    def _losses(self) -> Any:
        if len(self.teachers) == 1:
            return self.settings.new_losses()
        return soft_targets_per_teacher(self.student, self.teacher_names, self.settings.drop, self.seed)

    def _key(self, data: Any) -> str:
        """A hash of everything that the result depends on, except the student's initial weights."""
        depends_on = {
            **self.settings.described(),
            "epochs": self.epochs,
            "teachers": [teacher.fingerprint for teacher in self.teachers],
            "data": _described(data) if isinstance(data, Pipeline) else None,
        }
        if self.steps is not None:
            depends_on["steps"] = self.steps
        return files.digest_of_json(depends_on, default=plain)[:16]

    def _record(self, history: dict[str, list[float]]) -> TrainingRecord:
        history = {name: [float(value) for value in values] for name, values in history.items()}
        seconds = sum(history.pop("seconds", []))
        measured = {name.removeprefix("val_"): values for name, values in history.items() if name.startswith("val_")}
        return TrainingRecord(
            name=self.name,
            teachers=tuple(self.teacher_names),
            parameters=self.student.count_params(),
            epochs=len(next(iter(history.values()), [])),
            seconds=seconds,
            metrics={name: values[-1] for name, values in measured.items()},
            best={name: _better(name)(values) for name, values in measured.items()},
            history=history,
        )


def _described(pipeline: Pipeline) -> list[Any]:
    """The properties that determine the batches, except labels that are read from disk."""
    settings = [pipeline.batch_size, pipeline.seed, pipeline.shuffle, pipeline.views]
    has_labels = pipeline.examples.parts > 1 and pipeline.examples.random_access
    labels = keras.tree.flatten(pipeline.examples.labels()) if has_labels else []
    curriculum = [] if pipeline.curriculum is None else [pipeline.curriculum_identity()]
    return [pipeline.identity(), files.digest_of_arrays(labels), settings, *curriculum]


def _better(name: str) -> Callable[[list[float]], float]:
    return min if any(word in name for word in _SMALLER_IS_BETTER) else max


def _checked_data(data: Any, batch_size: int | None, seed: int) -> Any:
    """Arrays as a pipeline, whose order survives an interruption; anything else unchanged."""
    if isinstance(data, (tuple, list, np.ndarray)):
        return Pipeline(
            tuple(data) if isinstance(data, list) else data,
            batch_size=_BATCH_SIZE if batch_size is None else batch_size,
            seed=seed,
        )
    if batch_size is not None:
        raise ConfigurationError(
            explain(
                "`batch_size` applies to arrays only.",
                received=f"batch_size={batch_size} with a {type(data).__name__}",
                fix="Leave `batch_size` out: the data are already batched.",
            )
        )
    return data


@contextlib.contextmanager
def _restored_on_error(model: keras.Model) -> Iterator[None]:
    """Restores a model's weights and random state if the training fails or is interrupted."""
    metrics = {id(variable) for variable in model.metrics_variables}
    state = [(v, np.array(ops.convert_to_numpy(v))) for v in model.variables if id(v) not in metrics]
    try:
        yield
    except BaseException:
        for variable, value in state:
            variable.assign(value)
        raise


class _Seconds(keras.callbacks.Callback):
    """Adds the duration of each epoch in seconds to the logs, for later callbacks."""

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self._start


class _StopAfter(keras.callbacks.Callback):
    """Ends a training after a number of steps, and raises `ConfigurationError` if it ended before."""

    def __init__(self, steps: int):
        super().__init__()
        self._steps, self._left, self._done = steps, steps, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._left, self._done = self._left - self._done, 0

    def on_train_batch_end(self, batch, logs=None):
        self._done = batch + 1
        if self._done >= self._left:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self._done < self._left:
            taken = self._steps - self._left + self._done
            raise ConfigurationError(
                explain(
                    "The training ended before the step that it was to reach.",
                    received=f"the end after step {taken:,}",
                    expected=f"at least {self._steps:,} steps",
                    fix="Train for more epochs, or ask for an earlier step (`rewind`).",
                )
            )

    def get_state(self) -> dict[str, int]:
        return {"left": self._left - self._done}

    def set_state(self, state: dict[str, int]) -> None:
        self._left, self._done = state["left"], 0
