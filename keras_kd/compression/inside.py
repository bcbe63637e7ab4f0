"""A change to what a layer computes inside, as a Keras layer that owns its state."""

from __future__ import annotations

import contextlib
from typing import Any

import keras

ITSELF = "."
"""The path of a layer among those inside it."""


class Inside(keras.layers.Layer):
    """Changes the computation of a layer while it runs, such as rounding the tensors inside it.

    A subclass returns from `around` a context in which methods of the layer are replaced.
    """

    def __init__(self, **settings: Any):
        super().__init__(**{"dtype": "float32", "autocast": False} | settings)
        self.built = True

    def around(self, layer: keras.layers.Layer, *, training: bool) -> contextlib.AbstractContextManager[None]:
        """A context in which the computation of the layer is changed.

        Args:
            layer: the layer that runs.
            training: whether it runs in training mode, so that state may change.
        """
        raise NotImplementedError

    def call(self, *args, **kwargs):
        """Raises `NotImplementedError`: call the layer itself, inside `around`."""
        raise NotImplementedError
