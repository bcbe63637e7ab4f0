"""Models that see each image in several rotations, and show the features of all of them as one layer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.heads import find_heads
from keras_kd.features.outputs import is_graph
from keras_kd.serialization import register

NUM_VIEWS = 4


@register
class Rotations(layers.Layer):
    """Each image and its rotations by 90, 180 and 270 degrees, `[4 * batch, size, size, channels]`, image by image."""

    def call(self, images):
        views = ops.stack([ops.rot90(images, k, axes=(1, 2)) for k in range(NUM_VIEWS)], axis=1)
        return ops.reshape(views, (-1, *images.shape[1:]))

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[1:])


def with_rotations(model: keras.Model, features: str) -> keras.Model:
    """A model that runs `model` once on each image and its three rotations, for `keras_kd.losses.SelfSupervisedKD`.

    The output is that of the image as it is, so labels, metrics and other losses work as before. Its layers:

    - `"views"`, `[batch, 4, features]`: the features of the image and its rotations by 90, 180 and 270 degrees;
    - `"logits_of_views"`, `[batch, 4, classes]`: the logits of the same.

    The layers are shared: training this model trains `model`, which is the one to evaluate alone, save or export.
    Batch normalization sees all four views in one batch, as published.

    Source: Xu et al., "Knowledge Distillation Meets Self-Supervision", 2020.

    Args:
        model: a Functional or Sequential model of square images with one output, logits `[batch, classes]`.
        features: the name of a layer with the features, `[batch, features]`, through which everything passes.

    Raises:
        ConfigurationError: for any other model or layer.

    >>> inputs = keras.Input((8, 8, 1))
    >>> pooled = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(6, 3)(inputs))
    >>> model = with_rotations(keras.Model(inputs, layers.Dense(10)(pooled)), "pool")
    >>> model.output.shape, model.get_layer("views").output.shape
    ((None, 10), (None, 4, 6))
    """
    _check_model(model)
    vector = _features_of(model, features)
    below = keras.Model(model.inputs, vector, name="below")
    above = _above(model, features, vector)
    images = keras.Input(model.inputs[0].shape[1:], dtype=model.inputs[0].dtype)
    views = _by_image(below(Rotations(name="rotations")(images)), "views")
    logits = _by_image(above(ops.reshape(views, (-1, vector.shape[-1]))), "logits_of_views")
    return keras.Model(images, logits[:, 0], name=f"{model.name}_with_rotations")


def _by_image(values: Any, name: str) -> Any:
    return layers.Identity(name=name)(ops.reshape(values, (-1, NUM_VIEWS, values.shape[-1])))


def _check_model(model: Any) -> None:
    graph = isinstance(model, keras.Model) and model.built and is_graph(model)
    shapes = [tuple(x.shape) for x in (*model.inputs, *model.outputs)] if graph else []
    is_classifier = len(shapes) == 2 and len(shapes[0]) == 4 and shapes[0][1] == shapes[0][2] and len(shapes[1]) == 2
    is_logits = is_classifier and all(head.is_logits for head in find_heads(model).values())
    if not is_logits:
        raise ConfigurationError(
            explain(
                "This model cannot be run on rotated images.",
                received=f"a {type(model).__name__}"
                + (f" from {shapes[0]} to {shapes[-1]}" if shapes else "")
                + (" that ends in an activation" if is_classifier else ""),
                expected="a Functional or Sequential model from (batch, size, size, channels) to logits "
                "(batch, classes)",
                fix="End the model in its logits, without the softmax." if is_classifier else None,
            )
        )


def _features_of(model: keras.Model, name: str) -> Any:
    layer = next((layer for layer in model.layers if layer.name == name), None)
    vector = None if layer is None else layer.output
    if not isinstance(vector, keras.KerasTensor) or len(vector.shape) != 2:
        shape = "no layer of that name" if layer is None else f"a layer with output {getattr(vector, 'shape', vector)}"
        raise ConfigurationError(
            explain(
                f"{name!r} does not name features of {model.name!r}.",
                received=shape,
                expected="a layer at the top level with output (batch, features), such as the global pooling",
                fix="keras_kd.taps(model) lists the layers with their shapes.",
            )
        )
    return vector


def _above(model: keras.Model, features: str, vector: Any) -> keras.Model:
    try:
        return keras.Model(vector, model.outputs[0], name="above")
    except ValueError as error:
        raise ConfigurationError(
            explain(
                f"The output of {model.name!r} does not depend on {features!r} alone.",
                received=f"a connection around {features!r}",
                expected="a layer through which everything passes, such as the global pooling",
            )
        ) from error
