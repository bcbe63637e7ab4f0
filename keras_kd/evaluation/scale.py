"""Compares two models by the headline measure of a task: which is better, by how much, and whether it is noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_kd.evaluation.caveats import is_at_chance
from keras_kd.tasks import Measure, Task
from keras_kd.teachers.calibration import wilson_interval

NUM_GROUPS = 20
MAX_LABELS = 2_000_000  # more take too long to measure once per group


@dataclass(frozen=True)
class Scale:
    """Compares rows of a report (`ModelRow`) by the headline measure on one test split.

    Attributes:
        measure: the headline measure.
        test_size: the number of test examples used for every value.
        unit: the plural noun for the examples.
        chance: the accuracy of always predicting the most frequent class; None if unknown.
        position_unit: the plural noun for the positions of an example, such as "pixels"; None if the prediction is for
            the whole example.
    """

    measure: Measure
    test_size: int
    unit: str = "examples"
    chance: float | None = None
    position_unit: str | None = None

    @property
    def decided(self) -> str:
        """The plural noun for what a prediction is made for: examples, or their positions."""
        return self.position_unit or self.unit

    def value(self, row: Any) -> float | None:
        return row.values.get(self.measure.name)

    def known(self, *rows: Any) -> bool:
        """Whether all of these rows have a value."""
        return all(self.value(row) is not None for row in rows)

    def show(self, value: float) -> str:
        """A value as text: `"95.2%"`, or a number."""
        return f"{percent(value, self.test_size)}%" if self.measure.is_share else f"{value:.4g}"

    def shown(self, row: Any) -> str:
        return self.show(self.value(row))

    def is_better(self, row: Any, other: Any) -> bool:
        difference = self.value(row) - self.value(other)
        return difference > 0 if self.measure.higher_is_better else difference < 0

    def is_same(self, row: Any, other: Any) -> bool:
        """Whether the values differ by less than half an example; for other measures, whether they are equal."""
        difference = abs(self.value(row) - self.value(other))
        return round(difference * self.test_size) == 0 if self.measure.is_proportion else difference == 0

    def difference(self, row: Any, other: Any) -> str:
        """The size of the difference: `"0.3 points"`, or a number in the measure's own units."""
        difference = abs(self.value(row) - self.value(other))
        return f"{percent(difference, self.test_size)} points" if self.measure.is_share else f"{difference:.3g}"

    def proof(self, row: Any, other: Any) -> str:
        """The evidence for the difference: the number of examples and whether it is noise, or the two values."""
        noise = ", within the noise" if self.is_within_noise(row, other) else ""
        if not self.measure.is_proportion:
            return f"{self.shown(row)} instead of {self.shown(other)}{noise}"
        count = round(abs(self.value(row) - self.value(other)) * self.test_size)
        return f"{count} of {self.test_size:,} test {self.unit}{noise}"

    def is_within_noise(self, row: Any, other: Any) -> bool:
        """Whether the 95% interval of the difference contains zero; False if the measure has no interval."""
        values = self.value(row), self.value(other)
        if self.measure.is_proportion:
            return is_within_noise(*values, self.test_size)
        if not (row.replicates and other.replicates):
            return False
        differences = [one - another for one, another in zip(row.replicates, other.replicates, strict=True)]
        low, high = jackknife_interval(values[0] - values[1], differences)
        return low <= 0 <= high

    def sign(self, row: Any, other: Any) -> str:
        return "+" if self.value(row) > self.value(other) else "−"

    def at_chance(self, *rows: Any) -> bool:
        """Whether none of these rows is better than guessing; False if unknown."""
        if not self.measure.is_proportion or not self.known(*rows):
            return False
        return all(is_at_chance(self.value(row), self.chance, self.test_size) for row in rows)

    def has_interval(self, row: Any) -> bool:
        return self.measure.is_proportion or bool(row.replicates)

    def interval(self, row: Any) -> tuple[float, float]:
        """The ends of the 95% interval; the value twice if it has none.

        Wilson's interval for a share of examples. Any other measure has a jackknife interval (`jackknife_interval`)
        within the range of the measure.
        """
        value = self.value(row)
        if self.measure.is_proportion:
            return wilson_interval(value, self.test_size)
        if not row.replicates:
            return value, value
        low, high = jackknife_interval(value, row.replicates)
        is_bounded_below = self.measure.is_share or not self.measure.higher_is_better
        return max(low, 0.0) if is_bounded_below else low, min(high, 1.0) if self.measure.is_share else high

    def resolution(self, row: Any) -> str:
        """The resolution of the measure, for the notes of a report."""
        size, noun = f"{self.test_size:,} test {self.unit}", self.measure.noun
        if not self.has_interval(row):
            return f"{size}. The {noun} has no interval here: small differences may be noise."
        low, high = map(self.show, self.interval(row))
        sentence = (
            f"A measured {noun} of {self.shown(row)} has a 95% interval of {low} to {high} "
            "(variation between training seeds not included)."
        )
        if not self.measure.is_proportion:
            return f"{size}. {sentence}"
        return f"{size}: one {self.unit.removesuffix('s')} is {100 / self.test_size:.2g} points. {sentence}"


