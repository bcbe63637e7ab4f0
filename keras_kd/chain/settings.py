"""The settings that all trainings of a chain share; each training gets new objects made from them."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_kd.features import find_heads
from keras_kd.files import digest_of_arrays
from keras_kd.losses import DistillationLoss
from keras_kd.serialization import deserialize, serialize


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that all trainings of a chain share."""

    optimizer: Any
    loss: Any
    metrics: Any
    compile: dict[str, Any]
    alpha: Any
    temperature: Any
    losses: Any
    guidance: str
    drop: float
    batch_size: int | None
    seed: int

    def compiled(self, student: keras.Model) -> dict[str, Any]:
        """The arguments of `compile`, as new objects."""
        loss = self.loss
        if loss is None:
            is_logits = all(head.is_logits for head in find_heads(student).values())
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)
        metrics = list(self.metrics) if isinstance(self.metrics, tuple) else self.metrics
        return {
            "optimizer": _new_optimizer(self.optimizer),
            "loss": keras.tree.map_structure(copy_of, loss),
            "metrics": keras.tree.map_structure(copy_of, metrics),
            **self.compile,
        }

    def new_losses(self) -> list[Any] | None:
        """The distillation terms; those that may have weights as new objects."""
        losses = self.losses if isinstance(self.losses, (list, tuple)) else [self.losses]
        new = [_new_loss(loss) if isinstance(loss, DistillationLoss) else loss for loss in losses]
        return None if self.losses is None else new

    def described(self) -> dict[str, Any]:
        """The settings by name, for a hash."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "optimizer": _new_optimizer(self.optimizer)
        }


def copy_of(value: Any) -> Any:
    """A new object with the same settings; names and functions unchanged."""
    return deserialize(serialize(value)) if hasattr(value, "get_config") else value


def _new_loss(loss: DistillationLoss) -> DistillationLoss:
    new = copy_of(loss)
    for own, given in zip(new.trained_layers, loss.trained_layers, strict=True):
        own.set_weights(given.get_weights())
    return new


def _new_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return copy_of(optimizer)
    return keras.optimizers.get(optimizer() if callable(optimizer) else optimizer)


def plain(value: Any, inside: tuple[Any, ...] = ()) -> Any:
    """A representation of an object for a hash; the same in another process.

    A function is described by its code, defaults and closure, since two lambdas of a scope have the same name. Global
    variables that it reads are not.

    Args:
        value: any object.
        inside: the functions that hold it.
    """

    def parts(values: Iterable[Any]) -> list[Any]:
        return [plain(part, (*inside, value)) for part in values]

    if isinstance(value, DistillationLoss):
        trained = [weight for layer in value.trained_layers for weight in layer.get_weights()]
        return [_without_names(serialize(value)), digest_of_arrays(trained)]
    if hasattr(value, "get_config"):
        return _without_names(serialize(value))
    if isinstance(value, functools.partial):
        return ["partial", parts([value.func, *value.args]), sorted(value.keywords), parts(_in_order(value.keywords))]
    if isinstance(value, types.FunctionType) and not any(value is function for function in inside):
        defaults = [*(value.__defaults__ or ()), *_in_order(value.__kwdefaults__ or {})]
        closure = inspect.getclosurevars(value).nonlocals
        return [value.__module__, value.__qualname__, parts([value.__code__, *defaults, *_in_order(closure)])]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), value.co_names, parts(value.co_consts)]
    if isinstance(value, np.ndarray):
        return digest_of_arrays([value])
    return getattr(value, "__qualname__", None) or repr(value)


def _in_order(mapping: Mapping[str, Any]) -> list[Any]:
    return [mapping[name] for name in sorted(mapping)]


def _without_names(config: Any) -> Any:
    """A config without names, since Keras numbers some: the second Adam in a process is `adam_1`."""
    if isinstance(config, dict):
        return {key: _without_names(value) for key, value in config.items() if key != "name"}
    return config
