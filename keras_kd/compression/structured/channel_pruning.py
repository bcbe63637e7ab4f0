"""Channel pruning: channels, neurons and attention heads leave a model, and a smaller plain model comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.compression.gradients import mean_gradients
from keras_kd.compression.stripping import check_plain
from keras_kd.compression.structured import scores
from keras_kd.compression.structured.channels import Pool
from keras_kd.compression.structured.cut import Cut, Ranking, count_operations, count_parameters, removable, smallest
from keras_kd.compression.structured.shrinking import shrunk
from keras_kd.compression.structured.tracing import Trace
from keras_kd.compression.transform import Transform, check_skip, checked_paths
from keras_kd.errors import ConfigurationError, check_choice, check_integer, check_number, explain
from keras_kd.surgery import clone
from keras_kd.surgery.weights import weights_by_name
from keras_kd.tables import format_table

Measure = Callable[[keras.Model], float]

SCORES = ("group_norm", "l1", "l2", "batch_norm", "taylor", "random")
_COMPARABLE = ("batch_norm", "taylor", "random")  # between layers, as they are
_UNSCORED = {"batch_norm": "no normalization with a scale", "taylor": "no gradient reaches its kernel"}
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class ChannelRow:
    """What happens to a group of coupled channels.

    Attributes:
        layers: the paths of the layers that compute them; for attention heads, followed by `(heads)`.
        before, after: the number of channels of the first of these layers that are in the group.
        reason: why all of them stay; empty if some leave or could.
    """

    layers: tuple[str, ...]
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ChannelReport:
    """The groups of coupled channels of a model; prints as a table.

    Attributes:
        rows: one per group.
        target: what is reduced: `"operations"`, `"parameters"` or `"latency"`.
        before, after: its value, in multiply-accumulates, weights or seconds.
    """

    rows: tuple[ChannelRow, ...]
    target: str
    before: float
    after: float

    def __str__(self) -> str:
        cells = [(_shortened(row.layers), _change(row), row.reason or "-") for row in self.rows]
        total = f"{self.target}: {self.before:,.6g} -> {self.after:,.6g} ({100 * self.after / self.before:.1f}%)"
        return f"{format_table([('layers', 'channels', 'why all stay'), *cells])}\n{total}"


def _shortened(layers: tuple[str, ...]) -> str:
    """
    >>> _shortened(("a", "b", "c", "d", "e"))
    'a, b, c and 2 more'
    """
    rest = len(layers) - _SHOWN
    return ", ".join(layers) if rest < 2 else f"{', '.join(layers[:_SHOWN])} and {rest} more"


def _change(row: ChannelRow) -> str:
    return f"{row.before} -> {row.after}" if row.after < row.before else str(row.before)


class ChannelPruning(Transform):
    """Removes channels, neurons and attention heads along their dependencies.

        smaller = kd.compression.ChannelPruning(operations=0.5).apply(model)   # a plain model; fine-tune it

    Coupled channels leave together: those of a residual sum, of a normalization, of what reads them. The output of
    the smaller model is that of the original with the removed channels set to zero wherever they are read;
    `LayerNormalization` and `RMSNormalization` compute their statistics over the channels that stay. Channels whose
    way through the model cannot be followed stay, as the model's outputs do; `report` names the reason.

    The cut is the first one that reaches the target when channels leave in the order of their scores. Every group
    keeps at least one channel.

    Sources: G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023; for the scores see `score`.

    Args:
        operations: the largest fraction of multiply-accumulates to keep, 0 to 1. Exactly one target is given.
        parameters: the largest fraction of weights to keep.
        latency: the largest fraction of the time to keep that `measure` measures.
        measure: a function from a model to seconds, such as `kd.evaluation.litert_latency(x)`; for `latency` only.
        score: how much a channel matters. `"group_norm"`: the norm of all coupled kernels and scales (DepGraph). `"l1"`
            (H. Li et al., 2017), `"l2"`: the norm of the kernels that compute it. `"batch_norm"`: the scale of its
            normalization (Z. Liu et al., "Network Slimming", 2017). `"taylor"`: the first-order change of the loss
            (P. Molchanov et al., 2019), from `data` and `loss`. `"random"`: the baseline. Norms are divided by the mean
            of their group.
        scope: `"global"` ranks the channels of all groups together, `"local"` takes the same fraction of each.
        multiple_of: round the remaining channel counts up to a multiple of this, such as 8; a group that keeps all its
            channels keeps its number. Attention heads count as channels: with 8, all of 4 heads stay.
        skip: the paths of layers whose weights keep their shapes.
        data, loss: for `"taylor"`: what `fit` and `compile` take; without a loss, the one the model is compiled with.
        seed: of the random score.

    Raises:
        ConfigurationError: a setting out of range, or settings that do not fit each other.
    """

    def __init__(
        self,
        *,
        operations: float | None = None,
        parameters: float | None = None,
        latency: float | None = None,
        measure: Measure | None = None,
        score: str = "group_norm",
        scope: str = "global",
        multiple_of: int = 1,
        skip: Collection[str] = (),
        data: Any = None,
        loss: Any = None,
        seed: int = 0,
    ):
        self.target, self.fraction = _one_target(operations=operations, parameters=parameters, latency=latency)
        self.measure = measure
        _check_measure(self.target, measure)
        self.score = check_choice("score", score, SCORES)
        self.scope = check_choice("scope", scope, ("global", "local"))
        self.multiple_of = check_integer("multiple_of", multiple_of, at_least=1)
        self.skip = checked_paths(skip)
        _check_data(score, data, loss)
        self.data, self.loss = data, loss
        self.seed = check_integer("seed", seed, at_least=0)

    def apply(self, model: keras.Model, *, verbose: bool = True) -> keras.Model:
        """A smaller copy of a model, with the weights of the channels that stay; the model itself is not changed.

        The copy is a plain model of the same layers, names and settings. Fine-tune or distill it.

        Args:
            model: a Functional or Sequential model, with models nested to any depth.
            verbose: whether to print the report.

        Raises:
            ConfigurationError: the target cannot be reached, an unknown path in `skip`, a weight that is not finite, a
                model that is compressed already, or one with code of its own.
        """
        cut, report = self._cut(model)
        if verbose:
            print(report)  # noqa: T201 - asked for by `verbose`
        return shrunk(model, cut)

    def strip(self, model):
        check_plain(model)
        return clone(model)

    def report(self, model: keras.Model) -> ChannelReport:
        """The groups of coupled channels, and how many of each `apply` keeps."""
        return self._cut(model)[1]

    def _cut(self, model: keras.Model) -> tuple[Cut, ChannelReport]:
        check_plain(model)
        trace = Trace(model)
        self._keep_skipped(trace)
        pools, ranking = self._ranking(model, trace)
        num_channels = len(trace.channels.classes())
        before = self._cost(model, Cut(trace))
        if before == 0:
            raise _nothing_to_reduce(model, self.target)

        def cost(num_removed: int) -> float:
            return self._cost(model, Cut(trace, ranking.kept(num_removed, num_channels)))

        num_removed, after = smallest(ranking.size, cost, self.fraction * before)
        kept = ranking.kept(num_removed, num_channels)
        report = ChannelReport(tuple(_row(pool, kept) for pool in pools), self.target, before, after)
        if after > self.fraction * before:
            raise _out_of_reach(model, self.fraction, report)
        return Cut(trace, kept), report

    def _ranking(self, model: keras.Model, trace: Trace) -> tuple[list[Pool], Ranking]:
        values = self._scores(model, trace)
        pools = trace.channels.pools()
        if self.score in _UNSCORED:
            pools = list(removable(pools, values, _UNSCORED[self.score]))
        free = [pool for pool in pools if not pool.reason]
        if self.score not in _COMPARABLE:
            values = scores.relative(values, free)
        return pools, Ranking(free, values, scope=self.scope, multiple_of=self.multiple_of)

    def _scores(self, model: keras.Model, trace: Trace) -> np.ndarray:
        classes = trace.channels.classes()
        if self.score == "random":
            return scores.random(trace, classes, self.seed)
        if self.score == "taylor":
            return scores.taylor(trace, classes, self._products(model))
        functions = {"group_norm": scores.group_norm, "l1": scores.magnitude_l1, "l2": scores.magnitude_l2}
        return functions.get(self.score, scores.batch_norm)(trace, classes)

    def _products(self, model: keras.Model) -> dict[int, np.ndarray]:
        loss = self.loss if self.loss is not None else getattr(model, "loss", None)
        if loss is None:
            fix = "Pass loss=, or compile the model."
            raise ConfigurationError(
                explain("A Taylor score needs a loss.", received="none", expected="a loss", fix=fix)
            )
        gradients, weights = mean_gradients(model, self.data, loss), weights_by_name(model)
        return {
            id(weights[name]): ops.convert_to_numpy(weights[name]).astype("float64") * gradient
            for name, gradient in gradients.items()
        }

    def _cost(self, model: keras.Model, cut: Cut) -> float:
        if self.target == "operations":
            return count_operations(cut)
        if self.target == "parameters":
            return count_parameters(cut, model)
        seconds = check_number("measure(model)", self.measure(shrunk(model, cut)), at_least=0)
        if seconds == 0:
            raise ConfigurationError(explain("Invalid 'measure(model)'.", received=seconds, expected="seconds above 0"))
        return seconds

    def _keep_skipped(self, trace: Trace) -> None:
        records = {record.path: record for record in trace.layers.values() if record.uses}
        check_skip(self.skip, records, "'skip' names a layer whose channels are not followed.")
        for path in self.skip:
            trace.keep(records[path], f"{path!r} is listed in skip")


def _row(pool: Pool, kept: np.ndarray) -> ChannelRow:
    layers, after = tuple(dict.fromkeys(pool.owners)), int(kept[pool.classes].sum())
    return ChannelRow(layers, len(pool.classes) * pool.width, after * pool.width, pool.reason)


def _nothing_to_reduce(model: keras.Model, target: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"{model.name!r} has no {target} to reduce.",
            received=f"0 {target}",
            expected="a model with kernels, as only these are counted"
            if target == "operations"
            else "a model with weights",
            fix="Set a target of 'parameters' or 'latency'." if target == "operations" else None,
        )
    )


def _out_of_reach(model: keras.Model, fraction: float, report: ChannelReport) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"Channel pruning cannot reduce {model.name!r} this far.",
            received=f"{report.target}={fraction:g}",
            expected=f"{report.target} of at least {report.after / report.before:.4f}, with these groups:\n{report}",
        )
    )


def _one_target(**targets: Any) -> tuple[str, float]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        expected = "exactly one of operations, parameters, latency"
        received = ", ".join(f"{name}={value}" for name, value in given.items()) or "none"
        raise ConfigurationError(explain("Channel pruning takes one target.", received=received, expected=expected))
    ((name, value),) = given.items()
    fraction = check_number(name, value, at_least=0, at_most=1)
    if fraction == 0:
        problem, expected = f"Invalid {name!r}.", "a fraction above 0; each group keeps at least one channel"
        raise ConfigurationError(explain(problem, received=repr(value), expected=expected))
    return name, fraction


def _check_measure(target: str, measure: Any) -> None:
    if (target == "latency") != (measure is not None) or not (measure is None or callable(measure)):
        expected = "a function from a model to seconds with 'latency', and None with any other target"
        fix = "Pass measure=kd.evaluation.litert_latency(x)." if target == "latency" else None
        raise ConfigurationError(explain("Invalid 'measure'.", received=repr(measure), expected=expected, fix=fix))


def _check_data(score: str, data: Any, loss: Any) -> None:
    if (score == "taylor") != (data is not None) or (score != "taylor" and loss is not None):
        received = f"score={score!r} with {'no ' if data is None else ''}data" + (
            " and a loss" if loss is not None else ""
        )
        expected = "data, as for fit, with score='taylor'; neither data nor loss with any other score"
        raise ConfigurationError(explain("Invalid 'data'.", received=received, expected=expected))
