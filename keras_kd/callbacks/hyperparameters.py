"""Callbacks that give a schedule to a `Distiller`."""

from __future__ import annotations

from typing import Any

import keras

import keras_kd.schedules as schedules
from keras_kd.errors import ConfigurationError, explain


class _ScheduleCallback(keras.callbacks.Callback):
    """Sets one scheduled number of the distiller before the first step of a `fit`."""

    attribute: str

    def __init__(self, schedule: Any):
        super().__init__()
        self.schedule = schedules.get(schedule)

    def on_train_begin(self, logs=None):
        if not hasattr(self.model, self.attribute):
            raise ConfigurationError(
                explain(
                    f"{type(self).__name__} needs a model with {self.attribute!r}.",
                    received=f"a {type(self.model).__name__}",
                    expected="a keras_kd.Distiller",
                )
            )
        setattr(self.model, self.attribute, self.schedule)


class AlphaDecay(_ScheduleCallback):
    """Makes the teacher's weight follow a schedule over the optimizer's steps.

    The schedule reads `optimizer.iterations`, so a resumed run continues where it stopped.

    Args:
        schedule: for example `keras_kd.schedules.Cosine(0.9, 0.1, steps=1200)`.
    """

    attribute = "alpha"


class TemperatureDecay(_ScheduleCallback):
    """Makes the temperature follow a schedule over the optimizer's steps; see `AlphaDecay`."""

    attribute = "temperature"
