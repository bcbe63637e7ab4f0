"""The ways in which a model can teach itself: what is trained, what teaches it, and by which terms."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import output_shapes
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.hyperparameters import DEFAULT_TEMPERATURE
from keras_kd.losses import Hint, Weighted
from keras_kd.regimes.exits import MAIN, deepest_layer, exits_of, features_of_exit, with_exits
from keras_kd.regimes.same_labels import Pair, PairedTerms
from keras_kd.serialization import Registry, deserialize, serialize
from keras_kd.teachers import AveragedWeights, EarlierWeights, SmoothedLabels, Teacher
from keras_kd.teachers.own_outputs import OwnOutputs

registry = Registry("self-teaching")


class Prepared(NamedTuple):
    """What a `SelfDistiller` is made of.

    Attributes:
        student: the model to train.
        teacher: of it.
        terms: the default terms; None for those of `Distiller`.
        temperature: the default temperature.
    """

    student: keras.Model
    teacher: Teacher
    terms: Any = None
    temperature: float = DEFAULT_TEMPERATURE


@dataclasses.dataclass(frozen=True)
class SelfTeaching(abc.ABC):
    """Base of the ways in which a model can teach itself."""

    @abc.abstractmethod
    def prepare(self, model: keras.Model, outputs: str | None) -> Prepared:
        """The parts of the distiller of a model whose final layers return `outputs`."""

    def get_config(self) -> dict[str, Any]:
        return {field.name: serialize(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SelfTeaching:
        return cls(**{name: deserialize(value) for name, value in config.items()})


@registry.register
@dataclasses.dataclass(frozen=True)
class Exits(SelfTeaching):
    """The deepest output teaches classifiers on inner layers.

    Attributes:
        layers: paths of inner layers; or, of a model with several outputs, the names of those to teach.
        feature_weight: of the mean squared difference between the features of an exit and the deepest; a number or a
            schedule. 0 leaves the features out.
    """

    layers: tuple[str, ...]
    feature_weight: Any = 1.0

    def __post_init__(self):
        layers = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
        object.__setattr__(self, "layers", layers)

    def prepare(self, model, outputs):
        tensors = symbolic_outputs(model)
        if tensors is not None and len(tensors) > 1:
            student, names = model, exits_of(model)
            self._check_outputs(names, tensors)
        else:
            student = with_exits(model, self.layers)
            names = exits_of(student)
        pairs = [Pair(MAIN, name, f"soft_targets_{name}") for name in names]
        return Prepared(
            student, OwnOutputs(student, outputs=outputs), PairedTerms(pairs, self._features(student, names))
        )

    def _check_outputs(self, names: list[str], tensors: dict[str, Any]) -> None:
        if MAIN not in tensors or set(names) != set(self.layers):
            raise ConfigurationError(
                explain(
                    "The exits of a model with several outputs are these outputs.",
                    received=f"exits {list(self.layers)} and outputs {list(tensors)}",
                    expected=f"an output {MAIN!r}, which teaches, and exits that name all others",
                    fix="Build the model with a dict of outputs: keras.Model(inputs, {'output': y, 'aux': z}).",
                )
            )

    def _features(self, student: keras.Model, names: list[str]) -> list[Any]:
        weight = self.feature_weight
        if isinstance(weight, (int, float)) and weight == 0:
            return []
        terms = []
        for name in names:
            path = features_of_exit(student, name)
            deepest = path and deepest_layer(student, path)
            if deepest:
                terms.append(Weighted(Hint(teacher=deepest, student=path, name=f"features_{name}"), weight))
        return terms


@registry.register
@dataclasses.dataclass(frozen=True)
class Ema(SelfTeaching):
    """The exponential moving average of the weights, see `AveragedWeights`."""

    decay: Any = 0.999

    def prepare(self, model, outputs):
        return Prepared(model, AveragedWeights(model, self.decay, outputs))


@registry.register
@dataclasses.dataclass(frozen=True)
class PreviousEpoch(SelfTeaching):
    """The weights at the end of the previous epoch, see `EarlierWeights`; alpha is 0 in the first epoch."""

    def prepare(self, model, outputs):
        return Prepared(model, EarlierWeights(model, outputs))


@registry.register
@dataclasses.dataclass(frozen=True)
class LabelSmoothing(SelfTeaching):
    """A virtual teacher made from the labels, see `SmoothedLabels`."""

    correct: float = 0.99
    smoothing_temperature: float = 20.0

    def prepare(self, model, outputs):
        shapes = output_shapes(model)
        if shapes is None or len(shapes) != 1:
            raise ConfigurationError(
                explain(
                    "A virtual teacher needs to know the number of classes.",
                    received=f"a model with the outputs {shapes}",
                    expected="a Functional or built Sequential model with one output",
                )
            )
        ((*_, num_classes),) = shapes.values()
        teacher = SmoothedLabels(num_classes, correct=self.correct, temperature=self.smoothing_temperature)
        return Prepared(model, teacher, temperature=1.0)
