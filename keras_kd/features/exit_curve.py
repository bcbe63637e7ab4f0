"""The result of measuring a model with early exits, in plain numbers."""

from __future__ import annotations

import dataclasses
import math

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.tables import format_table


@dataclasses.dataclass(frozen=True)
class ExitPoint:
    """A threshold of the confidence, and what it brings.

    Attributes:
        threshold: an example leaves at the first exit whose largest probability is at least this; at 1, none leaves
            early.
        accuracy: over all examples, 0 to 1.
        operations: the mean multiply-adds of an example, as a fraction of those of the model without exits. Exits that
            an example passes without leaving count too, so this can be above 1.
        leaving: the fraction of the examples that leave at each output, by name, in order; they add up to 1.

    Raises:
        ConfigurationError: a number out of range.
    """

    threshold: float
    accuracy: float
    operations: float
    leaving: dict[str, float]

    def __post_init__(self) -> None:
        for name in ("threshold", "accuracy"):
            check_number(name, getattr(self, name), at_least=0, at_most=1)
        check_number("operations", self.operations, at_least=0)
        if not self.leaving or not math.isclose(sum(self.leaving.values()), 1.0, abs_tol=1e-6):
            problem = "Each example leaves at one output."
            raise ConfigurationError(explain(problem, received=f"leaving={self.leaving}", expected="shares of sum 1"))


@dataclasses.dataclass(frozen=True, repr=False)
class ExitCurve:
    """Accuracy against operations over the thresholds; prints as a table.

    Raises:
        ConfigurationError: no points, or points of several models.

    >>> ExitCurve((ExitPoint(0.9, 0.95, 0.4, {"exit_1": 0.75, "output": 0.25}),))
    threshold  accuracy  operations  at exit_1  at output
    ---------  --------  ----------  ---------  ---------
          0.9    95.00%       0.400      75.0%      25.0%
    """

    points: tuple[ExitPoint, ...]

    def __post_init__(self) -> None:
        if len({tuple(point.leaving) for point in self.points}) != 1:
            outputs = [list(point.leaving) for point in self.points]
            expected = "at least one, all with the same outputs"
            raise ConfigurationError(explain("Invalid 'points'.", received=f"{outputs}", expected=expected))

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs, the cheapest exit first and the model's own last."""
        return list(self.points[0].leaving)

    def __repr__(self) -> str:
        header = ("threshold", "accuracy", "operations", *(f"at {name}" for name in self.outputs))
        rows = [
            (
                f"{point.threshold:g}",
                f"{100 * point.accuracy:.2f}%",
                f"{point.operations:.3f}",
                *(f"{100 * share:.1f}%" for share in point.leaving.values()),
            )
            for point in self.points
        ]
        return format_table([header, *rows], right=header)
