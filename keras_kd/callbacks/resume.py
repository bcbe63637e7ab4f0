"""A callback that resumes an interrupted training, bit for bit, from its last saved epoch."""

from __future__ import annotations

import math
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.callbacks import _callback_state, _identity
from keras_kd.callbacks._fit import RunningFit, calling_list, running_fit
from keras_kd.callbacks._state_folder import Saved, StateFolder
from keras_kd.data import Pipeline
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.keras_private import set_initial_epoch

_BYTES_PER_VARIABLE = 4096
_NUMBERS_SEEN: weakref.WeakKeyDictionary[keras.Model, _identity.Flat] = weakref.WeakKeyDictionary()


class Resume(keras.callbacks.Callback):
    """Saves a training at intervals, and resumes from the last save when the same script runs again.

        model.fit(pipeline, epochs=30, callbacks=[keras.callbacks.EarlyStopping(), kd.callbacks.Resume("run/state")])

    A state holds weights, optimizer, the random state of the model's layers (which Keras' weight files leave out), the
    epoch, the history of all epochs, and the state of the other callbacks: `EarlyStopping`, `ReduceLROnPlateau`,
    `ModelCheckpoint`, `SwapEMAWeights`, `TFLiteExport`, and any callback with the methods `get_state()`, which returns
    plain data and NumPy arrays, and `set_state(state)`. Settings that must be the same when it resumes are returned by
    its method `get_settings()`, as plain data. What `fit` returns is the history of all epochs.

    The resumed training equals one that was never stopped, bit for bit, if the batches can be repeated: from a
    `Pipeline`, which resumes in the right epoch by itself, and from arrays with `shuffle=False`. For any other data the
    order starts over, and a `Notice` reports it.

    Unlike `keras.callbacks.BackupAndRestore` it refuses to resume with another student, teacher, loss, optimizer,
    alpha, data or callback settings; each save is complete or absent and has checksums. The one before it is kept,
    so that a damaged file costs an epoch and not the training. A save that fails, as on a full disk, is a `Notice`.

    A finished training removes its state, so that the next `fit` starts over. One that ends in the middle of an epoch
    (an exception, Ctrl-C, `stop_training` set by a batch) keeps it.

    For a `tf.data.Dataset` and other streams, only what is known without reading them is compared (elements, number of
    batches); for more than 256 MiB of arrays, evenly spaced rows.

    Args:
        folder: the folder of the state, created if missing. Each training needs its own.
        every_seconds: the minimum time between two saves; 0 saves after every epoch. The last epoch is always saved.
        keep_finished: keep the state of a finished training until `clear()`, for a script that stores the result first.
            The next `fit` for the same number of epochs then trains nothing, even if `EarlyStopping` ended it.

    Attributes:
        history: the history of all epochs, including those before an interruption.

    Raises:
        ConfigurationError: when `fit` begins: the state belongs to another training, all that was saved is damaged, or
            the model is not built or not compiled.
    """

    def __init__(self, folder: str | Path, *, every_seconds: float = 10.0, keep_finished: bool = False):
        super().__init__()
        self.folder = Path(folder)
        self.every_seconds = every_seconds
        self.keep_finished = keep_finished
        self.history: dict[str, list[float]] = {}
        self._files = StateFolder(self.folder)
        self._last_save = time.monotonic()
        self._restored: tuple[weakref.ref[keras.Model], Saved] | None = None
        self._others: list[keras.callbacks.Callback] = []
        self._fixed: dict[str, Any] = {}
        self._is_complete = False

    # Called by the user.

    def restore(self, model: keras.Model) -> int:
        """Loads the saved state into a built and compiled model; `fit` does so by itself.

        For a custom training loop, or to use the weights with other settings.

        Returns:
            The epoch to resume with, 0 if nothing was saved.

        Raises:
            ConfigurationError: the state is of another student, or is damaged.
        """
        saved = self._files.load()
        if saved is None:
            return 0
        _check_ready(model)
        kept, present = saved.state["identity"], _identity.identity_of_model(model)
        student = [path for path in {**kept, **present} if path.startswith(("student", "model"))]
        _identity.check_same(_only(kept, student), _only(present, student), self.folder)
        self._load(model, saved)
        self._restored = (weakref.ref(model), saved)
        return saved.epoch

    def clear(self) -> None:
        """Removes the saved state."""
        self._files.clear()

    # The callback methods.

    def set_model(self, model):
        super().set_model(model)
        callbacks = calling_list()
        if callbacks is None:
            return
        self._others = [callback for callback in callbacks.callbacks if callback is not self]
        # last, so that all others have begun when it restores them, and have ended the epoch when it saves them
        watch = _Watch()
        watch.set_model(model)
        self._watch = watch
        callbacks.callbacks = [watch, *(one for one in self._others if not isinstance(one, _Watch)), self]

    def on_train_begin(self, logs=None):
        fit = running_fit()
        saved = self._saved_for(fit)
        self._fixed = self._identity_now(fit, saved)
        self._is_complete = False
        if saved is None:
            self.history = {}
        else:
            self._resume(fit, saved)
        self._last_save = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        set_initial_epoch(self.model, None)  # or the next `fit` would begin there too
        _NUMBERS_SEEN[self.model] = _identity.numbers_of(self.model)

    def on_epoch_end(self, epoch, logs: dict[str, Any] | None = None):
        _NUMBERS_SEEN[self.model] = _identity.numbers_of(self.model)
        if self._watch.is_cut_short:
            return  # the epoch is incomplete: the state before it remains
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self._is_complete = self.model.stop_training or epoch + 1 == (self.params or {}).get("epochs")
        if self._is_complete or time.monotonic() - self._last_save >= self.every_seconds:
            self._save(epoch + 1)
            self._last_save = time.monotonic()

    def on_train_end(self, logs=None):
        set_initial_epoch(self.model, None)
        if self._is_complete and not self.keep_finished:
            self.clear()

    # Resuming.

    def _saved_for(self, fit: RunningFit | None) -> Saved | None:
        """The state to resume from; without weights if `restore` has loaded them already."""
        restored, self._restored = self._restored, None
        if restored is not None and restored[0]() is self.model:
            return restored[1]._replace(weights=None)
        saved = self._files.load()
        if saved is not None and fit is None:
            problem = "A custom training loop cannot resume from a saved state automatically."
            raise ConfigurationError(
                explain(problem, received=f"a saved state in {self.folder}", fix="Call `restore(model)` first.")
            )
        return saved

    def _identity_now(self, fit: RunningFit | None, saved: Saved | None) -> dict[str, Any]:
        """The identity to store with the next save, checked against that of the saved state, if any."""
        _check_ready(self.model)
        identity = _identity.identity_of_model(self.model)
        identity |= {} if fit is None else _identity.identity_of_data(fit)
        identity |= _identity.flatten({"callbacks": _identity.plain(_callback_state.settings(self._others))})
        numbers = _identity.numbers_of(self.model)
        if saved is None:
            data_epoch = getattr(getattr(fit, "adapter", None), "first_epoch", 0)
            first = 0 if fit is None else fit.initial_epoch
            return {"identity": identity, "numbers": numbers, "first_epoch": first, "data_epoch": data_epoch}
        kept = {name: saved.state[name] for name in ("identity", "numbers", "first_epoch", "data_epoch")}
        known = [kept["numbers"], saved.state["numbers_now"], _NUMBERS_SEEN.get(self.model, {})]
        changed = [name for name in numbers if all(numbers[name] != one.get(name) for one in known)]
        expected, present = _only(kept["numbers"], changed), _only(numbers, changed)
        _identity.check_same({**expected, **kept["identity"]}, {**present, **identity}, self.folder)
        return kept

    def _resume(self, fit: RunningFit | None, saved: Saved) -> None:
        self._load(self.model, saved)
        self._is_complete = saved.state["stopped"] or saved.epoch >= (self.params or {}).get("epochs", float("inf"))
        _callback_state.restore(self._others, _callback_state.unpack(saved.state["callbacks"], saved.arrays))
        kept = getattr(self.model, "history", None)
        if isinstance(kept, keras.callbacks.History):
            kept.history = {name: list(values) for name, values in self.history.items()}
            kept.epoch = list(range(saved.state["first_epoch"], saved.epoch))
        if fit is None:
            return
        set_initial_epoch(self.model, self.params["epochs"] if saved.state["stopped"] else saved.epoch)
        self._move_data(fit, saved)

    def _move_data(self, fit: RunningFit, saved: Saved) -> None:
        if isinstance(fit.adapter, Pipeline):
            fit.adapter.go_to(saved.state["data_epoch"] + saved.epoch - saved.state["first_epoch"])
        if not self._is_complete and not _identity.replays(fit):
            warnings.warn(
                f"The training resumes after epoch {saved.epoch}, but the order of its batches starts over, so the "
                "result is not bit for bit that of an uninterrupted training. Pass a keras_kd.data.Pipeline for that.",
                Notice,
                stacklevel=2,
            )

    def _load(self, model: keras.Model, saved: Saved) -> None:
        if saved.weights is not None:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(saved.weights)
            for variable, value in zip(_random_state(model), saved.state["random"], strict=True):
                variable.assign(value)
            for name in ("alpha", "temperature"):  # not part of a checkpoint
                value = saved.state["numbers_now"].get(name)
                if isinstance(value, float) and isinstance(getattr(model, name), float):
                    setattr(model, name, value)
        self.history = {name: list(values) for name, values in saved.state["history"].items()}

    # Saving.

    def _save(self, epoch: int) -> None:
        arrays: dict[str, Any] = {}
        state = {
            **self._fixed,
            "numbers_now": _identity.numbers_of(self.model),
            "stopped": bool(self.model.stop_training),
            "random": [ops.convert_to_numpy(variable).tolist() for variable in _random_state(self.model)],
            "history": self.history,
            "callbacks": _callback_state.pack(_callback_state.states(self._others), arrays),
        }
        try:
            self._files.save(epoch, self.model.save_weights, state, arrays, num_bytes=_file_size(self.model))
        except OSError as error:
            self._files.drop(epoch)
            warnings.warn(
                f"The state after epoch {epoch} could not be saved in {self.folder}: {error}. The training continues; "
                "an interruption now loses the epochs since the last save.",
                Notice,
                stacklevel=2,
            )


