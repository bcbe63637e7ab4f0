"""The training loop of chains and recipes: an interrupted training resumes, a diverged one ends with an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.callbacks import Resume
from keras_kd.chain.progress import EpochProgress, RunProgress
from keras_kd.data import Pipeline
from keras_kd.distillers.robust.checks import OUTSIDE
from keras_kd.errors import TrainingError, explain


def fit(
    model: keras.Model,
    data: Any,
    *,
    name: str,
    epochs: int,
    progress: RunProgress,
    resume: Resume | None = None,
    validation_data: Any = None,
    validation_batch_size: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    made: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Fits a model or distiller; an interrupted training resumes after its last saved epoch.

    Args:
        model: built and compiled; its weights are trained in place.
        data: a `Pipeline`, which resumes at the right epoch, or anything else that `fit` takes.
        name: of the training, for its progress bar and for errors.
        epochs: of the whole training.
        progress: where the epochs are shown.
        resume: restores and saves the state of the training; None saves nothing.
        validation_data, validation_batch_size: as in `fit`.
        callbacks: called before those of this loop.
        made: of a distiller that makes its own examples, the arguments of `fit` in place of `data`, which is None.

    Returns:
        The history of all epochs, including those before an interruption.

    Raises:
        TrainingError: a loss or a weight became NaN or infinite.
    """
    first = 0 if resume is None else resume.restore(model)
    if first:
        progress.say(f"{name}: resuming after epoch {first} of {epochs}.")
    with progress.stage(name, total=epochs, done=first) as stage:
        last = [_StopWhenDiverged(name), *([] if resume is None else [resume]), EpochProgress(stage, resume)]
        # a Pipeline shuffles its own examples; the caller shuffles a tf.data.Dataset
        given = {"x": data.from_epoch(first) if isinstance(data, Pipeline) else data, "shuffle": False}
        history = model.fit(
            **(given if made is None else made),
            initial_epoch=first,
            epochs=epochs,
            validation_data=validation_data,
            validation_batch_size=validation_batch_size,
            callbacks=[*callbacks, *last],
            verbose=0,
        ).history
    check_weights(getattr(model, "student", model), name)
    return dict(history if resume is None else resume.history)


def non_finite_weights(model: keras.Model) -> list[str]:
    """The paths of the weights that contain NaN or infinity."""
    values = ((weight.path, keras.ops.convert_to_numpy(weight)) for weight in model.weights)
    return [path for path, value in values if not np.isfinite(value.astype(np.float32)).all()]


def check_weights(model: keras.Model, name: str) -> None:
    """Raises `TrainingError` if a weight is NaN or infinite."""
    if lost := non_finite_weights(model):
        raise _diverged(name, f"NaN or infinity in {', '.join(lost)}")


class _StopWhenDiverged(keras.callbacks.Callback):
    """Stops a training whose loss became NaN or infinite, before its state is saved."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        lost = [f"{key} {value}" for key, value in (logs or {}).items() if "loss" in key and not math.isfinite(value)]
        if not lost:
            return
        where, outside = f"{self._name}, epoch {epoch + 1}", logs.get(OUTSIDE, 0.0)
        if outside > 0.0:  # such examples have a loss of NaN
            raise TrainingError(
                explain(
                    f"{where}: examples lie outside the value range of the adversary.",
                    received=f"{outside:.2%} of them",
                    expected="none",
                    fix="Set the value range of the data, or of the adversary; normalize inside the model.",
                )
            )
        raise _diverged(where, ", ".join(lost))


def _diverged(where: str, received: str) -> TrainingError:
    return TrainingError(
        explain(
            f"{where}: the training diverged.",
            received=received,
            expected="finite losses and weights",
            fix="Lower its learning_rate, or the weights of its losses.",
        )
    )
