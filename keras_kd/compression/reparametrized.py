"""A layer that runs on weights computed from its trained ones: pruned, clustered, quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.surgery.weights import weights_by_name


@register
class Reparametrized(keras.layers.Wrapper):
    """Runs a layer with some of its weights replaced by functions of them.

    The optimizer trains the weights of `layer`, while the layer's own code reads the results of these functions. Masks
    and other state belong to this layer, so that they are saved, loaded and passed into a compiled step like any other
    weight.

    Args:
        layer: the layer; built, or with a build configuration in `build_config`.
        weights: functions of weights by the name of the weight (`"kernel"`, `"query/kernel"`).
        build_config: as `layer.get_build_config()` gives it.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        weights: Mapping[str, WeightFunction],
        build_config: Mapping[str, Any] | None = None,
        **settings: Any,
    ):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, "autocast": False} | settings)
        self._inner_build_config = build_config or layer.get_build_config()
        if not layer.built:
            layer.build_from_config(self._inner_build_config)
        self.reparametrizations = {name: weights[name] for name in sorted(weights)}
        self._trained = _Untracked(weights_by_name(layer))
        for name, function in self.reparametrizations.items():
            if not function.built:
                function.build(tuple(self._trained.values[name].shape))
        self.supports_masking = True
        self.built = True

    @property
    def equivalent_layer(self) -> keras.layers.Layer:
        """The layer whose computation this layer performs, on other weights."""
        return self.layer

    def build(self, *args, **kwargs):
        """Does nothing: the layer inside is built by `__init__`."""
        self.built = True

    def call(self, *args, training=False, **kwargs):
        trained = self._trained.values
        mapping = [
            (trained[name], function(ops.convert_to_tensor(trained[name]), training=bool(training)))
            for name, function in self.reparametrizations.items()
        ]
        with _Overlay(mapping) as overlay:
            outputs = self.layer(*args, **kwargs)
        overlay.pass_on(self)
        return outputs

    def start(self) -> None:
        """Sets the initial state of the functions from the weights' values."""
        for name, function in self.reparametrizations.items():
            function.start(ops.convert_to_numpy(self._trained.values[name]))

    def compute_mask(self, inputs, previous_mask=None):
        """The layer inside has already set the masks of its outputs."""
        return None

    def effective_weights(self) -> dict[str, Any]:
        """The values on which the layer runs in place of its own weights, by name, as tensors."""
        trained = self._trained.values
        return {
            name: function(ops.convert_to_tensor(trained[name]), training=False)
            for name, function in self.reparametrizations.items()
        }

    def get_config(self):
        return super().get_config() | {
            "weights": {name: serialize(function) for name, function in self.reparametrizations.items()},
            "build_config": self._inner_build_config,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        layer = keras.layers.deserialize(config.pop("layer"), custom_objects=custom_objects)
        weights = {name: deserialize(function) for name, function in config.pop("weights").items()}
        return cls(layer, weights, **config)


class _Untracked:
    """Hides variables from Keras, which would list them a second time as this layer's own."""

    def __init__(self, values: dict[str, Any]):
        self.values = values


class _Overlay(keras.StatelessScope):
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

    def pass_on(self, layer: keras.layers.Layer) -> None:
        """Applies outside of the scope what was assigned and added inside it."""
        for variable, value in self._updates.values():
            variable.assign(value)
        for loss in self.losses:
            layer.add_loss(loss)
