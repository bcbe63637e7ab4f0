"""Several optimizers, each for some of the variables, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.untracked import Untracked

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
        self._inner = Untracked([_checked(optimizer) for optimizer in optimizers])
        if len({id(optimizer) for optimizer in self.optimizers}) < len(self.optimizers):
            raise ConfigurationError(
                explain(
                    "Each peer needs an optimizer of its own, since an optimizer keeps a state for its variables.",
                    received="the same optimizer twice",
                    expected="different optimizers, or one for all",
                )
            )
        self.groups = groups
        self._built_for = Untracked([])

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """The optimizers, in the order of their groups."""
        return self._inner.value

    def build(self, variables):
        if self.built:
            return
        self._built_for.value = list(variables)
        for optimizer, own in zip(self.optimizers, self._by_optimizer(variables), strict=True):
            optimizer.build([variable for _, variable in own])
        super().build(variables)

    def _by_optimizer(self, variables: Sequence[Any]) -> list[list[tuple[int, Any]]]:
        """The variables of each optimizer, with their places in the list."""
        groups = [{id(variable) for variable in group} for group in (self.groups() if self.groups else [])]
        divided: list[list[tuple[int, Any]]] = [[] for _ in self.optimizers]
        for place, variable in enumerate(variables):
            owner = next((number for number, group in enumerate(groups) if id(variable) in group), 0)
            divided[owner].append((place, variable))
        return divided

    @property
    def variables(self):
        return [*super().variables, *(one for optimizer in self.optimizers for one in optimizer.variables)]

    def apply(self, grads, trainable_variables=None):
        variables = self._built_for.value if trainable_variables is None else list(trainable_variables)
        if not self.built:
            self.build(variables)
        grads = list(grads)
        for optimizer, own in zip(self.optimizers, self._by_optimizer(variables), strict=True):
            gradients = [grads[place] for place, _ in own]
            if any(gradient is not None for gradient in gradients):
                optimizer.apply(gradients, [variable for _, variable in own])

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
        for optimizer, own in zip(self.optimizers, self._by_optimizer(var_list), strict=True):
            optimizer.finalize_variable_values([variable for _, variable in own])

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
