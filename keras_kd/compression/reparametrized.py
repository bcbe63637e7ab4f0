"""A layer that runs on weights computed from its trained ones: pruned, clustered, quantized."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.compression.inside import ITSELF, Inside
from keras_kd.compression.weight_functions import WeightFunction
from keras_kd.features.paths import layers_by_path
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.surgery.overlay import Overlay
from keras_kd.surgery.weights import weights_by_name
from keras_kd.untracked import Untracked


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
        inside: what changes the computation of the layer (`"."`) or of layers inside it, by path.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        weights: Mapping[str, WeightFunction],
        build_config: Mapping[str, Any] | None = None,
        inside: Mapping[str, Inside] | None = None,
        **settings: Any,
    ):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, "autocast": False} | settings)
        self._inner_build_config = build_config or layer.get_build_config()
        if not layer.built:
            layer.build_from_config(self._inner_build_config)
        self.reparametrizations = {name: weights[name] for name in sorted(weights)}
        self._trained = Untracked(weights_by_name(layer))
        for name, function in self.reparametrizations.items():
            if not function.built:
                function.build(tuple(self._trained.value[name].shape))
        self.inside = dict(inside or {})
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
        trained = self._trained.value
        mapping = [
            (trained[name], function(ops.convert_to_tensor(trained[name]), training=bool(training)))
            for name, function in self.reparametrizations.items()
        ]
        with self._running(training), Overlay(mapping) as overlay:
            outputs = self.layer(*args, **kwargs)
        overlay.pass_on(self)
        return outputs

    @contextlib.contextmanager
    def _running(self, training: bool) -> Iterator[None]:
        """A context in which `inside` changes the computation of the layer and of those inside it."""
        owners = {ITSELF: self.layer, **(layers_by_path(self.layer) if self.inside else {})}
        with contextlib.ExitStack() as stack:
            for path, inside in self.inside.items():
                stack.enter_context(inside.around(owners[path], training=bool(training)))
            yield

    def compute_output_spec(self, *args, training=False, **kwargs):
        """That of the layer, which need not be traced if it knows its shape, as `TimeDistributed` cannot be on JAX."""
        return self.layer.compute_output_spec(*args, **kwargs)

    def start(self) -> None:
        """Sets the initial state of the functions from the weights' values."""
        for name, function in self.reparametrizations.items():
            function.start(ops.convert_to_numpy(self._trained.value[name]))

    def compute_mask(self, inputs, previous_mask=None):
        """The layer inside has already set the masks of its outputs."""
        return None

    def effective_weights(self) -> dict[str, Any]:
        """The values on which the layer runs in place of its own weights, by name, as tensors."""
        trained = self._trained.value
        return {
            name: function(ops.convert_to_tensor(trained[name]), training=False)
            for name, function in self.reparametrizations.items()
        }

    def get_config(self):
        return super().get_config() | {
            "weights": {name: serialize(function) for name, function in self.reparametrizations.items()},
            "build_config": self._inner_build_config,
            "inside": {path: serialize(inside) for path, inside in self.inside.items()},
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        layer = keras.layers.deserialize(config.pop("layer"), custom_objects=custom_objects)
        weights = {name: deserialize(function) for name, function in config.pop("weights").items()}
        inside = {path: deserialize(value) for path, value in config.pop("inside", {}).items()}
        return cls(layer, weights, inside=inside, **config)
