"""From costs by layer to settings by layer that reach a target, measured together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_kd.compression.sensitivities.measuring import FLOAT, Measured
from keras_kd.compression.sensitivities.table import SensitivityTable
from keras_kd.compression.sensitivities.targets import Target
from keras_kd.compression.sensitivities.variants import Setting
from keras_kd.quantities import human_bytes

MAX_TRIALS = 16


@dataclasses.dataclass(frozen=True)
class CompressionSettings:
    """Settings for each layer that were measured together.

    Attributes:
        target: as it was written.
        reached: whether the measured values are within it.
        problem: what could not be reached; empty otherwise.
        sparsity: the fraction of zeros by path of the layer, for `Pruning(sparsity=...)`; layers left dense are absent.
        bits: the bits of a weight by path of the layer; layers left in float are absent.
        num_bytes: the size of all weights, gzipped, with these settings.
        float_bytes: the size without compression.
        measure, value, baseline, drop, unit: the measure, its value with and without compression, how much worse it is.
        predicted_drop: the sum of what the layers cost alone.
        num_trials: how many combinations were measured.
    """

    target: str
    reached: bool
    problem: str
    sparsity: dict[str, float]
    bits: dict[str, int]
    num_bytes: int
    float_bytes: int
    measure: str
    value: float
    baseline: float
    drop: float
    unit: str
    predicted_drop: float
    num_trials: int

    def __str__(self) -> str:
        verdict = "reached" if self.reached else f"NOT REACHED: {self.problem}"
        lines = [
            f"Target {self.target!r}: {verdict}",
            f"size {human_bytes(self.num_bytes)} gzipped, from {human_bytes(self.float_bytes)}; {self.measure} "
            f"{self.value:.4g}, from {self.baseline:.4g} (drop {self.drop:.2f} {self.unit}".rstrip()
            + ")",
        ]
        for path in dict.fromkeys((*self.sparsity, *self.bits)):
            zeros = f"{100 * self.sparsity.get(path, 0):g}% zeros"
            lines.append(f"  {path}: {zeros}, {f'{self.bits[path]} bits' if path in self.bits else 'float'}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class Option(NamedTuple):
    """A setting of a layer: its size in bytes, and what it is expected to cost."""

    setting: Setting
    num_bytes: int
    cost: float


class Move(NamedTuple):
    """A step of one layer to a smaller option; `rate` is the cost per byte saved."""

    rate: float
    path: str
    option: Option
    before: Option


def moves(path: str, options: Sequence[Option], most: float = math.inf) -> list[Move]:
    """The steps of a layer from its first option to smaller ones, the cheapest per byte saved first.

    Args:
        options: the first one is the layer as it is.
        most: options that cost more are left out.
    """
    found, current = [], options[0]
    while True:
        smaller = [option for option in options if option.num_bytes < current.num_bytes and option.cost <= most]
        if not smaller:
            return found
        rates = {option: (option.cost - current.cost) / (current.num_bytes - option.num_bytes) for option in smaller}
        best = min(smaller, key=lambda option: (rates[option], option.num_bytes))
        found.append(Move(max(rates[best], 0.0), path, best, current))
        current = best


def plan(options: Mapping[str, Sequence[Option]], most: float = math.inf) -> list[Move]:
    """The steps of all layers, the cheapest per byte saved first; within a layer in its own order."""
    return sorted((move for path in options for move in moves(path, options[path], most)), key=lambda move: move.rate)


def choose(measured: Measured, table: SensitivityTable, target: Target, drop_of: Callable) -> CompressionSettings:
    """The settings that reach a target, or those that come closest. Each candidate is measured as a whole."""
    search = _Search(measured, _options(measured, table), target, drop_of)
    if target.size is None:
        return search.result(*search.smallest_within_drop())
    return search.result(*search.within_size())


class _Candidate(NamedTuple):
    settings: dict[str, Setting]
    num_bytes: int
    predicted: float
    value: float
    drop: float


class _Search:
    def __init__(self, measured: Measured, options: dict[str, list[Option]], target: Target, drop_of: Callable):
        self._measured, self._options, self._target, self._drop_of = measured, options, target, drop_of
        self._float_bytes = measured.other_bytes() + sum(found[0].num_bytes for found in options.values())
        self._tried: dict[tuple, _Candidate] = {}

    def within_size(self) -> tuple[_Candidate, str]:
        """The candidate below the size that loses least; with a limit for the drop, the first within it.

        If a combination costs more than its layers alone, it is made anew without the options that cost most.
        """
        size, drop = self._target.size, self._target.drop
        costs = sorted({option.cost for options in self._options.values() for option in options}, reverse=True)
        stride = max(1, math.ceil(len(costs) / MAX_TRIALS))
        for most in (math.inf, *costs[::stride]):
            steps = plan(self._options, most)
            count = next((n for n in range(len(steps) + 1) if size.holds(self._bytes(steps[:n]))), None)
            if count is None:
                break
            candidate = self._measure(steps[:count])
            if drop is None or drop.holds(candidate.drop):
                return candidate, ""
        if not self._tried:
            steps = plan(self._options)
            smallest = self._measure(steps)
            return smallest, f"the smallest size with these settings is {human_bytes(smallest.num_bytes)}"
        best = min(self._tried.values(), key=lambda one: one.drop)
        return best, f"the smallest drop measured at this size is {best.drop:.2f}"

    def smallest_within_drop(self) -> tuple[_Candidate, str]:
        """The smallest candidate within the limit of the drop, by bisection over the steps."""
        steps = plan(self._options)
        low, high, best = 0, len(steps) + 1, self._measure([])
        guess = next((n for n in range(len(steps), -1, -1) if self._target.drop.holds(_predicted(steps[:n]))), 0)
        while high - low > 1:
            candidate = self._measure(steps[:guess])
            if self._target.drop.holds(candidate.drop):
                low, best = guess, candidate
            else:
                high = guess
            guess = (low + high) // 2
        return best, ""

    def result(self, candidate: _Candidate, problem: str) -> CompressionSettings:
        used = {path: setting for path, setting in candidate.settings.items() if setting != FLOAT}
        quality = self._measured.quality
        return CompressionSettings(
            target=self._target.text,
            reached=not problem,
            problem=problem,
            sparsity={path: setting.sparsity for path, setting in used.items() if setting.sparsity},
            bits={path: setting.bits for path, setting in used.items() if setting.bits is not None},
            num_bytes=candidate.num_bytes,
            float_bytes=self._float_bytes,
            measure=quality.name,
            value=candidate.value,
            baseline=self._measured.baseline,
            drop=candidate.drop,
            unit=quality.unit,
            predicted_drop=candidate.predicted,
            num_trials=len(self._tried),
        )

    def _bytes(self, steps: Sequence[Move]) -> int:
        return self._float_bytes - sum(step.before.num_bytes - step.option.num_bytes for step in steps)

    def _measure(self, steps: Sequence[Move]) -> _Candidate:
        settings = {step.path: step.option.setting for step in steps}
        key = tuple(sorted(settings.items(), key=lambda item: item[0]))
        if key not in self._tried:
            value = self._measured.value(settings)
            drop = self._drop_of(self._measured.baseline, value)
            self._tried[key] = _Candidate(settings, self._bytes(steps), _predicted(steps), value, drop)
        return self._tried[key]


def _predicted(steps: Sequence[Move]) -> float:
    return sum(step.option.cost - step.before.cost for step in steps)


def _options(measured: Measured, table: SensitivityTable) -> dict[str, list[Option]]:
    """The settings of each layer; zeros and bits together are expected to cost what they cost alone, summed.

    A layer that was not scanned has the one that leaves it as it is.
    """
    found = {path: [Option(FLOAT, measured.num_bytes(path, FLOAT), 0.0)] for path in measured.layers}
    for layer in table.layers:
        zeros = rising({0.0: 0.0} | layer.by_sparsity)
        bits = rising({None: 0.0} | layer.by_bits)
        settings = {Setting(sparsity, width): zeros[sparsity] + bits[width] for sparsity in zeros for width in bits}
        found[layer.path] = [
            Option(setting, measured.num_bytes(layer.path, setting), cost) for setting, cost in settings.items()
        ]
    return found


def rising(costs: Mapping[Any, float]) -> dict[Any, float]:
    """Costs from the mildest setting to the strongest, none below that of a milder one, which would be chance.

    >>> rising({0.5: -0.1, 0.7: 0.4, 0.9: 0.2})
    {0.5: -0.1, 0.7: 0.4, 0.9: 0.4}
    """
    most, found = -math.inf, {}
    for setting, cost in costs.items():
        most = max(most, cost)
        found[setting] = most
    return found
