"""State of a compressed layer that is not trained."""

from __future__ import annotations

from typing import Any

import keras


def replicated(layer: keras.layers.Layer, name: str, shape: tuple[int, ...] = (), **settings: Any) -> Any:
    """A weight without gradient that replicas compute alike, such as a step or a mask; the first one's value is kept.

    Args:
        layer: the layer that owns it.
        name, shape: of the weight.
        settings: further arguments of `add_weight`; the weight begins at zero by default.
    """
    settings = {"initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"} | settings
    return layer.add_weight(name=name, shape=shape, **settings)
