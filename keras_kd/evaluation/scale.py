"""Compares two models by the headline measure of a task: which is better, by how much, and whether it is noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keras_kd.evaluation.caveats import is_at_chance
from keras_kd.tasks import Measure
from keras_kd.teachers.calibration import wilson_interval


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
        if not self.measure.is_proportion:
            return f"{self.shown(row)} instead of {self.shown(other)}"
        count = round(abs(self.value(row) - self.value(other)) * self.test_size)
        noise = ", within the noise" if is_within_noise(self.value(row), self.value(other), self.test_size) else ""
        return f"{count} of {self.test_size:,} test {self.unit}{noise}"

    def sign(self, row: Any, other: Any) -> str:
        return "+" if self.value(row) > self.value(other) else "−"

    def at_chance(self, *rows: Any) -> bool:
        """Whether none of these rows is better than guessing; False if unknown."""
        if not self.measure.is_proportion or not self.known(*rows):
            return False
        return all(is_at_chance(self.value(row), self.chance, self.test_size) for row in rows)

    def interval(self, row: Any) -> tuple[float, float]:
        """The ends of the 95% interval; the value twice if the measure has no interval."""
        value = self.value(row)
        return wilson_interval(value, self.test_size) if self.measure.is_proportion else (value, value)

    def resolution(self, row: Any) -> str:
        """The resolution of the measure, for the notes of a report."""
        if not self.measure.is_proportion:
            return (
                f"{self.test_size:,} test {self.unit}. No interval is computed for {self.measure.noun}: small "
                "differences may be noise."
            )
        low, high = (percent(end, self.test_size) for end in self.interval(row))
        unit = self.unit.removesuffix("s")
        return (
            f"{self.test_size:,} test {self.unit}: one {unit} is {100 / self.test_size:.2g} points, and a measured "
            f"{self.shown(row)} stands for {low} to {high}% (95% interval; training seeds not counted)."
        )


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


def percent(share: float, test_size: int) -> str:
    """Percent, with as many digits as the number of test examples justifies."""
    return f"{100 * share:.{1 if test_size <= 1000 else 2}f}"
