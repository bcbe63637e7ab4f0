"""Adversaries as settings: frozen dataclasses that perturb inputs, given a function for the gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_kd.adversaries import ascent
from keras_kd.errors import ConfigurationError, check_choice, check_integer, check_number, explain
from keras_kd.serialization import Registry, deserialize, serialize

OBJECTIVES = ("cross_entropy", "kl", "adaptive_kl")
registry = Registry("adversary")


@dataclasses.dataclass(frozen=True)
class Adversary:
    """Base of all adversaries: perturbs each input by at most `epsilon` to maximize an objective.

    Args:
        epsilon: the largest perturbation, in the unit of the inputs: `8 / 255` for images in 0..1, `8` in 0..255.
        objective: what is maximized. `"cross_entropy"`: the loss of the labels (Madry, ARD). `"kl"`: `KL(p ||
            student(x'))` with fixed `p`, the teacher's probabilities for the clean input (RSLAD) or, without a teacher,
            the model's own (TRADES). `"adaptive_kl"`: `KL(teacher(x') || student(x'))`, in which the teacher follows
            the input (AdaAD).
        value_range: the smallest and the largest value of an input; a perturbed one never leaves it.
        norm: of the perturbation: `"linf"` (of each value) or `"l2"` (of the whole example).

    Raises:
        ConfigurationError: a setting is out of range; `epsilon` exceeds the value range.
    """

    epsilon: float
    _: dataclasses.KW_ONLY
    objective: str = "cross_entropy"
    value_range: tuple[float, float] = (0.0, 1.0)
    norm: str = "linf"

    steps = 1
    random_start = False
    seed = 0

    def __post_init__(self):
        check_choice("objective", self.objective, OBJECTIVES)
        check_choice("norm", self.norm, ascent.NORMS)
        low, high = self._check_range()
        check_number("epsilon", self.epsilon)
        if not 0 < self.epsilon or (self.norm == "linf" and self.epsilon > high - low):
            raise ConfigurationError(
                explain(
                    "Invalid 'epsilon'.",
                    received=f"epsilon={self.epsilon!r} for values from {low:g} to {high:g}",
                    expected=f"0 < epsilon <= {high - low:g}" if self.norm == "linf" else "0 < epsilon",
                    fix="It has the unit of the inputs: 8 / 255 for images in 0..1; for 0..255, PGD(8, "
                    "value_range=(0, 255)).",
                )
            )

    def _check_range(self) -> tuple[float, float]:
        ends = tuple(self.value_range) if isinstance(self.value_range, (list, tuple)) else ()
        if len(ends) != 2 or not check_number("value_range", ends[0]) < check_number("value_range", ends[1]):
            raise ConfigurationError(
                explain("Invalid 'value_range'.", received=repr(self.value_range), expected="(low, high), low < high")
            )
        object.__setattr__(self, "value_range", ends)  # a list read from JSON equals a tuple
        return ends

    @property
    def size_of_step(self) -> float:
        """The length of one step, in the unit of the inputs."""
        return self.epsilon

    def start(self, x: Any, step: Any) -> Any:
        """Where the ascent starts: a random point in the ball, or `x` itself.

        Args:
            x: `[batch, ...]`, float32.
            step: with the seed, determines the point: the optimizer's step, or the number of a batch.
        """
        if self.random_start is False:
            return x
        seed = ascent.SeedAt(self.seed, step)
        if self.random_start is True:
            offset = ascent.random_offset(x, self.epsilon, self.norm, seed)
        else:
            offset = self.random_start * ascent.normal_offset(x, seed)
        return self._project(x + offset, x)

    def perturb(self, x: Any, gradient: Callable[[Any], Any], start: Any = None) -> Any:
        """The perturbed inputs: `x <- project(x + step * direction(gradient(x)))`, `steps` times.

        Args:
            x: `[batch, ...]`, float32, in the value range.
            gradient: of the objective: `[batch, ...]` to `[batch, ...]`, each example by itself.
            start: from `start`; None is `x`.

        Returns:
            `[batch, ...]`, in the value range and the ball around `x`.

        >>> moved = FGSM(0.25).perturb(ops.array([[0.5, 0.9]]), gradient=ops.ones_like)
        >>> ops.convert_to_numpy(moved).tolist()
        [[0.75, 1.0]]
        """
        moved = x if start is None else start
        for _ in range(self.steps):  # unrolled: XLA on a CPU runs convolutions inside a loop at half the speed
            moved = self._project(moved + self.size_of_step * ascent.direction(_given(gradient(moved)), self.norm), x)
        return moved

    def outside(self, x: Any) -> Any:
        """Bool `[batch]`: the examples with a value outside the value range by more than rounding, or NaN."""
        low, high = self.value_range
        margin = 1e-5 * (high - low)
        inside = ops.logical_and(x >= low - margin, x <= high + margin)
        return ops.logical_not(ops.all(inside, axis=list(range(1, len(x.shape)))))

    def _project(self, moved: Any, x: Any) -> Any:
        return ascent.project(moved, x, self.epsilon, self.norm, self.value_range)

    def get_config(self) -> dict[str, Any]:
        return {field.name: serialize(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adversary:
        return cls(**{name: deserialize(value) for name, value in config.items()})


@registry.register
@dataclasses.dataclass(frozen=True)
class FGSM(Adversary):
    """One step of length `epsilon` from the clean input: `x + epsilon * sign(gradient)`.

    Source: Goodfellow, Shlens & Szegedy, "Explaining and Harnessing Adversarial Examples", 2015.

    Arguments and errors: see `Adversary`.

    >>> FGSM(8 / 255).steps
    1
    """


@registry.register
@dataclasses.dataclass(frozen=True)
class PGD(Adversary):
    """Several steps of gradient ascent, each followed by a projection to the ball around the clean input.

    Source: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", 2018.

    Args:
        epsilon, objective, value_range, norm: see `Adversary`.
        steps: the number of steps, at least 1.
        step_size: the length of a step, in the unit of the inputs; None is `2.5 * epsilon / steps`, with which every
            point of the ball can be reached. For `epsilon=8 / 255` and 10 steps, this is the published 2/255.
        random_start: True starts at a point drawn uniformly from the ball (Madry, ARD), False at the clean input, a
            number at the clean input plus normal noise of that standard deviation (TRADES, RSLAD: 0.001).
        seed: of the random start, together with the optimizer's step.

    Raises:
        ConfigurationError: see `Adversary`.

    >>> PGD(8 / 255, steps=10).size_of_step * 255
    2.0
    """

    _: dataclasses.KW_ONLY
    steps: int = 10
    step_size: float | None = None
    random_start: bool | float = True
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_integer("steps", self.steps, at_least=1)
        check_integer("seed", self.seed, at_least=0, at_most=2**31 - 1)
        if self.step_size is not None:
            self._check_positive("step_size", self.step_size)
        if not isinstance(self.random_start, bool):
            self._check_positive("random_start", self.random_start)

    def _check_positive(self, name: str, value: Any) -> None:
        if check_number(name, value, at_least=0.0) == 0:
            raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(value), expected="a number above 0"))

    @property
    def size_of_step(self) -> float:
        return 2.5 * self.epsilon / self.steps if self.step_size is None else self.step_size


def get(identifier: Any) -> Adversary:
    """An adversary from a name with settings, such as `{"name": "pgd", "epsilon": 0.03}`, or an adversary itself.

    Raises:
        ConfigurationError: anything else.

    >>> get({"name": "fgsm", "epsilon": 0.25}).epsilon
    0.25
    """
    return registry.get(identifier)


def _given(gradient: Any) -> Any:
    """A gradient; raises `ConfigurationError` if it is None."""
    if gradient is None:
        raise ConfigurationError(
            explain(
                "The student's output does not depend on its input in a differentiable way.",
                received="no gradient",
                expected="a student without rounding, casts to integers or lookups at its input",
            )
        )
    return gradient
