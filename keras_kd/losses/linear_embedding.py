"""Learned linear layers that map features of any shape to vectors of one size."""

from __future__ import annotations

import math
from typing import Any

from keras import initializers, layers

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.projectors import published_uniform


def linear_embedding(name: str, embedding_size: int, features_shape: Any) -> layers.Dense:
    """A built layer from flattened features to `[batch, embedding_size]`, initialized as in the published code.

    Args:
        name: the name of the layer.
        embedding_size: the number of outputs.
        features_shape: `(batch, ...)`, known after the batch axis.
    """
    num_features = math.prod(features_shape[1:])
    limit = 1.0 / math.sqrt(num_features)
    layer = layers.Dense(
        embedding_size,
        kernel_initializer=published_uniform(),
        bias_initializer=initializers.RandomUniform(-limit, limit),
        dtype="float32",
        name=name,
    )
    layer.build((None, num_features))
    return layer


def check_known_sizes(name: str, *shapes: Any) -> None:
    """Raises `ConfigurationError` for shapes `(batch, ...)` for which no linear layer can be created.

    Args:
        name: the name of the loss, for the error message.
        shapes: the teacher's and the student's.
    """
    shapes = [tuple(shape) for shape in shapes]
    if any(len(shape) < 2 or None in shape[1:] for shape in shapes):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} requires features of a known size.",
                received=f"teacher {shapes[0]}, student {shapes[1]}",
                expected="(batch, ...) with all sizes after the batch axis known",
                fix="Name a pooled layer, or build the models with a fixed input size.",
            )
        )
