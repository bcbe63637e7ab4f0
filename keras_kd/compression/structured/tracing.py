"""Follows the channels of a model from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.compression.structured.channels import Channels
from keras_kd.compression.structured.elementwise import is_elementwise
from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.rules import rule_of
from keras_kd.compression.structured.visit import LayerTrace, Visit
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import all_layers, call_that_made, calls_of
from keras_kd.surgery.graph import check_graph, functional


class Trace:
    """The channels of a model, and what each layer does with them.

    The idea of a dependency graph of channels: G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.

    Args:
        model: a graph of layers; it is only read.

    Attributes:
        channels: all channels, and which of them are coupled.
        layers: what was recorded of each layer, by its `id`.
        inputs: the inputs of nested models: an `InputLayer` and its flow, by its `id`.

    Raises:
        ConfigurationError: a subclassed model, which has no graph.
    """

    def __init__(self, model: keras.Model):
        check_graph(model)
        self.channels = Channels()
        self.layers: dict[int, LayerTrace] = {}
        self.inputs: dict[int, tuple[Any, Flow]] = {}
        self._graphs: dict[int, keras.Model] = {}
        self._read: list[tuple[keras.Variable, str]] = []
        outputs = self._run(model, [Flow.fixed(tensor.shape) for tensor in model.inputs], "", 1)
        for flow in outputs:
            self.channels.fix(flow.ids, "an output of the model")
        self._keep_unfollowed()
        self._keep_shared_weights()

    def _run(self, model: keras.Model, inputs: Sequence[Flow], prefix: str, times: int | None) -> list[Flow]:
        """The outputs of a graph, from those that enter it."""
        graph = self._graphs.setdefault(id(model), functional(model))
        flows = {
            id(tensor): Flow(flow.ids, tuple(tensor.shape)) for tensor, flow in zip(graph.inputs, inputs, strict=True)
        }

        def flow_of(value: Any) -> Any:
            return flows[id(value)] if isinstance(value, keras.KerasTensor) else value

        for call in calls_of(graph):
            args, kwargs = keras.tree.map_structure(flow_of, (call.args, call.kwargs))
            read = [flows[id(tensor)] for tensor in call.inputs]
            shapes = [tuple(tensor.shape) for tensor in call.outputs]
            made = self._call(call.operation, f"{prefix}{call.operation.name}", read, args, kwargs, shapes, times)
            flows |= {id(tensor): flow for tensor, flow in zip(call.outputs, made, strict=True)}
        return [flows[id(tensor)] for tensor in graph.outputs]

    def _call(
        self, layer: Any, path: str, inputs: list, args: tuple, kwargs: dict, shapes: list, times: int | None
    ) -> list[Flow]:
        if is_graph(layer):
            return self._nested(layer, path, inputs, times)
        record = self.layers.setdefault(id(layer), LayerTrace(layer, path))
        visit = Visit(layer, record.path, inputs, args, kwargs, shapes, times, record, self.channels, inner=self._call)
        rule = rule_of(layer)
        values = keras.tree.flatten((args, kwargs))
        self._read += [(value, path) for value in values if isinstance(value, keras.Variable)]
        if rule is None:
            self._read += [(weight, path) for weight in getattr(layer, "weights", ())]
            return visit.stay(f"enters {path!r}, a {type(layer).__name__}, which cannot be followed")
        if isinstance(layer, keras.layers.Layer) and any(map(_is_changed, all_layers(layer))):
            return visit.stay(f"enters {path!r}, which is quantized or has LoRA weights")
        outputs = rule(visit)
        for name in ("activation", "recurrent_activation"):
            activation = getattr(layer, name, None)
            if callable(activation) and not is_elementwise(activation):
                visit.keep(outputs, f"the {name} of {path!r} joins channels")
        return outputs

    def _keep_unfollowed(self) -> None:
        """Keeps the channels of layers with a call that is not followed, and those of the layers inside them."""
        for record in self.layers.values():
            is_layer = isinstance(record.layer, keras.layers.Layer)
            for layer in all_layers(record.layer) if record.reason and is_layer else ():
                if id(layer) in self.layers:
                    self.keep(self.layers[id(layer)], record.reason)

    def _keep_shared_weights(self) -> None:
        """Keeps the channels of layers whose weights something reads that is not followed, as tied layers do."""
        reader = {id(weight): path for weight, path in self._read}
        owner: dict[int, LayerTrace] = {}
        for record in self.layers.values():
            for weight in getattr(record.layer, "weights", ()) if record.uses else ():
                if owner.setdefault(id(weight), record) is not record:
                    self.keep(record, f"shares a weight with {owner[id(weight)].path!r}")
                    self.keep(owner[id(weight)], f"shares a weight with {record.path!r}")
                elif id(weight) in reader:
                    self.keep(record, f"its weights are read by {reader[id(weight)]!r}")

    def keep(self, record: LayerTrace, reason: str) -> None:
        """Keeps all channels that the weights and the configuration of a layer follow."""
        for ids in record.ids():
            self.channels.fix(ids, reason)

    def _nested(self, model: keras.Model, path: str, inputs: list[Flow], times: int | None) -> list[Flow]:
        graph = self._graphs.setdefault(id(model), functional(model))
        for tensor, flow in zip(graph.inputs, inputs, strict=True):
            layer = call_that_made(tensor)[0].operation
            if id(layer) in self.inputs:
                self.channels.unite(self.inputs[id(layer)][1].ids, flow.ids, "enters a model that is shared")
            else:
                self.inputs[id(layer)] = layer, flow
        return self._run(model, inputs, f"{path}/", times)


def _is_changed(layer: keras.layers.Layer) -> bool:
    return bool(getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None))
