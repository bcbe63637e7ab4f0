"""A number that may change during training: set by hand between two steps, or read off a schedule."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

import keras_kd.schedules as schedules
from keras_kd.errors import check_number
from keras_kd.serialization import serialize


class Hyperparameter:
    """A number held in a non-trainable variable, or a schedule of the optimizer step.

    A compiled step that reads `at(step)` sees a new number at once, without being traced again. It is a plain object,
    so a model that holds one neither trains it nor writes it into its checkpoints.

    >>> alpha = Hyperparameter("alpha", 0.9, at_least=0, at_most=1)
    >>> alpha.set(0.5)
    False
    >>> float(alpha.at(step=0))
    0.5
    """

    def __init__(self, name: str, value: Any, *, at_least=-float("inf"), at_most=float("inf"), fix=None):
        self.name = name
        self._range = {"at_least": at_least, "at_most": at_most, "fix": fix}
        self._schedule: schedules.Schedule | None = None
        self._number = 0.0
        self.variable = keras.Variable(
            0.0, trainable=False, dtype="float32", aggregation="only_first_replica", name=name
        )
        self.set(value)

    @property
    def value(self) -> float | schedules.Schedule:
        """What was set: a number or a schedule."""
        return self._number if self._schedule is None else self._schedule

    def set(self, value: Any) -> bool:
        """Takes a number, a schedule, or a schedule's name with settings.

        Returns:
            Whether a step that was compiled before must be compiled again to see the change.

        Raises:
            ConfigurationError: no number in the range, and no schedule.
        """
        before = self._schedule
        is_schedule = isinstance(value, (schedules.Schedule, dict, str))
        schedule = schedules.get(value) if is_schedule else None
        if schedule is None:
            self._number = check_number(self.name, value, **self._range)
            self.variable.assign(self._number)
        self._schedule = schedule
        return schedule != before

    def at(self, step: Any) -> Any:
        """The value at an optimizer step, a float32 scalar tensor; a schedule is held to the allowed range."""
        if self._schedule is None:
            return ops.convert_to_tensor(self.variable)
        return ops.clip(self._schedule(step), self._range["at_least"], self._range["at_most"])

    def get_config(self) -> Any:
        return serialize(self.value)
