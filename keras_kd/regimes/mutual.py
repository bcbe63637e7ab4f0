"""`MutualDistiller`: several models that learn together and from each other, without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.distillers.defaults import DefaultTerms
from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import find_heads
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.hyperparameters import DEFAULT_ALPHA
from keras_kd.regimes.collaborative import CombinedLogits
from keras_kd.regimes.diverse import DiverseTerms
from keras_kd.regimes.grouped_optimizer import GroupedOptimizer
from keras_kd.regimes.peers import ENSEMBLE, gated, joined, unique_names
from keras_kd.regimes.same_labels import Pair, PairedTerms, SameLabels
from keras_kd.serialization import deserialize, register
from keras_kd.teachers.own_outputs import OwnOutputs
from keras_kd.untracked import Untracked

TEMPERATURES = {"dml": 1.0, "kdcl": 2.0, "one": 3.0, "okddip": 3.0}


@register
class MutualDistiller(SameLabels):
    """Trains several models (peers) at once, each on the labels and on what the others predict for the same batch.

        distiller = kd.MutualDistiller([small, wide, deep], method="dml")
        distiller.compile([keras.optimizers.SGD(0.1), "adam", "adam"], loss=..., metrics=["accuracy"])
        distiller.fit(x, y, epochs=20, validation_data=(x_val, y_val))
        best = distiller.best(x_val, y_val)

    | method | targets of a peer | temperature |
    |---|---|---|
    | `"dml"` | the predictions of each other peer, one term each, with their mean | 1 |
    | `"kdcl"` | an ensemble of all peers, by `rule` | 2 |
    | `"one"` | the ensemble of branches that share a trunk, weighted by a trained gate | 3 |
    | `"okddip"` | of the first, the leader: the mean of the others; of these: all of them, by its attention | 3 |

    `loss = (1 - alpha) * sum of the peers' supervised losses + alpha * sum of their terms + ...`. Targets have no
    gradient, so each peer has the gradient of its own loss; all peers are updated in the same step. The ensemble of
    `"one"` has a supervised loss too, which trains its gate. The targets of `"okddip"` have a gradient, which trains
    the attention, see `keras_kd.losses.DiversePeers`.

    Sources: Zhang, Xiang, Hospedales & Lu, "Deep Mutual Learning", 2018 (`"dml"`; its text updates the peers one after
    the other, here they take one step together); Guo et al., "Online Knowledge Distillation via Collaborative
    Learning", 2020 (`"kdcl"`); Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", 2018 (`"one"`);
    Chen et al., "Online Knowledge Distillation with Diverse Peers", 2020 (`"okddip"`).

    Args:
        peers: at least two built models with the same inputs and output, or one model with an output for each peer; for
            `"one"`, those of `keras_kd.regimes.branches`, with logits as outputs; for `"okddip"`, at least three that
            are graphs of layers and end in a dense layer or 1x1 convolution on their features.
        method: one of the table.
        rule: of the ensemble of `"kdcl"`: `"min_logit"`, `"best"` (both read the labels) or `"mean"`.
        alpha: the weight of the peers as teachers, as for `Distiller`.
        temperature: as for `Distiller`; None means that of the table.
        losses: as for `Distiller`, between outputs by name; None means the default term for each pair.
        student_outputs: as for `Distiller`, of all peers.

    Raises:
        ConfigurationError: fewer than two peers, peers of different shapes, or a setting out of range.
    """

    def __init__(
        self,
        peers: Sequence[keras.Model] | keras.Model,
        *,
        method: str = "dml",
        rule: str = "min_logit",
        alpha: Any = DEFAULT_ALPHA,
        temperature: Any = None,
        losses: Any = None,
        student_outputs: str | None = None,
        name: str = "mutual_distiller",
    ):
        check_choice("method", method, TEMPERATURES)
        combine = CombinedLogits(rule)
        is_loaded = isinstance(peers, keras.Model) and len(symbolic_outputs(peers) or ()) > 1
        student = peers if is_loaded else joined(peers)
        if method == "one":
            student_outputs = student_outputs or "logits"
            if not is_loaded:
                _check_logits(peers, student_outputs)
                student = gated(student)
        names = [name for name in symbolic_outputs(student) if name != ENSEMBLE]
        super().__init__(
            OwnOutputs(student, combine if method == "kdcl" else None, student_outputs),
            student,
            alpha=alpha,
            temperature=TEMPERATURES[method] if temperature is None else temperature,
            losses=_default_terms(student, names, method) if losses is None else losses,
            student_outputs=student_outputs,
            name=name,
        )
        self.method, self.rule = method, rule
        self._peers = Untracked(None if is_loaded else dict(zip(names_of(peers), peers, strict=True)))

    @property
    def peers(self) -> dict[str, keras.Model]:
        """The models by their names in the logs."""
        if self._peers.value is None:
            outputs = {name: value for name, value in symbolic_outputs(self.student).items() if name != ENSEMBLE}
            made = {name: keras.Model(self.student.input, value, name=name) for name, value in outputs.items()}
            self._peers.value = made
        return self._peers.value

    def compile(self, optimizer="rmsprop", loss=None, **settings):
        """As `Distiller.compile`; several optimizers, in a list or by the peers' names, are each for one peer."""
        if isinstance(optimizer, dict):
            _check_names(optimizer, self.peers)
            optimizer = [optimizer[name] for name in self.peers]
        if isinstance(optimizer, (list, tuple)):
            optimizer = GroupedOptimizer(self._checked_number(optimizer))
        if isinstance(optimizer, GroupedOptimizer):
            optimizer.groups = self._groups
        super().compile(optimizer=optimizer, loss=loss, **settings)

    def best(self, *data: Any, measure: str = "accuracy", mode: str | None = None, **settings: Any) -> keras.Model:
        """The peer that is best on some data, such as the model to export.

        Args:
            data, settings: as for `evaluate`.
            measure: `"loss"`, or a compiled metric as in the logs, without the peer's name.
            mode: `"max"` if larger values are better, `"min"` if smaller ones are; None knows it of `"loss"` and of
                accuracies.

        Raises:
            ConfigurationError: the measure was not compiled, or needs a mode.
        """
        if mode is None and measure != "loss" and not measure.endswith("accuracy"):
            problem = f"Are larger or smaller values of {measure!r} better?"
            raise ConfigurationError(explain(problem, received="mode=None", expected="mode='max' or 'min'"))
        mode = mode or ("min" if measure == "loss" else "max")
        check_choice("mode", mode, ("min", "max"))
        measured = self.evaluate(*data, **{"verbose": 0, **settings, "return_dict": True})
        found = {name: measured.get(f"{name}_{measure}") for name in self.peers}
        if None in found.values():
            raise ConfigurationError(
                explain(
                    f"The peers were not measured by {measure!r}.",
                    received=repr(measure),
                    expected="a metric given to compile; measured were " + ", ".join(measured),
                )
            )
        name = (min if mode == "min" else max)(found, key=found.get)
        return self.peers[name]

    def _groups(self) -> list[list[Any]]:
        groups = [peer.trainable_variables for peer in self.peers.values()]
        if len({id(variable) for group in groups for variable in group}) < sum(map(len, groups)):
            raise ConfigurationError(
                explain(
                    "Peers that share layers cannot have an optimizer each.",
                    received="several optimizers",
                    expected="one optimizer for all",
                )
            )
        return groups

    def _checked_number(self, optimizers: Sequence[Any]) -> list[Any]:
        if len(optimizers) != len(self.peers):
            raise ConfigurationError(
                explain(
                    "Each peer needs an optimizer.",
                    received=f"{len(optimizers)} optimizers",
                    expected=f"one, or one for each of {', '.join(self.peers)}",
                )
            )
        return list(optimizers)

    def get_config(self):
        return self._config_of_outputs("peers") | {"method": self.method, "rule": self.rule}

    @classmethod
    def from_config(cls, config):
        settings = {name: deserialize(value) for name, value in config.items()}
        if settings.pop("losses_are_default"):
            del settings["losses"]
        return cls(**settings)


