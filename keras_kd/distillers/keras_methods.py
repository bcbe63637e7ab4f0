"""The methods that users of Keras call: `fit`, `evaluate`, `predict` and `export`, as they apply to a distiller."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_kd.distillers import feeding
from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import compiled_loss


class KerasMethods:
    """The methods of `keras.Model` that a `Distiller` adapts: they accept its data and apply to the student."""

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **settings):
        return super().fit(**feeding.for_fit(_by_name(keras.Model.fit, args, settings)))

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, *args, **settings):
        return super().evaluate(**feeding.with_arrays(_by_name(keras.Model.evaluate, args, settings)))

    @functools.wraps(keras.Model.predict)
    def predict(self, *args, **settings):
        return super().predict(**feeding.with_arrays(_by_name(keras.Model.predict, args, settings)))

    def export(self, *args, **settings):
        """Always raises: export the student instead.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            explain(
                "A Distiller is for training; the model to export is its student.",
                received="distiller.export(...)",
                fix="Use distiller.student.export(...), or keras_kd.export.export_tflite(distiller.student, path).",
            )
        )

    def make_train_function(self, force=False):
        """Makes a train function that is traced again, even in the middle of a `fit`, if `traced_settings` change.

        A compiled step reads numbers such as alpha from variables. Schedules, the teacher and its settings are
        constants in it: without a new trace, the step would silently compute with the old ones.
        """
        force = force or self.train_function is None or not self.train_function.is_current
        super().make_train_function(force=force)
        if force:
            self.train_function = _TracedFunction(self, self.train_function)

    def test_step(self, *args):
        *state, data = args  # JAX passes its state first
        results = super().test_step(*state, tuple(self.batch_of(data)[:3]))
        if compiled_loss(self) is None:
            (results[0] if state else results).pop("loss")  # no compiled loss to report
        return results

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if compiled_loss(self) is None:
            return ops.zeros(())
        return super().compute_loss(x, y, y_pred, sample_weight, training)


class _TracedFunction:
    """A train function that is replaced by a new one if the settings have changed since it was made."""

    def __init__(self, model: Any, function: Callable[..., Any]):
        self._model = model
        self._function = function
        self._settings = model.traced_settings

    @property
    def is_current(self) -> bool:
        return self._model.traced_settings == self._settings

    def __call__(self, *arguments):
        if self.is_current:
            return self._function(*arguments)
        self._model.attach_state(*arguments)
        self._model.make_train_function(force=True)
        return self._model.train_function(*arguments)


def _by_name(method: Any, args: tuple, settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call to a method of `keras.Model`, by name."""
    bound = inspect.signature(method).bind(None, *args, **settings).arguments
    named = {name: value for name, value in list(bound.items())[1:] if name != "kwargs"}
    return named | bound.get("kwargs", {})
