"""Support for our losses in `keras.distillation.Distiller`, which looks up one layer of each model by name."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import find_place, inner_taps, output_shapes


class ShapeOnly:
    """Stands in for a tensor where only its shape is read."""

    def __init__(self, shape: Any):
        self.shape = shape


def prepare(loss: Any, teacher: keras.Model, student: keras.Model) -> None:
    """Sets the layer names that Keras' Distiller looks up, checks the shapes and builds the loss's own layers.

    Raises:
        ConfigurationError: if the loss reads several taps, or a layer that Keras cannot look up by name.
    """
    names = [_layer_name(loss, model, role) for model, role in ((teacher, "teacher"), (student, "student"))]
    if any(names):  # for Keras, "" is the model's output; None for both models passes all outputs unchanged
        names = [name or "" for name in names]
    loss.keras_layer_names = tuple(names)
    shapes = [_shape(model, tap) for model, tap in ((teacher, loss.teacher), (student, loss.student))]
    if None not in shapes and not loss.built:
        loss.validate_outputs(*map(ShapeOnly, shapes))
        loss.build(*shapes)


def _layer_name(loss: Any, model: keras.Model, role: str) -> str | None:
    tap = getattr(loss, role)
    if tap is None or tap in (output_shapes(model) or {}):
        return None
    if isinstance(tap, str) and find_place(model, tap, role=role).path in [layer.name for layer in model.layers]:
        return tap
    raise ConfigurationError(
        explain(
            f"keras.distillation.Distiller cannot provide what {loss.name!r} reads from the {role}.",
            received=f"{role}={tap!r}",
            expected="the output of one layer at the top level of the model",
            fix="keras_kd.Distiller also reads nested layers and inputs of layers; for several taps pass "
            "distillation_losses=keras_kd.losses.for_keras(loss).",
        )
    )


def _shape(model: keras.Model, tap: str | None) -> tuple | None:
    shapes = output_shapes(model)
    if shapes is None:
        return None
    if tap is None:
        return next(iter(shapes.values())) if len(shapes) == 1 else None
    return shapes[tap] if tap in shapes else inner_taps(model, [tap])[tap]