def is_within_noise(first: float, second: float, test_size: int) -> bool:
    """Whether the 95% interval of the difference of two accuracies contains zero.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions" (1998).
    It ignores that both models are tested on the same examples, so it errs toward calling a difference noise.

    >>> is_within_noise(0.972, 0.969, 360), is_within_noise(0.90, 0.80, 360)
    (True, False)
    """
    low, high = sorted((first, second))
    below, above = high - wilson_interval(high, test_size)[0], wilson_interval(low, test_size)[1] - low
    return high - low <= math.hypot(below, above)


def replicates(task: Task, outputs: np.ndarray, labels: np.ndarray, *, from_logits: bool | None = None) -> list[float]:
    """The headline measure without each of 20 random groups of examples, for `jackknife_interval`.

    The groups are the same for all models that are measured on the same examples. Works for any measure, of any task.

    Args:
        task: the task.
        outputs, labels, from_logits: see `Task.measure`.

    Returns:
        One value per group. Empty if the measure is a share of examples, for which Wilson's interval holds; if it is
        undefined without one of the groups; or if there are more than 2 million labels.
    """
    count = min(NUM_GROUPS, len(outputs))
    if task.headline.is_proportion or count < 2 or np.size(labels) > MAX_LABELS:
        return []
    group = np.random.default_rng(0).permutation(len(outputs)) % count
    remaining = [group != index for index in range(count)]
    scored = (task.scored(outputs[kept], labels[kept], from_logits=from_logits) for kept in remaining)
    values = [task.headline.compute(*parts) for parts in scored]
    return values if np.isfinite(values).all() else []


def jackknife_interval(value: float, replicates: Sequence[float]) -> tuple[float, float]:
    """The ends of the 95% interval of an estimate, from its values without each of K random groups of the data.

    `value +- t * sqrt((K - 1) / K * sum((replicate - mean)^2))`, with the 97.5% quantile t of Student's distribution
    with K - 1 degrees of freedom.

    Source: P. S. Kott, "The Delete-a-Group Jackknife", Journal of Official Statistics, 2001.

    >>> [round(end, 3) for end in jackknife_interval(2.0, [1.9, 2.0, 2.1])]
    [1.503, 2.497]
    """
    from scipy.special import stdtrit

    count = len(replicates)
    error = math.sqrt((count - 1) * np.var(replicates))
    half = float(stdtrit(count - 1, 0.975)) * error
    return value - half, value + half


def percent(share: float, test_size: int) -> str:
    """Percent, with as many digits as the number of test examples justifies."""
    return f"{100 * share:.{1 if test_size <= 1000 else 2}f}"
