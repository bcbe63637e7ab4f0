"""Several optimizers, each for some of the variables, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import deserialize, register, serialize

Groups = Callable[[], Sequence[Sequence[Any]]]


@register
class GroupedOptimizer(keras.optimizers.Optimizer):
    """Applies each of several optimizers to its own group of variables.

    A variable in none of the groups belongs to the first optimizer. Each optimizer clips, decays and averages within
    its group. `iterations` and `learning_rate` are those of the first; set the learning rate of each by itself.

    Args:
        optimizers: optimizers or their names.
        groups: a function that returns the variables of each optimizer; it is called when the optimizer is built.

    Raises:
        ConfigurationError: an optimizer that is given twice, or one that scales the loss.
    """

    def __init__(self, optimizers: Sequence[Any], groups: Groups | None = None, name: str = "grouped_optimizer"):
        super().__init__(learning_rate=0.0, name=name)
        self._inner = _Untracked([_checked(optimizer) for optimizer in optimizers])
        if len({id(optimizer) for optimizer in self.optimizers}) < len(self.optimizers):
            raise ConfigurationError(
                explain(
                    "Each peer needs an optimizer of its own, since an optimizer keeps a state for its variables.",
                    received="the same optimizer twice",
                    expected="different optimizers, or one for all",
                )
            )
        self.groups = groups
        self._members = _Untracked([])

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers, in the order of their groups."""
        return self._inner.values

    def build(self, variables):
        if self.built:
            return
        groups = [{id(variable) for variable in group} for group in self.groups()] if self.groups else [set()]
        members: list[list[int]] = [[] for _ in self.optimizers]
        for index, variable in enumerate(variables):
            owners = [number for number, group in enumerate(groups) if id(variable) in group]
            members[owners[0] if owners else 0].append(index)
        for optimizer, group in zip(self.optimizers, members, strict=True):
            optimizer.build([variables[index] for index in group])
        self._members.values = members
        super().build(variables)

    @property
    def variables(self):
        return [*super().variables, *(one for optimizer in self.optimizers for one in optimizer.variables)]

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
        for optimizer, group in zip(self.optimizers, self._members.values, strict=True):
            own = [grads[index] for index in group]
            if any(gradient is not None for gradient in own):
                optimizer.apply(own, trainable_variables and [trainable_variables[index] for index in group])

    @property
    def iterations(self):
        return self.optimizers[0].iterations

    @property
    def learning_rate(self):
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        raise ConfigurationError(
            explain(
                "These are several optimizers, each with a learning rate of its own.",
                received=f"one learning rate, {value!r}",
                expected="a learning rate for each",
                fix="for optimizer in distiller.optimizer.optimizers: optimizer.learning_rate = ...",
            )
        )

    def finalize_variable_values(self, var_list):
        for optimizer, group in zip(self.optimizers, self._members.values, strict=True):
            optimizer.finalize_variable_values([var_list[index] for index in group])

    def get_config(self):
        return {"name": self.name, "optimizers": [serialize(optimizer) for optimizer in self.optimizers]}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls([deserialize(optimizer) for optimizer in config["optimizers"]], name=config["name"])


def _checked(optimizer: Any) -> keras.optimizers.Optimizer:
    optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.loss_scale_factor:
        raise ConfigurationError(
            explain(
                "One of several optimizers cannot scale the loss, which they share.",
                received=type(optimizer).__name__,
                expected="optimizers without loss scaling",
            )
        )
    return optimizer


class _Untracked:
    """Hides optimizers and numbers from TensorFlow's tracking, which `variables` replaces."""

    def __init__(self, values: list[Any]):
        self.values = values
