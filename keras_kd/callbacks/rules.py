"""How much weight the teacher gets, by how the student does: pure rules for `AdaptiveAlpha`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from keras_kd.callbacks._monitor import direction
from keras_kd.errors import ConfigurationError, check_number, explain

STUDENT, DISTILLATION = "student_loss", "distillation_loss"

State = dict[str, Any]


def share_of_gap(gap: float, first_gap: float) -> float:
    """What is left of a gap, `clip(gap / first_gap, 0, 1)`; 0 without a gap, 1 if there was none at first.

    >>> share_of_gap(0.02, 0.08), share_of_gap(-0.01, 0.08), share_of_gap(0.02, 0.0)
    (0.25, 0.0, 1.0)
    """
    if gap <= 0.0:
        return 0.0
    return 1.0 if gap >= first_gap else gap / first_gap


def equal_parts(student_loss: float, distillation_loss: float) -> float:
    """The alpha at which both parts of the loss are equal: `(1 - alpha) * student = alpha * distillation`.

    `alpha = student / (student + distillation)`, 0.5 if both are 0.

    >>> equal_parts(1.0, 3.0)
    0.25
    """
    total = student_loss + distillation_loss
    return 0.5 if total == 0.0 else student_loss / total


def dynamic_weight_average(student_ratio: float, distillation_ratio: float, temperature: float) -> float:
    """The share of the distillation loss by dynamic weight average, from the ratios of two successive losses each.

    `exp(d / T) / (exp(s / T) + exp(d / T))`: the part that falls more slowly gets more weight.

    >>> dynamic_weight_average(0.5, 0.5, 2.0)
    0.5
    """
    return 1.0 / (1.0 + math.exp(min((student_ratio - distillation_ratio) / temperature, 700.0)))


@dataclasses.dataclass(frozen=True)
class GapToTeacher:
    """Alpha shrinks with the student's distance to the teacher: `alpha_0 * clip(gap / first gap, 0, 1)`.

    The gap is the difference of a validation metric between teacher and student, the first one that after the first
    epoch, alpha_0 the distiller's alpha when training begins. A student that is as good as its teacher learns from
    labels alone.

    Source: Li, "Context-Aware Knowledge Distillation with Adaptive Weighting", 2025, computes alpha from the
    discrepancy between student and teacher; Jafari et al., "Annealing Knowledge Distillation", 2021, weakens the
    teacher by the clock. The gap of a validation metric instead of the outputs is this package's choice.

    Args:
        monitor: the name in the logs, such as `"val_accuracy"`.
        teacher: the teacher's value of this metric on the same data, or a function without arguments that measures it,
            called once when training begins.
        mode: `"min"`, `"max"`, or `"auto"`, which infers the direction from the name.

    >>> GapToTeacher("val_accuracy", teacher=0.97).mode
    'max'
    """

    monitor: str
    teacher: float | Callable[[], float]
    mode: str = "auto"

    def __post_init__(self):
        if not isinstance(self.monitor, str):
            raise ConfigurationError(
                explain("Invalid 'monitor'.", received=repr(self.monitor), expected="the name of a metric in the logs")
            )
        object.__setattr__(self, "mode", direction(self.monitor, self.mode))
        if not callable(self.teacher):
            self.measured()

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.monitor,)

    def begin(self, alpha: float) -> State:
        return {"alpha": alpha, "teacher": self.measured(), "first": None}

    def measured(self) -> float:
        """The teacher's value, measured if it is a function."""
        is_share = "acc" in self.monitor
        return check_number(
            "teacher",
            float(self.teacher()) if callable(self.teacher) else self.teacher,
            at_most=1.0 if is_share else math.inf,
            fix="Keras reports accuracies as shares." if is_share else None,
        )

    def gap(self, value: float, teacher: float) -> float:
        """How much better the teacher is than a value of the student; negative if it is worse."""
        return teacher - value if self.mode == "max" else value - teacher

    def after_epoch(self, state: State, value: float) -> tuple[float, State]:
        gap = self.gap(value, state["teacher"])
        first = gap if state["first"] is None else state["first"]
        return state["alpha"] * share_of_gap(gap, first), {**state, "first": first}

    def settings(self) -> dict[str, Any]:
        teacher = "measured" if callable(self.teacher) else self.teacher
        return {"rule": "GapToTeacher", "monitor": self.monitor, "mode": self.mode, "teacher": teacher}


@dataclasses.dataclass(frozen=True)
class EqualParts:
    """Both parts of the loss contribute equally: `alpha = student / (student + distillation)` of moving averages.

    Source: the balance of losses in Liu et al., "Towards Impartial Multi-task Learning" (IMTL-L), 2021, solved for two
    weights that add up to 1.

    Args:
        momentum: how much of the previous average is kept after an epoch, 0 to 1; the first epoch sets the average.
    """

    momentum: float = 0.9

    def __post_init__(self):
        check_number("momentum", self.momentum, at_least=0.0, at_most=1.0 - 1e-6)

    @property
    def reads(self) -> tuple[str, ...]:
        return STUDENT, DISTILLATION

    def begin(self, alpha: float) -> State:
        return {"means": None}

    def after_epoch(self, state: State, *losses: float) -> tuple[float, State]:
        if state["means"] is not None:
            pairs = zip(state["means"], losses, strict=True)
            losses = tuple(self.momentum * mean + (1.0 - self.momentum) * loss for mean, loss in pairs)
        _check_not_negative(losses)
        return equal_parts(*losses), {"means": list(losses)}

    def settings(self) -> dict[str, Any]:
        return {"rule": "EqualParts", **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class DynamicWeightAverage:
    """The part of the loss that falls more slowly gets more weight.

    `alpha = exp(d / T) / (exp(s / T) + exp(d / T))`, s and d being the ratios of the last two epochs' student and
    distillation losses. Alpha stays as it is during the first two epochs.

    Source: Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", 2019, equation 7, with weights that
    add up to 1 instead of 2.

    Args:
        temperature: above 0; the higher, the more even the weights.
    """

    temperature: float = 2.0

    def __post_init__(self):
        check_number("temperature", self.temperature, at_least=1e-3)

    @property
    def reads(self) -> tuple[str, ...]:
        return STUDENT, DISTILLATION

    def begin(self, alpha: float) -> State:
        return {"alpha": alpha, "last": None}

    def after_epoch(self, state: State, *losses: float) -> tuple[float, State]:
        _check_not_negative(losses)
        kept = {**state, "last": list(losses)}
        if state["last"] is None:
            return state["alpha"], kept
        ratios = [loss / last if last > 0.0 else 1.0 for loss, last in zip(losses, state["last"], strict=True)]
        return dynamic_weight_average(*ratios, self.temperature), kept

    def settings(self) -> dict[str, Any]:
        return {"rule": "DynamicWeightAverage", **dataclasses.asdict(self)}


RULES = (GapToTeacher, EqualParts, DynamicWeightAverage)


def _check_not_negative(losses: tuple[float, ...]) -> None:
    if min(losses) < 0.0:
        raise ConfigurationError(
            explain(
                "The parts of the loss can only be compared if none is negative.",
                received=f"{STUDENT} {losses[0]:g}, {DISTILLATION} {losses[1]:g}",
                expected="losses of at least 0",
                fix="Use GapToTeacher.",
            )
        )
