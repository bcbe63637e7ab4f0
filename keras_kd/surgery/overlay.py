"""A scope in which a layer runs on other values than those of its variables."""

from __future__ import annotations

from typing import Any

import keras


class Overlay(keras.StatelessScope):
    """A scope in which some variables have other values; everything else works as it does outside."""

    def __init__(self, mapping: list[tuple[Any, Any]]):
        super().__init__(mapping, collect_losses=True, initialize_variables=False)
        self._updates: dict[int, tuple[Any, Any]] = {}

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return value

    def add_loss(self, loss):
        outside = self.original_scope
        if outside is not None and outside.collect_losses:
            outside.add_loss(loss)  # which finds the layer that added it
        else:
            super().add_loss(loss)

    def add_update(self, update):
        super().add_update(update)
        self._updates[id(update[0])] = update

    @property
    def updates(self) -> list[tuple[Any, Any]]:
        """What was assigned inside the scope: each variable and its last value."""
        return list(self._updates.values())

    def pass_on(self, layer: keras.layers.Layer) -> None:
        """Applies outside of the scope what was assigned and added inside it."""
        for variable, value in self.updates:
            variable.assign(value)
        for loss in self.losses:
            layer.add_loss(loss)
