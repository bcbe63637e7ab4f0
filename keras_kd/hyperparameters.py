"""A number that may change during training: set by hand between steps, or given by a schedule."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

import keras_kd.schedules as schedules
from keras_kd.errors import check_number
from keras_kd.serialization import serialize

DEFAULT_ALPHA = 0.5
DEFAULT_TEMPERATURE = 4.0


class Hyperparameter:
    """A number held in a non-trainable variable, or a schedule of the optimizer step.

    A compiled step that reads `at(step)` uses a new number immediately, without a retrace; `schedule` is a constant in
    it. A model that holds this plain object neither trains nor saves it.

    Args:
        name: for messages.
        value: a number, a schedule (also a `keras.optimizers.schedules.LearningRateSchedule`), or a schedule's name
            with settings.
        at_least, at_most: the allowed range; a schedule is clipped to it.
        fix: advice for the error message.

    Attributes:
        schedule: the schedule, or None for a number.
        variable: stores the number; a backend without mutable variables passes it into the step.

    >>> alpha = Hyperparameter("alpha", 0.9, at_least=0, at_most=1)
    >>> alpha.set(0.5)
    >>> float(alpha.at(step=0))
    0.5
    """

    def __init__(self, name: str, value: Any, *, at_least=-float("inf"), at_most=float("inf"), fix=None):
        self.name = name
        self._range = {"at_least": at_least, "at_most": at_most, "fix": fix}
        self.schedule: schedules.Schedule | LearningRateSchedule | None = None
        self._number = 0.0
        self.variable = keras.Variable(
            0.0, trainable=False, dtype="float32", aggregation="only_first_replica", name=name
        )
        self.set(value)

    @property
    def value(self) -> float | schedules.Schedule | LearningRateSchedule:
        """The number or schedule that was set."""
        return self._number if self.schedule is None else self.schedule

    def set(self, value: Any) -> None:
        """Sets a number, a schedule, or a schedule's name with settings.

        Raises:
            ConfigurationError: neither a number in the range nor a schedule.
        """
        is_schedule = isinstance(value, (schedules.Schedule, LearningRateSchedule, dict, str))
        schedule = schedules.get(value) if is_schedule else None
        if schedule is None:
            self._number = check_number(self.name, value, **self._range)
            self.variable.assign(self._number)
        self.schedule = schedule

    def at(self, step: Any) -> Any:
        """The value at an optimizer step, a float32 scalar tensor; a schedule is clipped to the allowed range."""
        if self.schedule is None:
            return ops.convert_to_tensor(self.variable)
        value = ops.cast(self.schedule(step), "float32")
        return ops.clip(value, self._range["at_least"], self._range["at_most"])

    def get_config(self) -> Any:
        return serialize(self.value)
