"""A copy of a model in another precision and with its batch normalization folded."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from keras_kd.errors import Notice
from keras_kd.features import Head, Place
from keras_kd.features.outputs import is_graph
from keras_kd.keras_private import call_that_made
from keras_kd.surgery.cloning import Clone, copy_layer
from keras_kd.surgery.folding import Folding, find_foldable, folded_weights
from keras_kd.surgery.weights import copy_state

PRECISIONS = ("float32", "bfloat16")
_FLOATING = ("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16")


class Copies:
    """A model's copies in one precision: one that is folded completely, and one for each set of captured inner layers
    that folding would change.

    Attributes:
        folding: what is folded if no such layer is captured.
    """

    def __init__(self, model: keras.Model, precision: str, folding: Folding):
        self.folding = folding
        self._model, self._precision = model, precision
        self._made = {frozenset(): Copy(model, precision, folding)}

    def prepare(self, places: Iterable[Place]) -> None:
        """Creates the copy in which all of `places` are as in the model. It is kept, since a traced step may use it."""
        read = self.folding.read(places)
        if read not in self._made:
            folding = self.folding.without(read, "a loss reads what enters it")
            self._made[read] = Copy(self._model, self._precision, folding)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all copies so far."""
        return [variable for copy in self._made.values() for variable in copy.model.variables]

    def find(self, places: Iterable[Place]) -> Copy | None:
        """The copy that `prepare` made for these places; None if it lacks one of them."""
        copy = self._made.get(self.folding.read(places))
        return copy if copy and all(copy.operation(place.operation) is not None for place in places) else None


def make_copies(model: keras.Model, precision: str, *, fold: bool) -> Copies | None:
    """The copies of a teacher; None and a `Notice` with the reason if it must run unchanged.

    Args:
        model: any Keras model; it is not changed.
        precision: one of `PRECISIONS`.
        fold: whether to fold batch normalization.
    """
    folding = find_foldable(model)
    if not is_graph(model):
        return _say_as_it_is(model, f"a {type(model).__name__} is no graph of layers that could be built again")
    try:
        return Copies(model, precision, folding if fold else folding.without(folding.pairs, "fold=False"))
    except Exception as error:  # layers may be custom classes, and the original gives the same outputs
        return _say_as_it_is(model, f"{type(error).__name__}: {error}")


def _say_as_it_is(model: keras.Model, reason: str) -> None:
    message = f"The teacher {model.name!r} runs as it is, nothing folded and in its own precision: {reason}."
    warnings.warn(message, Notice, stacklevel=4)


class Copy:
    """A model rebuilt layer by layer under the same names, with its own weights, precision and folding.

    Args:
        model: a Functional or Sequential model; it is not changed.
        precision: one of `PRECISIONS`.
        folding: which batch normalizations to fold; an identity takes the place of each.

    Raises:
        ConfigurationError: a layer that its configuration does not rebuild.

    Attributes:
        model: the copy, not compiled.
    """

    def __init__(self, model: keras.Model, precision: str, folding: Folding):
        self._precision = precision
        self._norm_into = {id(layer): norm for layer, norm in folding.pairs.values()}
        self._folded = {id(norm) for _, norm in folding.pairs.values()}
        self._heads = _heads(model)
        self._clone = Clone(model, self._replacement, self._fill, as_functional=True)
        self.model = self._clone.model

    def operation(self, original: Any) -> Any:
        """The counterpart of a layer or an operation of the original; None if it has none."""
        return self._clone.counterpart(original)

    def heads(self, heads: dict[str, Head]) -> dict[str, Head]:
        """The heads of the original in the copy."""
        return {name: dataclasses.replace(h, operation=self.operation(h.operation)) for name, h in heads.items()}

    def places(self, places: Iterable[Place]) -> list[Place]:
        """Places in the original, in the copy."""
        return [dataclasses.replace(place, operation=self.operation(place.operation)) for place in places]

    def _replacement(self, original: keras.layers.Layer) -> keras.layers.Layer | None:
        if is_graph(original):
            return None
        policy = self._policy(original)
        if id(original) in self._folded:
            return _Folded(name=original.name, dtype=policy)
        config = _with_policy(original.get_config(), policy)
        if id(original) in self._norm_into:
            config["use_bias"] = True
        return copy_layer(original, config)

    def _policy(self, operation: Any) -> str | None:
        """The policy of a layer. Norms keep float32 weights (they compute in float32), and so do the output layers."""
        if self._precision == "float32":
            return "float32"
        kind = type(operation).__module__
        if id(operation) in self._heads:
            return "float32"
        if ".layers.preprocessing." in kind:  # inputs may be large numbers with small differences
            return None
        return "mixed_bfloat16" if ".layers.normalization." in kind else "bfloat16"

    def _fill(self, original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
        if id(original) in self._norm_into:
            copy.set_weights([w.astype("float32") for w in folded_weights(original, self._norm_into[id(original)])])
        elif id(original) not in self._folded:
            copy_state(original, copy)


class _Folded(layers.Layer):
    """Takes the place of a folded batch normalization and returns its input."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.supports_masking = True
        self.built = True

    def call(self, inputs, training=None, mask=None):
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


def _heads(model: keras.Model) -> set[int]:
    """The layers that make the outputs: from each output back to the first that has weights or several inputs."""
    found = set()
    waiting = list(model.outputs)
    while waiting:
        tensor = waiting.pop()
        call, tensor_index = call_that_made(tensor)
        operation, inputs = call.operation, call.inputs
        if is_graph(operation):
            waiting.append(operation.outputs[tensor_index])
            continue
        found.add(id(operation))
        if len(inputs) == 1 and not getattr(operation, "weights", None):
            waiting.append(inputs[0])
    return found


def _with_policy(config: Any, policy: str | None) -> Any:
    """A layer's configuration, including inner layers, with `policy` for every plain floating-point policy."""
    if policy is None:
        return config
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, policy) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in _FLOATING:
        return keras.dtype_policies.serialize(keras.DTypePolicy(policy))
    return {key: _with_policy(value, policy) for key, value in config.items()}
