"""`SelfDistiller`: a model that is its own teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.distillers import checks
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.hyperparameters import DEFAULT_ALPHA
from keras_kd.regimes.exits import MAIN, exits_of
from keras_kd.regimes.same_labels import SameLabels
from keras_kd.regimes.self_teaching import Exits, SelfTeaching, registry
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import AveragedWeights
from keras_kd.untracked import Untracked


@register
class SelfDistiller(SameLabels):
    """Trains a model with itself as the teacher: its deepest output, its own earlier weights, or its smoothed labels.

        kd.SelfDistiller(model, exits=["stage_1", "stage_2"])
        kd.SelfDistiller(model, teacher="ema", decay=0.999)

    With `exits`, a classifier on each of these layers learns from the labels, from the model's output, and from its
    deepest features; what the exits learn also trains the layers below them. `strip()` returns the model without them.

    With `teacher`, the targets come from the same model on other weights, or from the labels alone:

    - `"ema"`: a moving average of the weights, which also teaches on examples without a label (`decay`);
    - `"previous_epoch"`: the weights at the end of the previous epoch; alpha is 0 in the first;
    - `"label_smoothing"`: a virtual teacher that is right with a fixed probability (`correct`,
      `smoothing_temperature`).

    Everything else is as for `Distiller`: `loss = (1 - alpha) * supervised + alpha * sum(weight * term) + ...`, in
    which the supervised part is the sum over the output and the exits.

    Sources: Zhang et al., "Be Your Own Teacher", 2019 (`exits`); Tarvainen & Valpola, "Mean teachers are better role
    models", 2017 (`"ema"`); Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", 2021
    (`"previous_epoch"`); Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", 2020
    (`"label_smoothing"`).

    Args:
        model: the Keras model to train, in place.
        exits: paths of its inner layers, see `keras_kd.regimes.with_exits`; or the names of all outputs of `model` but
            `"output"`.
        teacher: instead of exits, `"ema"`, `"previous_epoch"` or `"label_smoothing"`.
        alpha: the weight of the teacher, as for `Distiller`.
        temperature: as for `Distiller`; None means 4, and 1 for the virtual teacher, whose targets have their own.
        losses: as for `Distiller`. None means the default term; for exits, one to each of them, and the mean squared
            difference of the features.
        student_outputs: as for `Distiller`.
        settings: `feature_weight` for exits, and those named above for a teacher.

    Raises:
        ConfigurationError: neither or both of `exits` and `teacher`, a setting that this teacher does not have, or a
            model on which the exits cannot be built.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        exits: Sequence[str] | None = None,
        teacher: str | SelfTeaching | None = None,
        alpha: Any = DEFAULT_ALPHA,
        temperature: Any = None,
        losses: Any = None,
        student_outputs: str | None = None,
        name: str = "self_distiller",
        **settings: Any,
    ):
        checks.check_student(model)
        way = _way(exits, teacher, settings)
        prepared = way.prepare(model, student_outputs)
        super().__init__(
            prepared.teacher,
            prepared.student,
            alpha=alpha,
            temperature=prepared.temperature if temperature is None else temperature,
            losses=prepared.terms if losses is None else losses,
            student_outputs=student_outputs,
            name=name,
        )
        self._way = way
        self._model = Untracked(model if prepared.student is not model else None)

    def strip(self, *, exits: bool = False, averaged: bool = False) -> keras.Model:
        """The trained model, without what only helped to train it.

        Args:
            exits: whether to keep the exits, as a model with several outputs.
            averaged: with `teacher="ema"`, a copy with the averaged weights, which often predict better than the last.

        Raises:
            ConfigurationError: the model has no exits or averaged weights.
        """
        if exits and not isinstance(self._way, Exits):
            raise ConfigurationError(
                explain("This model has no exits.", received=f"{self._way}", expected="exits=[...]")
            )
        if averaged and not isinstance(self.teacher, AveragedWeights):
            raise ConfigurationError(
                explain("This model has no averaged weights.", received=f"{self._way}", expected="teacher='ema'")
            )
        if averaged:
            return self.teacher.as_model()
        if exits or not isinstance(self._way, Exits):
            return self.student
        if self._model.value is not None:
            return self._model.value
        return keras.Model(self.student.input, symbolic_outputs(self.student)[MAIN], name=self.student.name)

    def get_config(self):
        way = self._way
        if isinstance(way, Exits):  # which are outputs of the student by now
            way = dataclasses.replace(way, layers=tuple(exits_of(self.student)))
        return self._config_of_outputs("model") | {"way": serialize(way)}

    @classmethod
    def from_config(cls, config):
        settings = {name: deserialize(value) for name, value in config.items()}
        way = settings.pop("way")
        if settings.pop("losses_are_default"):
            del settings["losses"]
        return cls(teacher=way, **settings)


def _way(exits: Any, teacher: Any, settings: dict[str, Any]) -> SelfTeaching:
    """The way in which the model teaches itself."""
    if isinstance(teacher, SelfTeaching) and exits is None and not settings:
        return teacher
    if (exits is None) == (teacher is None):
        raise ConfigurationError(
            explain(
                "A self-distiller needs exits or a teacher.",
                received=f"exits={exits!r}, teacher={teacher!r}",
                expected="exits=['stage_1', ...], or teacher='ema', 'previous_epoch' or 'label_smoothing'",
            )
        )
    if exits is not None:
        return registry.get({"name": "exits", "layers": exits, **settings})
    return registry.get({"name": teacher, **settings})
