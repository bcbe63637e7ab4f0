"""Schedules: a number as a function of the optimizer step alone.

Each is a frozen dataclass with `__call__(step)`, which gives it equality, repr and a configuration. `step` is an int or
an integer tensor of any shape, counted from 0; the result is a float32 tensor of that shape. The same code runs in a
compiled training step and on a NumPy range to draw the curve. After its end, a schedule keeps its last value. Wherever
a schedule is accepted, so is a `keras.optimizers.schedules.LearningRateSchedule`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.serialization import Registry, deserialize, register, serialize

registry = Registry("schedule")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Base of all schedules: `value = schedule(step)`."""

    def __call__(self, step: Any) -> Any:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {field.name: serialize(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        return cls(**{name: deserialize(value) for name, value in config.items()})


def get(value: Any) -> Schedule | LearningRateSchedule:
    """A schedule from a number, a name with settings, or a schedule, Keras' own included.

    >>> get(0.5)
    Constant(value=0.5)
    >>> get({"name": "linear", "start": 1.0, "end": 0.0, "steps": 10})
    Linear(start=1.0, end=0.0, steps=10)
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Constant(value)
    if isinstance(value, (Schedule, LearningRateSchedule)):
        return value
    return registry.get(value)


def _as_tuple(schedule: Schedule, name: str) -> tuple[Any, ...]:
    """Turns lists into tuples, so that a schedule read from YAML or JSON equals one written in Python."""
    values = tuple(getattr(schedule, name))
    object.__setattr__(schedule, name, values)
    return values


def _check_boundaries(boundaries: tuple[Any, ...], num_pieces: int) -> None:
    for boundary in boundaries:
        check_integer("boundaries", boundary, at_least=1)
    if list(boundaries) != sorted(set(boundaries)) or len(boundaries) != num_pieces - 1:
        raise ConfigurationError(
            explain(
                "Invalid 'boundaries'.",
                received=repr(boundaries),
                expected=f"{num_pieces - 1} increasing steps, one fewer than the {num_pieces} pieces",
            )
        )


def _fraction(step: Any, steps: int) -> Any:
    """The fraction of `steps` completed at `step`, 0 to 1."""
    return ops.clip(ops.cast(step, "float32") / float(steps), 0.0, 1.0)


@registry.register
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """A constant value.

    >>> float(Constant(0.5)(7))
    0.5
    """

    value: float

    def __post_init__(self):
        check_number("value", self.value)

    def __call__(self, step):
        return ops.full(ops.shape(ops.convert_to_tensor(step)), self.value, dtype="float32")


@registry.register
@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """From `start` to `end` in a straight line over `steps` steps.

    >>> float(Linear(1.0, 0.0, steps=10)(5))
    0.5
    """

    start: float
    end: float
    steps: int

    def __post_init__(self):
        check_number("start", self.start)
        check_number("end", self.end)
        check_integer("steps", self.steps, at_least=1)

    def __call__(self, step):
        return self.start + (self.end - self.start) * _fraction(step, self.steps)


@registry.register
@dataclasses.dataclass(frozen=True)
class Cosine(Linear):
    """From `start` to `end` along half a cosine over `steps` steps (Loshchilov & Hutter, SGDR, 2017, one cycle).

    `end + (start - end) * (1 + cos(pi * step / steps)) / 2`

    >>> round(float(Cosine(0.9, 0.1, steps=10)(5)), 6)
    0.5
    """

    def __call__(self, step):
        return self.end + (self.start - self.end) * 0.5 * (1.0 + ops.cos(math.pi * _fraction(step, self.steps)))


@registry.register
@dataclasses.dataclass(frozen=True)
class CosineRestarts(Linear):
    """From `start` to `end` along half a cosine over `steps` steps, again and again, or `cycles` times.

    `end + (start - end) * (1 + cos(pi * (step mod steps) / steps)) / 2` (Huang et al., "Snapshot Ensembles", 2017,
    equation 2). After the last cycle the value stays at `end`.

    >>> schedule = CosineRestarts(0.2, 0.0, steps=10, cycles=2)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 15, 20)]
    [0.2, 0.1, 0.2, 0.1, 0.0]
    """

    cycles: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.cycles is not None:
            check_integer("cycles", self.cycles, at_least=1)

    def __call__(self, step):
        step = ops.convert_to_tensor(step)
        place = ops.cast(ops.mod(step, ops.cast(self.steps, step.dtype)), "float32") / float(self.steps)
        value = self.end + (self.start - self.end) * 0.5 * (1.0 + ops.cos(math.pi * place))
        if self.cycles is None:
            return value
        return ops.where(step >= self.steps * self.cycles, float(self.end), value)


@registry.register
@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """`start * rate ** (step / steps)`, limited by `end` if one is given.

    >>> float(Exponential(8.0, rate=0.5, steps=10)(20))
    2.0
    """

    start: float
    rate: float
    steps: int
    end: float | None = None

    def __post_init__(self):
        check_number("start", self.start)
        check_number("rate", self.rate, at_least=1e-12)
        check_integer("steps", self.steps, at_least=1)
        if self.end is not None:
            check_number("end", self.end)

    def __call__(self, step):
        value = self.start * ops.power(self.rate, ops.cast(step, "float32") / float(self.steps))
        if self.end is None:
            return value
        return ops.maximum(value, self.end) if self.start >= self.end else ops.minimum(value, self.end)


@registry.register
@dataclasses.dataclass(frozen=True)
class Polynomial(Linear):
    """`end + (start - end) * (1 - step / steps) ** power`.

    >>> float(Polynomial(1.0, 0.0, steps=10, power=2.0)(5))
    0.25
    """

    power: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        check_number("power", self.power, at_least=1e-6)

    def __call__(self, step):
        return self.end + (self.start - self.end) * ops.power(1.0 - _fraction(step, self.steps), self.power)


@registry.register
@dataclasses.dataclass(frozen=True)
class Piecewise(Schedule):
    """Piecewise constant: `values[i]` from step `boundaries[i - 1]` on.

    >>> [float(Piecewise(boundaries=(10,), values=(0.9, 0.1))(step)) for step in (9, 10)]
    [0.8999999761581421, 0.10000000149011612]
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self):
        for value in _as_tuple(self, "values"):
            check_number("values", value)
        _check_boundaries(_as_tuple(self, "boundaries"), len(self.values))

    def __call__(self, step):
        return Join(tuple(map(Constant, self.values)), self.boundaries)(step)


