"""Running means of the parts of the loss, kept out of checkpoints and `evaluate`."""

from __future__ import annotations

from typing import Any

import keras


class Trackers:
    """One running mean per name, over the examples since the last reset."""

    def __init__(self, names: list[str]):
        self._means = {name: keras.metrics.Mean(name=name.replace("/", "_")) for name in names}

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the means."""
        return [variable for mean in self._means.values() for variable in mean.variables]

    def update(self, name: str, value: Any, size: Any) -> Any:
        """Adds the mean `value` of a batch of `size` examples; returns the running mean of that name."""
        self._means[name].update_state(value, sample_weight=size)
        return self._means[name].result()

    def reset(self) -> None:
        for mean in self._means.values():
            mean.reset_state()
