"""Pruning in which each weight has a sparsity of its own: given by layer, or from one ranking of all weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.compression.pruning.masking import Mask
from keras_kd.compression.pruning.ranking import Ranked, sparsities, with_least
from keras_kd.compression.selection import kernels
from keras_kd.compression.transform import WeightTransform, weighted_layers
from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import nearest


class PerWeight(WeightTransform):
    """Applies a transform of its own to each weight.

    Args:
        choose: returns the transform of a weight, from the path of its layer and its name; or the reason why it is not
            compressed.
        skip: the paths of layers that stay as they are.
    """

    def __init__(self, choose: Callable[[str, str], WeightTransform | str], skip: Collection[str] = ()):
        super().__init__(skip)
        self._choose = choose

    def function(self, layer, weight, calls):
        raise NotImplementedError

    def functions(self, layer, path, weight, calls):
        chosen = self._choose(path, weight)
        if path in self.skip or isinstance(chosen, str):
            return [], ["listed in skip" if path in self.skip else chosen]
        return chosen.functions(layer, path, weight, calls)


def check_listed(model: keras.Model, listed: Mapping[str, Any], skip: Collection[str]) -> None:
    """Raises `ConfigurationError` if a layer that has a sparsity of its own is missing, frozen or skipped."""
    layers = {path: layer for path, layer, _ in weighted_layers(model)}
    for path in listed:
        problem = None
        if path not in layers:
            problem = "'sparsity' names a layer that the model does not have."
        elif path in skip:
            problem = "'sparsity' names a layer that 'skip' names too."
        elif not kernels(layers[path]):
            problem = "'sparsity' names a layer without a trainable kernel."
        if problem:
            known = [known for known, layer in layers.items() if kernels(layer) and known not in skip]
            fix = nearest(path, known) or None
            raise ConfigurationError(
                explain(problem, received=repr(path), expected=f"some of {', '.join(known)}", fix=fix)
            )


def ranked_sparsities(model: keras.Model, transform: WeightTransform, schedule: Any) -> dict[tuple[str, str], Ranked]:
    """A schedule for each weight that `transform` prunes, by the path of its layer and its name.

    Together the weights have the sparsity of `schedule`, by the magnitudes that they have now.
    """
    scores, least = {}, {}
    for path, layer, calls in weighted_layers(model):
        for name, weight in kernels(layer).items():
            mask = transform.function(layer, name, calls)
            if isinstance(mask, Mask) and path not in transform.skip:
                scores[path, name] = ops.convert_to_numpy(mask.units(ops.convert_to_tensor(weight)))
                least[path, name] = mask.pattern.least_sparsity
    found = sparsities(list(scores.values())) if scores else []
    return {key: Ranked(schedule, with_least(values, least[key])) for key, values in zip(scores, found, strict=True)}