class _Watch(keras.callbacks.Callback):
    """Runs first among the callbacks: if training is stopped already when an epoch ends, the epoch was cut short."""

    is_cut_short = False

    def on_train_begin(self, logs=None):
        self.is_cut_short = False

    def on_epoch_end(self, epoch, logs=None):
        self.is_cut_short = self.model.stop_training


def _check_ready(model: keras.Model) -> None:
    if model.built and getattr(model, "optimizer", None) is not None:
        return
    raise ConfigurationError(
        explain(
            "Resume needs a built and compiled model.",
            received=f"a {type(model).__name__} that is not {'compiled' if model.built else 'built'}",
            fix="Compile it." if model.built else "Add an `Input` layer, or call the model once on a batch.",
        )
    )


def _file_size(model: keras.Model) -> int:
    """The approximate size of the weight file in bytes; HDF5 adds some kilobytes per variable."""
    variables = [*model.variables, *model.optimizer.variables]
    sizes = (math.prod(variable.shape) * np.dtype(variable.dtype).itemsize for variable in variables)
    return sum(sizes) + _BYTES_PER_VARIABLE * len(variables)


def _only(flat: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: flat[name] for name in names if name in flat}


def _random_state(model: keras.Model) -> list[keras.Variable]:
    """The variables of the model's seed generators, in the order of its layers."""
    others = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in others]
