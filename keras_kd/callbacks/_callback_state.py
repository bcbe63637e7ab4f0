"""The state that callbacks keep from epoch to epoch: reading it and restoring it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import keras
import numpy as np

from keras_kd.keras_private import PRIVATE_STATE


@runtime_checkable
class HasState(Protocol):
    """A callback that saves and restores its own state, as plain data and NumPy arrays."""

    def get_state(self) -> Any: ...

    def set_state(self, state: Any) -> None: ...


@runtime_checkable
class HasSettings(Protocol):
    """A callback whose settings, as plain data, must be the same when a training resumes."""

    def get_settings(self) -> dict[str, Any]: ...


class _Attributes(NamedTuple):
    state: tuple[str, ...]
    settings: tuple[str, ...]


_KERAS_CALLBACKS: dict[type, _Attributes] = {
    keras.callbacks.EarlyStopping: _Attributes(
        ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
        ("monitor", "mode", "patience", "min_delta", "baseline", "restore_best_weights", "start_from_epoch"),
    ),
    keras.callbacks.ReduceLROnPlateau: _Attributes(
        ("best", "wait", "cooldown_counter"),
        ("monitor", "mode", "factor", "patience", "min_delta", "cooldown", "min_lr"),
    ),
    keras.callbacks.ModelCheckpoint: _Attributes(
        ("best", *PRIVATE_STATE[keras.callbacks.ModelCheckpoint]),
        ("monitor", "mode", "save_best_only", "save_freq"),
    ),
    keras.callbacks.SwapEMAWeights: _Attributes(PRIVATE_STATE[keras.callbacks.SwapEMAWeights], ("swap_on_epoch",)),
}


def states(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """The state of each callback that has one, by callback name."""
    return {name: _get(callback) for name, callback in _named(callbacks).items()}


def restore(callbacks: Iterable[keras.callbacks.Callback], saved: dict[str, Any]) -> None:
    """Restores the states that `states` returned, by callback name."""
    for name, callback in _named(callbacks).items():
        if name in saved:
            _set(callback, saved[name])


def settings(callbacks: Iterable[keras.callbacks.Callback]) -> dict[str, Any]:
    """The settings of each callback that has any or has a state, by callback name."""
    return {name: _settings_of(callback) for name, callback in _named(callbacks, HasSettings).items()}


def pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Converts a value to plain JSON data; arrays are moved to `arrays` and replaced by references."""
    if isinstance(value, np.ndarray):
        key = f"array_{len(arrays)}"
        arrays[key] = value.view(np.uint8) if value.dtype.kind == "V" and value.ndim else value  # bfloat16 and similar
        return {"array": key, "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"dict": {key: pack(item, arrays) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [pack(item, arrays) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return pack(np.asarray(keras.ops.convert_to_numpy(value)), arrays)


def unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: unpack(item, arrays) for key, item in value["dict"].items()}
    stored = arrays[value["array"]]
    return stored if stored.dtype.name == value["dtype"] else stored.view(np.dtype(value["dtype"]))


def _named(callbacks: Iterable[keras.callbacks.Callback], *others: type) -> dict[str, keras.callbacks.Callback]:
    """The callbacks that have a state (or are of `others`), by class name; the second one of a class gets a number."""
    named: dict[str, keras.callbacks.Callback] = {}
    for callback in callbacks:
        if isinstance(callback, (HasState, *others)) or _attributes(callback):
            kind = type(callback).__name__
            count = sum(name.partition(" ")[0] == kind for name in named)
            named[f"{kind} {count + 1}" if count else kind] = callback
    return named


def _attributes(callback: keras.callbacks.Callback) -> _Attributes | None:
    return next((names for kind, names in _KERAS_CALLBACKS.items() if isinstance(callback, kind)), None)


def _get(callback: Any) -> Any:
    if isinstance(callback, HasState):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _attributes(callback).state}


def _set(callback: Any, state: Any) -> None:
    if isinstance(callback, HasState):
        callback.set_state(state)
    else:
        for name, value in state.items():
            setattr(callback, name, value)


def _settings_of(callback: Any) -> dict[str, Any]:
    if isinstance(callback, HasSettings):
        return callback.get_settings()
    attributes = _attributes(callback)
    values = {name: getattr(callback, name) for name in attributes.settings} if attributes else {}
    if "min_delta" in values:
        values["min_delta"] = abs(values["min_delta"])  # Keras flips its sign in the first epoch
    return values
