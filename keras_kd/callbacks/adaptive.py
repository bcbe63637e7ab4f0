"""Callbacks that change alpha and the learning rate by how the student does, not by the clock."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_kd.callbacks import _monitor
from keras_kd.callbacks.rules import RULES, GapToTeacher
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.keras_private import has_learning_rate_schedule


class AdaptiveAlpha(keras.callbacks.Callback):
    """Sets the teacher's weight after each epoch, by a rule.

        teacher_accuracy = teacher.evaluate(x_val, y_val, return_dict=True)["accuracy"]
        rule = kd.callbacks.GapToTeacher("val_accuracy", teacher=teacher_accuracy)
        distiller.fit(x, y, validation_data=(x_val, y_val), callbacks=[kd.callbacks.AdaptiveAlpha(rule)])

    The new alpha takes effect at the next step, without a new trace. It depends on the logs alone, so the same
    training gives the same sequence, and `Resume` continues it. An epoch without the needed values leaves alpha as it
    is, with a `Notice`.

    Args:
        rule: `GapToTeacher`, `EqualParts` or `DynamicWeightAverage`.
        at_least, at_most: the range of alpha, within 0 and 1.

    Attributes:
        history: the alpha after each epoch of this training.

    Raises:
        ConfigurationError: not a rule, or an empty range; when training begins, a model without alpha, or with a
            schedule for it.

    >>> AdaptiveAlpha(GapToTeacher("val_accuracy", teacher=0.97), at_least=0.1).at_least
    0.1
    """

    def __init__(self, rule: Any, *, at_least: float = 0.0, at_most: float = 1.0):
        super().__init__()
        if not isinstance(rule, RULES):
            expected = ", ".join(f"{one.__name__}(...)" for one in RULES)
            raise ConfigurationError(explain("Unknown rule.", received=repr(rule), expected=expected))
        self.rule = rule
        self.at_least = check_number("at_least", at_least, at_least=0.0, at_most=1.0)
        self.at_most = check_number("at_most", at_most, at_least=self.at_least, at_most=1.0)
        self.history: list[float] = []
        self._state: dict[str, Any] = {}

    def on_train_begin(self, logs=None):
        alpha = getattr(self.model, "alpha", None)
        if not isinstance(alpha, float):
            raise ConfigurationError(
                explain(
                    "AdaptiveAlpha needs a model whose alpha is a number.",
                    received=f"a {type(self.model).__name__}" + ("" if alpha is None else f" with alpha={alpha!r}"),
                    expected="a keras_kd.Distiller with a number as alpha",
                )
            )
        self.history = []
        self._state = self.rule.begin(alpha)

    def on_epoch_end(self, epoch, logs=None):
        values = _monitor.read(logs, self.rule.reads, reader="AdaptiveAlpha")
        if values is not None:
            alpha, self._state = self.rule.after_epoch(self._state, *values)
            self.model.alpha = min(max(alpha, self.at_least), self.at_most)
        self.history.append(self.model.alpha)

    def get_state(self) -> dict[str, Any]:
        """The state that `Resume` saves."""
        return {"rule": self._state, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._state, self.history = state["rule"], list(state["history"])

    def get_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        return {**self.rule.settings(), "at_least": self.at_least, "at_most": self.at_most}


class ProgressLearningRate(keras.callbacks.Callback):
    """Lowers the learning rate when the student no longer comes closer to its teacher.

    An epoch is progress if the gap is at most `(1 - shrinkage)` times the smallest gap so far. After `patience` epochs
    without progress the rate is multiplied by `factor`, and the count begins anew. `ReduceLROnPlateau` asks for an
    absolute change of the metric, which is harder to get the closer the student is; this asks for a share of what is
    left. For a student that is as good as its teacher or better, the gap is not above 0 and any better value is
    progress.

    The rate follows from the logs alone: the same training gives the same sequence, and `Resume` continues it. An epoch
    without the metric changes nothing, with a `Notice`. Also for models without a teacher in training, if the value
    to reach is known.

    Source: the relative threshold of plateau schedules (`ReduceLROnPlateau` of PyTorch), applied to the gap.

    Args:
        monitor, teacher, mode: as in `GapToTeacher`.
        factor: above 0 and below 1.
        patience: epochs, at least 1.
        shrinkage: the share by which the gap must shrink, 0 to 1.
        at_least: the lowest learning rate.

    Attributes:
        history: the learning rate after each epoch of this training.

    Raises:
        ConfigurationError: a setting out of range; when training begins, an optimizer with a learning-rate schedule.
    """

    def __init__(
        self,
        monitor: str,
        *,
        teacher: Any,
        mode: str = "auto",
        factor: float = 0.5,
        patience: int = 3,
        shrinkage: float = 0.05,
        at_least: float = 0.0,
    ):
        super().__init__()
        self.gap = GapToTeacher(monitor, teacher, mode)
        self.factor = check_number("factor", factor, at_least=1e-6, at_most=1.0 - 1e-6)
        self.patience = check_integer("patience", patience, at_least=1)
        self.shrinkage = check_number("shrinkage", shrinkage, at_least=0.0, at_most=1.0)
        self.at_least = check_number("at_least", at_least, at_least=0.0)
        self.history: list[float] = []
        self._state: dict[str, Any] = {}

    def on_train_begin(self, logs=None):
        if has_learning_rate_schedule(self.model.optimizer):
            raise ConfigurationError(
                explain(
                    "A schedule sets the learning rate.",
                    received="an optimizer with a learning-rate schedule",
                    expected="a learning rate that is a number",
                )
            )
        self.history = []
        self._state = {"teacher": self.gap.measured(), "best": math.inf, "wait": 0}

    def on_epoch_end(self, epoch, logs=None):
        values = _monitor.read(logs, self.gap.reads, reader="ProgressLearningRate")
        if values is not None:
            self._after(self.gap.gap(*values, self._state["teacher"]))
        self.history.append(float(self.model.optimizer.learning_rate))

    def _after(self, gap: float) -> None:
        best, wait = self._state["best"], self._state["wait"] + 1
        wait = 0 if is_progress(gap, best, self.shrinkage) else wait
        if wait >= self.patience:
            rate = float(self.model.optimizer.learning_rate)
            if rate > self.at_least:
                self.model.optimizer.learning_rate = max(rate * self.factor, self.at_least)
            wait = 0
        self._state = {**self._state, "best": min(gap, best), "wait": wait}

    def get_state(self) -> dict[str, Any]:
        """The state that `Resume` saves."""
        return {**self._state, "history": self.history}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self._state = {name: value for name, value in state.items() if name != "history"}
        self.history = list(state["history"])

    def get_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        names = ("factor", "patience", "shrinkage", "at_least")
        return {**self.gap.settings(), **{name: getattr(self, name) for name in names}}


def is_progress(gap: float, best: float, shrinkage: float) -> bool:
    """Whether a gap is smaller than the smallest so far by a share of it; below 0, whether it is smaller at all.

    >>> is_progress(0.09, 0.1, 0.05), is_progress(0.099, 0.1, 0.05), is_progress(-0.01, 0.0, 0.05)
    (True, False, True)
    """
    return gap < best and (best <= 0.0 or math.isinf(best) or gap <= (1.0 - shrinkage) * best)
