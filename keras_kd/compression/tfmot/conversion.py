"""Models of Keras 3 as models of `tf_keras`, and the weights back."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import ops

from keras_kd.compression.stripping import check_model, check_plain
from keras_kd.compression.tfmot.importing import import_tf_keras
from keras_kd.compression.tfmot.operations import call_operation
from keras_kd.compression.tfmot.settings import legacy_layer
from keras_kd.compression.tfmot.weights import check_stripped, finalize, layers_with_weights, weight_pairs
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import Call, call_that_made, calls_of, keras_mask
from keras_kd.surgery import clone, read_graph
from keras_kd.surgery.graph import functional
from keras_kd.surgery.wrappers import in_one_line


def to_tf_keras(model: keras.Model) -> Any:
    """A model of `tf_keras`, the Keras 2 that TFMOT takes, with the architecture, names and weights of a Keras 3 model.

    Weights are bit-equal, trainable flags and dtype policies are kept, layers that are shared stay shared. On
    TensorFlow outputs are bit-equal as well, except for float noise of `BatchNormalization`, `LayerNormalization`,
    `GroupNormalization` and `UnitNormalization`, of `gelu` and `hard_sigmoid`, and of a division by a number.
    `MultiHeadAttention` differs at query positions that may attend to no key. The model is not compiled.

    In training, `tf_keras` updates the moving variance of convolutions' BatchNormalization with the unbiased variance,
    `n / (n - 1)` times that of Keras 3.

    Args:
        model: a Functional or Sequential model, with models nested to any depth; it is not changed.

    Returns:
        A `tf_keras.Model`, or a `tf_keras.Sequential` for a Sequential model.

    Raises:
        ConfigurationError: a layer, an operation or a setting without a counterpart, a subclassed model, one that is
            compressed already.
    """
    check_plain(model)
    graph = read_graph(model)
    made = _Legacy(model)
    for node in graph:
        if isinstance(node.operation, keras.layers.Layer) and not is_graph(node.operation):
            _fill(node.path, node.operation, made.counterpart(node.operation))
    _check_sharing(model, made.model)
    return made.model


def from_tf_keras(legacy: Any, *, like: keras.Model) -> keras.Model:
    """A copy of a Keras 3 model with the weights of a model of `tf_keras`, bit-equal.

        legacy = tfmot.sparsity.keras.prune_low_magnitude(kd.compression.to_tf_keras(model), ...)
        ...                                             # train it with tf_keras
        pruned = kd.compression.from_tf_keras(tfmot.sparsity.keras.strip_pruning(legacy), like=model)

    Layers correspond by path: their names, and those of the models around them.

    Args:
        legacy: a `tf_keras.Model`, made by `to_tf_keras` and trained or changed by TFMOT, then stripped.
        like: the Keras 3 model that says what the result looks like; it is not changed.

    Raises:
        ConfigurationError: a model still wrapped by TFMOT, or layers and weights that do not correspond.
    """
    check_model(like)
    if not isinstance(legacy, import_tf_keras().Model):
        raise ConfigurationError(
            explain("Only a model of tf_keras can be converted.", received=repr(legacy), expected="a tf_keras.Model")
        )
    check_stripped(legacy)
    model = clone(like)
    theirs = layers_with_weights(legacy)
    ours = {
        node.path: node.operation
        for node in read_graph(model)
        if isinstance(node.operation, keras.layers.Layer) and not is_graph(node.operation) and node.operation.weights
    }
    if ours.keys() != theirs.keys():
        raise ConfigurationError(
            explain(
                f"The layers of {legacy.name!r} are not those of {like.name!r}.",
                received=f"layers with weights that only the tf_keras model has: {_listed(theirs, ours)}; "
                f"that only 'like' has: {_listed(ours, theirs)}",
                expected="layers of the same names",
                fix="Pass as 'like' the model that to_tf_keras was called with.",
            )
        )
    for path, layer in ours.items():
        for weight, variable in weight_pairs(path, layer, theirs[path]):
            weight.assign(variable.numpy())
        finalize(layer)
    return model


class _Legacy:
    """The counterpart in `tf_keras` of each part of a model."""

    def __init__(self, model: keras.Model):
        self._keras = import_tf_keras()
        self._made: dict[int, tuple[Any, Any]] = {}
        self.model = self._graph(model)

    def counterpart(self, original: Any) -> Any:
        return self._made[id(original)][1]

    def _operation(self, original: Any) -> Any:
        if id(original) not in self._made:
            copy = self._graph(original) if is_graph(original) else legacy_layer(original)
            self._made[id(original)] = original, copy
        return self._made[id(original)][1]

    def _graph(self, model: keras.Model) -> Any:
        if isinstance(model, keras.Sequential):
            copy = self._sequential(model)
        else:
            copy = self._functional(functional(model))
        if not model.trainable:
            copy.trainable = False
        return copy

    def _sequential(self, model: keras.Sequential) -> Any:
        # InputLayer takes a batch shape under this name only.
        start = model.inputs[0]
        entry = self._keras.layers.InputLayer(
            batch_input_shape=tuple(start.shape), dtype=start.dtype, name=call_that_made(start)[0].operation.name
        )
        copy = self._keras.Sequential([entry], name=model.name)
        for layer in model.layers:
            self._guarded(layer, lambda layer=layer: copy.add(self._operation(layer)))
        return copy

    def _functional(self, graph: keras.Model) -> Any:
        tensors = {id(tensor): self._input(tensor) for tensor in graph.inputs}
        waiting: dict[int, Call] = {}

        def legacy(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            if id(value) not in tensors:
                call = waiting[id(value)]
                tensors[id(value)] = self._guarded(call.operation, lambda: call_operation(call, legacy))
            return tensors[id(value)]

        for call in calls_of(graph):
            if isinstance(call.operation, keras.layers.Layer):
                outputs = keras.tree.flatten(self._call(call, legacy))
                tensors |= {id(tensor): output for tensor, output in zip(call.outputs, outputs, strict=True)}
            else:  # run when it is read: those that compute masks are not, since tf_keras passes masks on by itself
                waiting |= {id(tensor): call for tensor in call.outputs}
        inputs, outputs = (keras.tree.map_structure(legacy, structure) for structure in (graph.input, graph.output))
        return self._keras.Model(inputs, outputs, name=graph.name)

    def _input(self, tensor: keras.KerasTensor) -> Any:
        entry = call_that_made(tensor)[0].operation
        if tensor.sparse:
            raise ConfigurationError(explain(f"Input {entry.name!r} is sparse.", expected="a dense input"))
        return self._keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=entry.name)

    def _call(self, call: Call, legacy: Any) -> Any:
        masks = {id(mask) for tensor in call.inputs if (mask := keras_mask(tensor)) is not None}
        given = {name: value for name, value in call.kwargs.items() if value is not None and id(value) not in masks}
        args, kwargs = keras.tree.map_structure(legacy, (call.args, given))
        layer = self._operation(call.operation)
        for tensor in call.inputs if _reads_masks(call.operation) else ():
            if id(tensor) not in masks and _passes_mask(call, tensor) != (keras_mask(legacy(tensor)) is not None):
                raise _other_masks(call.operation)
        return self._guarded(call.operation, lambda: layer(*args, **kwargs))

    def _guarded(self, operation: Any, run: Any) -> Any:
        try:
            return run()
        except ConfigurationError:
            raise
        except Exception as error:  # tf_keras raises many kinds
            raise ConfigurationError(
                explain(
                    f"tf_keras cannot run {operation.name!r}, a {type(operation).__name__}.",
                    received=in_one_line(error),
                    expected="a layer and arguments that tf_keras has as well",
                )
            ) from error


def _reads_masks(layer: keras.layers.Layer) -> bool:
    """Whether the result of a layer depends on the masks of its inputs."""
    return any(name.endswith("mask") for name in inspect.signature(layer.call).parameters)


def _passes_mask(call: Call, tensor: keras.KerasTensor) -> bool:
    """Whether Keras 3 passes a layer the mask of an input; it does not to a recurrent layer with an initial state."""
    mask = keras_mask(tensor)
    if mask is None or "mask" not in inspect.signature(call.operation.call).parameters:
        return mask is not None  # attention reads it off the tensor
    return any(value is mask for value in keras.tree.flatten((call.args, call.kwargs)))


def _other_masks(layer: keras.layers.Layer) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"Layer {layer.name!r} would run with another mask in tf_keras.",
            received="inputs whose masks are passed on in one of Keras 3 and tf_keras only",
            expected="masks that reach the layer in both",
            fix="Use keras.layers.Add for +; pass mask=... to a recurrent layer with an initial state.",
        )
    )


def _fill(path: str, layer: keras.layers.Layer, legacy: Any) -> None:
    if legacy.trainable != layer.trainable:  # that of a model is set for all layers inside
        legacy.trainable = layer.trainable
    trainable = {id(weight) for weight in layer.trainable_weights}
    pairs = weight_pairs(path, layer, legacy)
    for weight, variable in pairs:
        variable.assign(ops.convert_to_numpy(weight))
    finalize(legacy)
    theirs = {id(variable) for variable in legacy.trainable_weights}
    if [id(weight) in trainable for weight, _ in pairs] != [id(variable) in theirs for _, variable in pairs]:
        raise ConfigurationError(
            explain(
                f"Layer {path!r} is frozen in parts.",
                received=f"trainable: {', '.join(weight.path for weight in layer.trainable_weights) or 'nothing'}",
                expected="a layer that is frozen or trained as a whole",
                fix="Set layer.trainable, not that of the layers inside it.",
            )
        )


def _check_sharing(model: keras.Model, legacy: Any) -> None:
    ours, theirs = ({id(weight) for weight in one.weights} for one in (model, legacy))
    if len(ours) != len(theirs):
        raise ConfigurationError(
            explain(
                f"{model.name!r} shares weights in a way that tf_keras cannot.",
                received=f"{len(ours)} weights, which would become {len(theirs)}",
                expected="layers that are shared as a whole, and not both inside and outside of a wrapper",
            )
        )


def _listed(ones: Any, others: Any) -> str:
    return ", ".join(map(repr, sorted(ones.keys() - others.keys()))) or "none"
