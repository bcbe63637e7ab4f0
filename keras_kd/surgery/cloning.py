"""Rebuilds a model layer by layer, with replacements."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import is_graph
from keras_kd.features.paths import find_place, layers_by_path
from keras_kd.keras_private import call_that_made, calls_of, copy_operation, inner_layers, set_trainable_flag
from keras_kd.surgery.graph import check_graph, functional
from keras_kd.surgery.sharing import WeightPair, check_lambda, check_shared_weights, counterpart_of_variable
from keras_kd.surgery.weights import carry_weights, copy_own_state, copy_state, own_weights
from keras_kd.surgery.wrappers import copy_around, held_layers, in_one_line

Replace = Callable[[keras.layers.Layer], keras.layers.Layer | None]
Transfer = Callable[[keras.layers.Layer, keras.layers.Layer], None]
Insert = Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]


def clone(
    model: keras.Model,
    replace: Replace | Mapping[str, keras.layers.Layer] | None = None,
    *,
    transfer: Transfer = carry_weights,
    inputs: Replace | None = None,
    insert: Insert | None = None,
    remove: Callable[[keras.layers.Layer], bool] | None = None,
) -> keras.Model:
    """A copy of a model in which some layers are others; the model itself is not changed.

    The copy has the model's names, structure of inputs and outputs, weights, trainable flags and dtype policies, and is
    not compiled. A layer that runs several times, in several nested models or inside a wrapper has one counterpart. A
    replacement takes over the name of its layer and keeps its own trainable flag. A subclass of `keras.Model` stays one
    if its `__init__` takes `inputs` and `outputs` first; otherwise the copy is a plain Functional model.

    Args:
        model: a Functional or Sequential model, with models nested to any depth.
        replace: a function from a layer to its replacement (None copies the layer), or the replacements by path as in
            `kd.taps`. A nested model or a wrapper is passed to it first as a whole; with None its layers are. The
            layers that a wrapper's configuration describes are passed too: those of `TimeDistributed`,
            `Bidirectional`, `RNN`, `StackedRNNCells` and of custom layers alike. Layers that a layer makes for itself
            (in `MultiHeadAttention`, `LSTM`, subclassed models), inputs and bare `keras.ops` operations are not.
        transfer: called with each replaced layer and its replacement once both are built. The default gives the
            replacement the weights of the same names and shapes.
        inputs: a function from an `InputLayer` to its replacement, as a nested model needs when what enters it has
            another shape; with None it is copied.
        insert: called with each tensor of the model, inputs included, and its counterpart in the copy; returns the
            tensor that is read instead of it. In a Sequential model, it may add layers without further arguments.
        remove: whether a layer of one input and one output is left out, so that its readers read its input.

    Raises:
        ConfigurationError: a subclassed model, a layer that its configuration does not rebuild, weights that the copy
            would share with the model or no longer share within itself, an unknown path, or a replacement that does not
            fit.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="head")])
    >>> copy = clone(model, {"head": keras.layers.Dense(2, activation="softmax")})
    >>> copy.layers[0].name, bool((copy.get_weights()[0] == model.get_weights()[0]).all())
    ('head', True)
    """
    check_graph(model)
    if replace is not None and not isinstance(replace, Mapping) and not callable(replace):
        expected = "a function from a layer to its replacement, or a mapping of replacements by path"
        raise ConfigurationError(explain("Invalid 'replace'.", received=repr(replace), expected=expected))
    if not callable(transfer):
        expected = "a function of a replaced layer and its replacement"
        raise ConfigurationError(explain("Invalid 'transfer'.", received=repr(transfer), expected=expected))
    function = _by_path(model, replace) if isinstance(replace, Mapping) else replace or (lambda layer: None)
    made = Clone(model, function, transfer, inputs=inputs, insert=insert, remove=remove)
    if isinstance(replace, Mapping):
        _check_used(model, replace, made)
    return made.model


class Clone:
    """A copy of a model, with the counterpart of each part of the original.

    Args:
        model: a graph of layers.
        replace: from a layer or nested model to its replacement, or None.
        transfer: fills each replacement.
        as_functional: whether Sequential models become Functional ones, which leave the dtype of their inputs alone.
        inputs: from an `InputLayer` to its replacement, or None.
        insert, remove: as in `clone`.

    Attributes:
        model: the copy.
    """

    def __init__(
        self,
        model: keras.Model,
        replace: Replace,
        transfer: Transfer,
        *,
        as_functional: bool = False,
        inputs: Replace | None = None,
        insert: Insert | None = None,
        remove: Callable[[keras.layers.Layer], bool] | None = None,
    ):
        self._replace, self._as_functional = replace, as_functional
        self._replace_input = inputs or (lambda layer: None)
        self._inserts, self._insert = insert is not None, insert or (lambda tensor, copy: copy)
        self._remove = remove or (lambda layer: False)
        self._pairs: dict[int, tuple[Any, Any]] = {}
        self._replaced: set[int] = set()
        self._wrappers: set[int] = set()
        self._layers = {id(layer) for layer in layers_by_path(model).values()}
        self.model = self._graph(model)
        for original, copy in tuple(self._pairs.values()):
            self._fill(original, copy, transfer)
        check_shared_weights(self._copied())

    def counterpart(self, original: Any) -> Any:
        """The counterpart of a layer, model or operation of the original; None if it has none."""
        return self._pairs.get(id(original), (None, None))[1]

    def _copied(self) -> Iterator[WeightPair]:
        """Each weight of a layer that was not replaced, with its copy."""
        for key, (original, copy) in self._pairs.items():
            if isinstance(original, keras.layers.Layer) and key not in self._replaced and not is_graph(original):
                weights_of = own_weights if key in self._wrappers else attrgetter("weights")
                for weight, other in zip(weights_of(original), weights_of(copy), strict=False):
                    yield original, weight, other

    def _remember(self, original: Any, copy: Any) -> Any:
        self._pairs[id(original)] = original, copy
        return copy

    def _graph(self, model: keras.Model) -> keras.Model:
        is_sequential = isinstance(model, keras.Sequential) and not self._as_functional
        copy = self._sequential(model) if is_sequential else self._functional(functional(model), _class_of(model))
        set_trainable_flag(copy, model.trainable)
        if not self._as_functional and copy.dtype_policy.name != model.dtype_policy.name:
            copy.dtype_policy = model.dtype_policy
        return self._remember(model, copy)

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        layers = [self._input(model.inputs[0])]
        layers += self._inserted_layers(model.inputs[0], layers[0].output)
        for call in calls_of(functional(model)):
            if not self._remove(call.operation):
                layers.append(self._operation(call.operation))
                layers += self._inserted_layers(call.outputs[0], call.outputs[0])
        return keras.Sequential(layers, name=model.name)

    def _inserted_layers(self, tensor: keras.KerasTensor, copy: keras.KerasTensor) -> list[keras.layers.Layer]:
        """The layers that `insert` adds after a tensor, found by running it on a symbolic tensor of its own."""
        if not self._inserts:
            return []
        start = keras.Input(batch_shape=copy.shape, dtype=copy.dtype)
        end, layers = self._insert(tensor, start), []
        while end is not start:
            call, _ = call_that_made(end)
            layers.insert(0, call.operation)
            (end,) = call.inputs
        return layers

    def _functional(self, graph: keras.Model, kind: type) -> keras.Model:
        entries = {id(tensor): self._input(tensor).output for tensor in graph.inputs}
        tensors = {id(tensor): self._insert(tensor, entries[id(tensor)]) for tensor in graph.inputs}

        def copied(value: Any) -> Any:
            if isinstance(value, keras.Variable):
                return counterpart_of_variable(value, self._copied())
            return tensors[id(value)] if isinstance(value, keras.KerasTensor) else value

        for call in calls_of(graph):
            if self._remove(call.operation):
                tensors[id(call.outputs[0])] = tensors[id(call.inputs[0])]
                continue
            args, kwargs = keras.tree.map_structure(copied, (call.args, call.kwargs))
            outputs = self._call(call.operation, args, kwargs)
            if len(outputs) != len(call.outputs):
                raise _wrong_replacement(call.operation, f"{len(outputs)} outputs", f"{len(call.outputs)}")
            tensors |= {
                id(tensor): self._insert(tensor, output) for tensor, output in zip(call.outputs, outputs, strict=True)
            }
        inputs = keras.tree.map_structure(lambda tensor: entries[id(tensor)], graph.input)
        return kind(inputs, keras.tree.map_structure(copied, graph.output), name=graph.name)

    def _call(self, original: Any, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
        copy = self._operation(original)
        is_replaced = id(original) in self._replaced
        if is_replaced:  # which need not know a mask or training that was not given
            kwargs = {name: value for name, value in kwargs.items() if value is not None}
        try:
            return keras.tree.flatten(copy(*args, **kwargs))
        except Exception as error:  # layers may be custom classes
            if is_replaced:
                received = f"a {type(copy).__name__} that raised {in_one_line(error)}"
                raise _wrong_replacement(original, received, _called_as(args, kwargs)) from error
            if self._replaced:
                raise _no_longer_fits(original, in_one_line(error)) from error
            raise

    def _input(self, tensor: keras.KerasTensor) -> keras.layers.InputLayer:
        original = call_that_made(tensor)[0].operation
        if self.counterpart(original) is None:
            replacement = self._replace_input(original)
            copy = type(original).from_config(original.get_config()) if replacement is None else replacement
            self._remember(original, copy)
        return self.counterpart(original)

    def _operation(self, original: Any) -> Any:
        copy = self.counterpart(original)
        return self._remember(original, self._make(original)) if copy is None else copy

    def _make(self, original: Any) -> Any:
        if not isinstance(original, keras.layers.Layer):
            return copy_operation(original)
        replacement = self._replace(original)
        if replacement is not None:
            return self._checked(original, replacement)
        if is_graph(original):
            return self._graph(original)
        check_lambda(original)
        held = held_layers(original)
        if not held:
            return copy_layer(original)
        self._wrappers.add(id(original))
        return copy_around(original, [(inner, self._operation(inner)) for inner in held])

    def _checked(self, original: Any, replacement: Any) -> Any:
        if not isinstance(replacement, keras.layers.Layer):
            raise _wrong_replacement(original, repr(replacement), "a keras.layers.Layer, or None for a copy")
        if id(replacement) in self._layers:
            raise _wrong_replacement(original, "a layer of the model itself", "a new layer, or None for a copy")
        if any(replacement is copy for _, copy in self._pairs.values()):
            raise _wrong_replacement(original, "the replacement of another layer", "a layer of its own")
        if replacement.name != original.name:
            replacement.name = original.name
        self._replaced.add(id(original))
        return replacement

    def _fill(self, original: Any, copy: Any, transfer: Transfer) -> None:
        if not isinstance(original, keras.layers.Layer) or isinstance(original, keras.layers.InputLayer):
            return
        if id(original) in self._replaced:
            transfer(original, copy)
        elif not is_graph(original):
            self._copy_state(original, copy)
            self._fill_own_layers(original, copy)
        if not is_graph(original) and id(original) not in self._wrappers:
            inside = layers_by_path(copy)
            for path, layer in layers_by_path(original).items():
                if path in inside and self.counterpart(layer) is None:
                    self._remember(layer, inside[path])

    def _fill_own_layers(self, original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
        """Copies the state of layers that a wrapper makes for itself, beside those that its configuration describes."""
        if id(original) not in self._wrappers:
            return
        places, direct = layers_by_path(copy), {id(layer) for layer in inner_layers(original)}
        for path, layer in layers_by_path(original).items():
            if id(layer) not in direct or self.counterpart(layer) is not None:
                continue
            if path not in places:
                raise _no_longer_fits(original, f"no layer {path!r} inside the copy")
            self._remember(layer, places[path])
            copy_state(layer, places[path])

    def _copy_state(self, original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
        shapes, others = ([tuple(weight.shape) for weight in layer.weights] for layer in (original, copy))
        if self._replaced and shapes != others and id(original) not in self._wrappers:
            raise _no_longer_fits(original, f"weights of shape {others} instead of {shapes}")
        (copy_own_state if id(original) in self._wrappers else copy_state)(original, copy)


def copy_layer(layer: keras.layers.Layer, config: dict[str, Any] | None = None) -> keras.layers.Layer:
    """A layer from the configuration of another, or from a changed one, with fresh weights.

    Raises:
        ConfigurationError: it cannot be made from its configuration.
    """
    try:
        config = layer.get_config() if config is None else config
        if isinstance(layer, keras.layers.Lambda):  # the function is in memory, it does not come from a file
            return type(layer).from_config(config, safe_mode=False)
        return type(layer).from_config(config)
    except Exception as error:  # layers may be custom classes
        raise ConfigurationError(
            explain(
                f"The configuration of layer {layer.name!r} does not rebuild it.",
                received=in_one_line(error),
                expected=f"{type(layer).__name__}.get_config and from_config that rebuild the layer",
                fix="Implement them, or pass a replacement for this layer.",
            )
        ) from error


def _class_of(model: keras.Model) -> type:
    parameters = list(inspect.signature(type(model).__init__).parameters)
    is_functional = not isinstance(model, keras.Sequential) and parameters[1:3] == ["inputs", "outputs"]
    return type(model) if is_functional else keras.Model


def _by_path(model: keras.Model, replacements: Mapping[str, keras.layers.Layer]) -> Replace:
    for path, layer in replacements.items():
        if not isinstance(layer, keras.layers.Layer):
            raise _wrong_replacement(find_place(model, path).operation, repr(layer), "a keras.layers.Layer")
    by_operation = {id(find_place(model, path).operation): layer for path, layer in replacements.items()}
    return lambda layer: by_operation.get(id(layer))


def _check_used(model: keras.Model, replacements: Mapping[str, keras.layers.Layer], made: Clone) -> None:
    unused = [
        path for path, layer in replacements.items() if made.counterpart(find_place(model, path).operation) is not layer
    ]
    if unused:
        raise ConfigurationError(
            explain(
                "The layer around this one makes it for itself, so it cannot be replaced alone.",
                received=", ".join(map(repr, unused)),
                expected="the path of a layer in the graph, or of one in a wrapper's configuration",
                fix="Replace the layer or model around it.",
            )
        )


def _no_longer_fits(original: Any, received: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"{original.name!r} does not fit the replacements before or inside it.",
            received=received,
            expected="replacements that can be called as their layers are, with the same output shapes",
            fix="Replace this layer as well, with transfer=function to fill it.",
        )
    )


def _called_as(args: tuple, kwargs: dict[str, Any]) -> str:
    """
    >>> _called_as((keras.KerasTensor((None, 3)),), {"training": True})
    'a layer that can be called with ((None, 3), training=True)'
    """
    values = [str(tuple(getattr(value, "shape", ("...",)))) for value in keras.tree.flatten(args)]
    named = [
        f"{name}={value if isinstance(value, (bool, int, float, str)) else '...'}" for name, value in kwargs.items()
    ]
    return f"a layer that can be called with ({', '.join([*values, *named])})"


def _wrong_replacement(original: Any, received: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        explain(f"The replacement of {original.name!r} does not fit.", received=received, expected=expected)
    )
