"""Running a model for its shapes alone: it is traced, nothing is computed and nothing is updated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def trace(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Calls `function` on symbolic stand-ins for `inputs` (symbolic or real tensors); returns symbolic outputs."""
    stand_ins = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, dtype=keras.backend.standardize_dtype(x.dtype)), inputs
    )
    return _Probe(function).compute_output_spec(stand_ins)


def ensure_built(model: Any, inputs: Any, **settings: Any) -> None:
    """Builds a model that would build itself in its first call, so that this call is no different from the others."""
    if not model.built:
        trace(lambda x: model(x, **settings), inputs)


class _Probe(keras.layers.Layer):
    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(autocast=False)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)
