"""Gradual unfreezing: layers begin to be trained from the top, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import (
    all_layers,
    has_learning_rate_schedule,
    optimized_variables,
    set_trainable_flag,
    update_fewer_variables,
)
from keras_kd.transfer.below import Below, find_below, leaves
from keras_kd.transfer.freezing import check_split, retrace, student_of, trainable_flags


class GradualUnfreezing(keras.callbacks.Callback):
    """The callback of `unfreeze_gradually`.

    Attributes:
        boundaries: the path of the last frozen layer from each epoch on, None if none is frozen.
        rate_factor: what the learning rate is multiplied by at each boundary but the first.
    """

    def __init__(self, boundaries: Mapping[int, str | None], *, rate_factor: float = 1.0):
        super().__init__()
        self.boundaries = _checked(boundaries)
        self.rate_factor = check_number("rate_factor", rate_factor, at_least=1e-9)
        self._stages: dict[int, tuple[keras.layers.Layer, ...]] = {}

    def prepare(self, model: keras.Model) -> None:
        """Freezes a compiled model as in epoch 0, and gives its optimizer the variables of all epochs; `fit` does so.

        Call it before `Resume.restore(model)`, which loads the state of the optimizer.

        Raises:
            ConfigurationError: boundaries that do not fit the model, or an optimizer that cannot train in this way.
        """
        student = student_of(model)
        below = {epoch: _below(student, path) for epoch, path in self.boundaries.items()}
        check_split(student, below[0], self.boundaries[0])
        self._check_shrinking(below)
        self._check_optimizer(model)
        before = trainable_flags(model)
        self._stages = {epoch: () if one is None else one.layers for epoch, one in below.items()}
        self._set(student, max(self._stages))
        _train_all(model)
        self._set(student, 0)
        if before != trainable_flags(model) and model.train_function is not None:
            retrace(model)

    def on_train_begin(self, logs=None):
        self.prepare(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        before = trainable_flags(self.model)
        self._set(student_of(self.model), max(start for start in self._stages if start <= epoch))
        if before != trainable_flags(self.model):
            retrace(self.model)
        if epoch > 0 and epoch in self._stages and self.rate_factor != 1.0:
            optimizer = self.model.optimizer
            optimizer.learning_rate = float(optimizer.learning_rate) * self.rate_factor

    def get_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        boundaries = {str(epoch): path for epoch, path in self.boundaries.items()}
        return {"boundaries": boundaries, "rate_factor": self.rate_factor}

    def _set(self, student: keras.Model, start: int) -> None:
        """Sets the flags of the layers below the first boundary as from the epoch `start` on."""
        frozen = set(map(id, self._stages[start]))
        trained = {id(layer) for layer in self._stages[0]} - frozen
        for layer in self._stages[0]:
            if layer.trainable != (id(layer) in trained):
                layer.trainable = id(layer) in trained
        for model in all_layers(student):  # or a nested model would have no trainable weights
            if is_graph(model) and any(id(layer) in trained for layer in leaves(model)):
                set_trainable_flag(model, True)

    def _check_shrinking(self, below: dict[int, Below | None]) -> None:
        above: frozenset[int] | None = None
        for epoch, one in below.items():
            ids = frozenset() if one is None else one.ids
            if above is not None and not ids < above:
                path = self.boundaries[epoch]
                raise ConfigurationError(
                    explain(
                        f"The boundary of epoch {epoch} is not below the one before it.",
                        received=f"{path!r} in {self.boundaries}",
                        expected="a layer that those frozen before contain, and that unfreezes at least one of them",
                    )
                )
            above = ids

    def _check_optimizer(self, model: keras.Model) -> None:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ConfigurationError(explain("The model is not compiled.", received=repr(model), fix="Compile it."))
        if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
            raise ConfigurationError(
                explain(
                    "The optimizer's averages of weights that are unfrozen later would begin at zero.",
                    received=f"{type(optimizer).__name__}(use_ema=True)",
                    expected="use_ema=False",
                )
            )
        if self.rate_factor != 1.0 and has_learning_rate_schedule(optimizer):
            raise ConfigurationError(
                explain(
                    "A schedule sets the learning rate.",
                    received=f"rate_factor={self.rate_factor:g} and an optimizer with a learning-rate schedule",
                    expected="rate_factor=1, or a learning rate that is a number",
                )
            )


def unfreeze_gradually(boundaries: Mapping[int, str | None], *, rate_factor: float = 1.0) -> GradualUnfreezing:
    """A callback that freezes the lower layers of a model, and unfreezes them from the top at given epochs.

        unfreezing = kd.transfer.unfreeze_gradually({0: "block_3", 2: "block_1", 4: None}, rate_factor=0.5)
        small.fit(x, y, epochs=6, callbacks=[unfreezing])

    trains what is above `block_3` in epochs 0 and 1, also the layers between `block_1` and `block_3` in epochs 2 and 3,
    and the whole model from epoch 4 on. For a `Distiller` the student is meant. Frozen layers are those of `freeze`;
    layers above the first boundary keep their flags, all others follow the epoch, whatever they were before. The state
    follows from the epoch alone, so a training with `kd.callbacks.Resume` resumes; put this callback into the list as
    in the first run.

    The optimizer has its slots for all layers from the beginning, at zero for those not trained yet; its step count is
    one for all. Adam's correction for short histories has therefore passed when a group joins, and the first updates of
    that group are larger: up to (1 - beta_1) / sqrt(1 - beta_2) times the learning rate, 3.2 with the defaults. A
    `rate_factor` of 0.3 makes up for it. A file that is saved while layers are frozen loads without the state of the
    optimizer, since Keras creates only the slots of trainable weights.

    Source: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification" (ULMFiT), 2018. They unfreeze
    one layer an epoch, and give lower layers lower rates at the same time; Keras has one rate for all.

    Args:
        boundaries: from an epoch, counted from 0, to the path of the last layer that is frozen from there on; None
            freezes nothing. Epoch 0 is required, and each boundary lies below the one before.
        rate_factor: multiplies the learning rate at each boundary but the first.

    Raises:
        ConfigurationError: boundaries without epoch 0; when `fit` begins, a path that does not exist, a boundary that
            is not below the one before, an optimizer with `use_ema`, with a learning-rate schedule and a `rate_factor`,
            or one that has made steps for some of the weights alone.

    >>> unfreeze_gradually({0: "block_3", 2: None}).boundaries
    {0: 'block_3', 2: None}
    """
    return GradualUnfreezing(boundaries, rate_factor=rate_factor)


def _checked(boundaries: Any) -> dict[int, str | None]:
    is_mapping = isinstance(boundaries, Mapping) and all(
        path is None or isinstance(path, str) for path in boundaries.values()
    )
    if is_mapping:
        for epoch in boundaries:
            check_integer("epoch", epoch, at_least=0)
    if not is_mapping or 0 not in boundaries or boundaries[0] is None:
        raise ConfigurationError(
            explain(
                "Invalid 'boundaries'.",
                received=repr(boundaries),
                expected="paths of layers by epoch, beginning with epoch 0, such as {0: 'block_3', 2: None}",
            )
        )
    return {int(epoch): boundaries[epoch] for epoch in sorted(boundaries)}


def _below(student: keras.Model, path: str | None) -> Below | None:
    return None if path is None else find_below(student, path)


def _train_all(model: keras.Model) -> None:
    """Gives the optimizer slots for all variables that are trainable now, which later are only partly trained.

    Raises:
        ConfigurationError: it has made steps with others.
    """
    variables, optimizer = model.trainable_variables, model.optimizer
    if optimizer.built:
        known = {id(variable) for variable in optimized_variables(optimizer)}
        if all(id(variable) in known for variable in variables):
            update_fewer_variables(model)
            return
        if int(optimizer.iterations) > 0:
            raise ConfigurationError(
                explain(
                    "The optimizer has made steps without the weights to be unfrozen.",
                    received=f"an optimizer with {len(known)} variables after {int(optimizer.iterations)} steps",
                    expected=f"one with all {len(variables)} variables, or one without steps",
                    fix="Compile the model again.",
                )
            )
        model.optimizer = type(optimizer).from_config(optimizer.get_config())
    model.optimizer.build(variables)
    update_fewer_variables(model)