def names_of(peers: Sequence[keras.Model]) -> list[str]:
    return unique_names([peer.name for peer in peers])


def _check_logits(peers: Sequence[keras.Model], outputs: str) -> None:
    """Raises `ConfigurationError` if the branches of an ensemble do not end in logits, which it adds up."""
    ends = {head.activation for peer in peers for head in find_heads(peer).values()}
    if ends - {"linear"} or outputs != "logits":
        raise ConfigurationError(
            explain(
                "The ensemble of 'one' adds logits.",
                received=f"branches that end in {', '.join(sorted(ends)) or outputs}",
                expected="branches without a final activation",
            )
        )


def _check_names(given: dict[str, Any], peers: dict[str, Any]) -> None:
    if set(given) != set(peers):
        raise ConfigurationError(
            explain(
                "The optimizers do not fit the peers.",
                received=f"optimizers for {', '.join(map(str, given))}",
                expected=f"one for each of {', '.join(peers)}",
            )
        )


def _default_terms(student: keras.Model, names: Sequence[str], method: str) -> DefaultTerms:
    return DiverseTerms(student) if method == "okddip" else PairedTerms(_pairs(names, method))


def _pairs(names: Sequence[str], method: str) -> list[Pair]:
    """Which output teaches which, by the method."""
    if method != "dml":
        return [Pair(ENSEMBLE, name, f"{name}_from_{ENSEMBLE}") for name in names]
    weight = 1.0 / (len(names) - 1)
    return [Pair(other, name, f"{name}_from_{other}", weight) for name in names for other in names if other != name]
