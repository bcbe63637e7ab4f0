"""Adapts the data for `fit`, `evaluate` and `predict`: no wait at the end of an epoch, no ignored arguments."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.data import Pipeline
from keras_kd.data.sources.records import without_autotune
from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import ArrayDataAdapter, DataAdapter, can_convert_arrays, train_validation_split

_BESIDE_DATA = ("y", "sample_weight", "class_weight")


class Arrays(ArrayDataAdapter):
    """Keras' own batches of arrays in Keras' own order, without tf.data's autotuner.

    With the autotuner, each epoch ends with a wait for its next round, for up to the duration of the epoch.
    """

    def get_tf_dataset(self):
        return without_autotune(super().get_tf_dataset())


def for_fit(settings: dict[str, Any], distiller: Any) -> dict[str, Any]:
    """The arguments of `fit`, with arrays (including validation data) as `Arrays`; a `Pipeline` yields example ids.

    A curriculum without a teacher takes that of the distiller, and the callbacks include those of the teacher.

    Raises:
        ConfigurationError: labels or weights are given, but the data contain their own; a `CallbackList` for a teacher
            with callbacks.
    """
    settings = dict(settings)
    if settings.get("validation_split") and settings.get("validation_data") is None:
        parts = tuple(settings.get(name) for name in ("x", "y", "sample_weight"))
        if _are_arrays(*parts):
            train, settings["validation_data"] = train_validation_split(
                parts, validation_split=settings.pop("validation_split")
            )
            settings |= dict(zip(("x", "y", "sample_weight"), train, strict=True))
    validation = settings.get("validation_data")
    if validation is not None:
        batch_size = settings.get("validation_batch_size") or settings.get("batch_size")
        settings["validation_data"] = _validation(validation, batch_size, settings.get("validation_steps"))
    settings = with_arrays(settings, steps="steps_per_epoch", shuffle=settings.get("shuffle", True))
    if own := distiller.teacher.callbacks():
        settings["callbacks"] = _with_callbacks(own, settings.get("callbacks"))
    if isinstance(pipeline := settings.get("x"), Pipeline):
        settings["x"] = pipeline.arranged_by(distiller.teacher, distiller.teacher_inputs).with_ids()
    return settings


def _with_callbacks(own: list[Any], given: Any) -> list[Any]:
    """The callbacks of a teacher, and those given to `fit`: a list, or a single one."""
    if isinstance(given, keras.callbacks.CallbackList):
        raise ConfigurationError(
            explain(
                "The teacher of this distiller has a callback of its own, which a CallbackList would leave out.",
                received="fit(callbacks=CallbackList(...))",
                expected="a list of callbacks",
            )
        )
    return [*own, *(given if isinstance(given, (list, tuple)) else [] if given is None else [given])]


def with_arrays(settings: dict[str, Any], *, steps: str = "steps", shuffle: Any = False) -> dict[str, Any]:
    """The arguments of `fit`, `evaluate` or `predict` with arrays as `Arrays`; anything else unchanged.

    Args:
        settings: by name.
        steps: the name of the argument that limits the batches of an epoch.
        shuffle: as for `fit`.

    Raises:
        ConfigurationError: labels or weights are given, but the data contain their own.
    """
    given = {name: settings.get(name) for name in ("x", *_BESIDE_DATA)}
    if isinstance(given["x"], DataAdapter):
        _check_alone(given)
    if not _are_arrays(given["x"], given["y"], given["sample_weight"]) or keras.config.max_steps_per_epoch():
        return settings  # Keras derives a batch size from this limit for debugging
    x = Arrays(**given, batch_size=settings.get("batch_size"), steps=settings.get(steps), shuffle=shuffle)
    return {name: value for name, value in settings.items() if name not in _BESIDE_DATA} | {"x": x}


def _validation(data: Any, batch_size: int | None, steps: int | None) -> Any:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    settings = {"x": x, "y": y, "sample_weight": sample_weight, "batch_size": batch_size, "steps": steps}
    made = with_arrays(settings)["x"]
    return made if made is not x else data


def _are_arrays(x: Any, y: Any, sample_weight: Any) -> bool:
    return x is not None and can_convert_arrays((x, y, sample_weight))


def _check_alone(given: dict[str, Any]) -> None:
    """Raises `ConfigurationError` if Keras would ignore labels or weights, since the data contain their own."""
    unread = [name for name in _BESIDE_DATA if given[name] is not None]
    if unread:
        raise ConfigurationError(
            explain(
                f"A {type(given['x']).__name__} contains its labels and weights; these arguments would be ignored.",
                received=", ".join(unread),
                fix="Give weights as the third part of its source: Pipeline((x, y, sample_weight)).",
            )
        )
