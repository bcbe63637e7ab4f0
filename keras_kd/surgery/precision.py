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
    """A model's copies in one precision: one with all folded that can be, and one for each set of inner layers that
    are asked for and that folding would have changed.

    Attributes:
        folding: what is folded where no such layer is asked for.
    """

    def __init__(self, model: keras.Model, precision: str, folding: Folding):
        self.folding = folding
        self._model, self._precision = model, precision
        self._made = {frozenset(): Copy(model, precision, folding)}

    def prepare(self, places: Iterable[Place]) -> None:
        """Makes the copy in which all of `places` are as in the model. It stays: a traced step may hold it."""
        read = self.folding.read(places)
        if read not in self._made:
            folding = self.folding.without(read, "a loss reads what enters it")
            self._made[read] = Copy(self._model, self._precision, folding)

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of all copies made so far."""
        return [variable for copy in self._made.values() for variable in copy.model.variables]

    def find(self, places: Iterable[Place]) -> Copy | None:
        """That copy, where it was prepared and has all of `places`."""
        copy = self._made.get(self.folding.read(places))
        return copy if copy and all(copy.operation(place.operation) is not None for place in places) else None


def make_copies(model: keras.Model, precision: str, *, fold: bool) -> Copies | None:
    """The copies of a teacher; None, and a `Notice` that says why, where it has to run as it is.

    Args:
        model: any Keras model; it is left as it is.
        precision: one of `PRECISIONS`.
        fold: whether to fold batch normalization.
    """
    folding = find_foldable(model)
    if not is_graph(model):
        return _say_as_it_is(model, f"a {type(model).__name__} is no graph of layers that could be built again")
    try:
        return Copies(model, precision, folding if fold else folding.without(folding.pairs, "fold=False"))
    except Exception as error:  # the layers are anybody's, and as it is the teacher is as right
        return _say_as_it_is(model, f"{type(error).__name__}: {error}")


def _say_as_it_is(model: keras.Model, reason: str) -> None:
    message = f"The teacher {model.name!r} runs as it is, nothing folded and in its own precision: {reason}."
    warnings.warn(message, Notice, stacklevel=4)


class Copy:
    """A plain model built again, layer by layer under the same names: its own weights, precision and folding.

    Args:
        model: a Functional or Sequential model; it is left as it is.
        precision: one of `PRECISIONS`.
        folding: which batch normalizations to fold; an identity takes the place of each.

    Raises:
        TypeError, ValueError, NotImplementedError: a layer that cannot be made again from its configuration.

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
        """What stands for a layer or an operation of the original; None if nothing does."""
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
        """Norms keep weights of float32 (they compute in it anyway), and so does whatever makes the outputs."""
        if self._precision == "float32":
            return "float32"
        kind = type(operation).__module__
        if id(operation) in self._heads:
            return "float32"
        if ".layers.preprocessing." in kind:  # what comes in may be large numbers that differ little
            return None
        return "mixed_bfloat16" if ".layers.normalization." in kind else "bfloat16"

    def _fill(self, original: keras.layers.Layer, copy: keras.layers.Layer) -> None:
        if id(original) in self._norm_into:
            copy.set_weights([w.astype("float32") for w in folded_weights(original, self._norm_into[id(original)])])
        elif id(original) not in self._folded:
            copy_state(original, copy)


class _Folded(layers.Layer):
    """In the place of a batch normalization, and called as one: gives what it is given."""

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
    """A layer's configuration, those inside it too, with `policy` for every plain floating-point one."""
    if policy is None:
        return config
    if isinstance(config, (list, tuple)):
        return type(config)(_with_policy(value, policy) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in _FLOATING:
        return keras.dtype_policies.serialize(keras.DTypePolicy(policy))
    return {key: _with_policy(value, policy) for key, value in config.items()}
