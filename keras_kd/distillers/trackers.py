"""Running means of the parts of the loss, kept where neither a checkpoint nor `evaluate` meets them."""

from __future__ import annotations

from typing import Any

import keras


class Trackers:
    """One running mean per name, over the examples seen since the last reset."""

    def __init__(self, names: list[str]):
        self._means = {name: keras.metrics.Mean(name=name.replace("/", "_")) for name in names}

    def update(self, values: dict[str, Any], batch_size: Any) -> dict[str, Any]:
        """Takes in a batch's values and returns the means of the same names."""
        for name, value in values.items():
            self._means[name].update_state(value, sample_weight=batch_size)
        return {name: self._means[name].result() for name in values}

    def reset(self) -> None:
        for mean in self._means.values():
            mean.reset_state()