@registry.register
@dataclasses.dataclass(frozen=True)
class Join(Schedule):
    """One schedule after another: the i-th takes over at step `boundaries[i - 1]` and counts from 0 there.

    >>> warm_up = Join((Linear(0.0, 1.0, steps=5), Cosine(1.0, 0.0, steps=10)), boundaries=(5,))
    >>> [round(float(warm_up(step)), 3) for step in (0, 5, 10, 15)]
    [0.0, 1.0, 0.5, 0.0]
    """

    schedules: tuple[Schedule | LearningRateSchedule, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "schedules", tuple(map(get, self.schedules)))
        _check_boundaries(_as_tuple(self, "boundaries"), len(self.schedules))

    def __call__(self, step):
        value = self.schedules[0](step)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            value = ops.where(step >= boundary, schedule(step - boundary), value)
        return value


@register
class LearningRate(LearningRateSchedule):
    """A schedule as the learning rate of a Keras optimizer.

        keras.optimizers.SGD(LearningRate(CosineRestarts(0.1, 0.0, steps=300)))

    Args:
        schedule: a schedule, or a schedule's name with settings.

    >>> float(LearningRate(Linear(1.0, 0.0, steps=10))(5))
    0.5
    """

    def __init__(self, schedule: Any):
        self.schedule = get(schedule)

    def __call__(self, step):
        return self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": serialize(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRate:
        return cls(deserialize(config["schedule"]))
