"""Pruning between trainings: masks that stay as they are while a model is trained, and the next ones."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.selection import kernels
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.compression.transform import weighted_layers
from keras_kd.compression.weight_functions import FixedZeros
from keras_kd.surgery import clone
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.weights import copy_state

Key = tuple[str, str]


def first_masks(model: keras.Model, skip: tuple[str, ...] = ()) -> dict[Key, np.ndarray]:
    """Masks that keep every weight of the kernels of a model, by the path of the layer and the name of the weight."""
    return {
        (path, name): np.ones(weight.shape, "float32")
        for path, layer, _ in weighted_layers(model)
        for name, weight in kernels(layer).items()
        if path not in skip
    }


def next_masks(
    weights: Mapping[Key, np.ndarray], masks: Mapping[Key, np.ndarray], fraction: float, scope: str
) -> dict[Key, np.ndarray]:
    """Prunes a fraction of the weights that are left, those of smallest magnitude; at least one of each kernel stays.

    Args:
        weights: the trained kernels.
        masks: those they were trained with, of ones and zeros.
        fraction: of the weights that are left, 0 to 1; the number is rounded.
        scope: `"layer"`: of each kernel. `"global"`: of all together.

    >>> weights = {("a", "kernel"): np.array([[1.0, -4.0]]), ("b", "kernel"): np.array([[2.0, 3.0]])}
    >>> ones = {key: np.ones((1, 2)) for key in weights}
    >>> [mask.tolist() for mask in next_masks(weights, ones, 0.5, "global").values()]
    [[[0.0, 1.0]], [[0.0, 1.0]]]
    """
    if scope == "layer":
        parts = [next_masks({key: weights[key]}, {key: masks[key]}, fraction, "global") for key in masks]
        return {key: mask for part in parts for key, mask in part.items()}
    scores = {key: np.where(masks[key] > 0, np.abs(weights[key]), np.inf).reshape(-1) for key in masks}
    for score in scores.values():
        largest = np.argmax(np.where(np.isinf(score), -1.0, score))
        score[largest] = np.inf  # the last one to go, so it stays
    left = sum(int(np.sum(mask)) for mask in masks.values())
    every = np.concatenate(list(scores.values()))
    pruned = np.argsort(every, kind="stable")[: round(fraction * left)]
    kept = np.concatenate([masks[key].reshape(-1) for key in masks])
    kept[pruned[np.isfinite(every[pruned])]] = 0.0
    ends = np.cumsum([masks[key].size for key in masks])[:-1]
    return {key: part.reshape(masks[key].shape) for key, part in zip(masks, np.split(kept, ends), strict=True)}


def masked(model: keras.Model, masks: Mapping[Key, np.ndarray]) -> keras.Model:
    """A copy of a model whose kernels are multiplied by masks while it is trained; `strip` gives the plain one."""
    paths = {id(layer): path for path, layer, _ in weighted_layers(model)}

    def replace(layer):
        names = [name for path, name in masks if path == paths.get(id(layer))]
        functions = {name: FixedZeros(name=f"{name.replace('/', '_')}_ticket") for name in names}
        return Reparametrized(copy_layer(layer), functions, layer.get_build_config()) if names else None

    def transfer(layer, copy):
        copy_state(layer, copy.layer)
        for name, function in copy.reparametrizations.items():
            function.mask.assign(masks[paths[id(layer)], name])

    return clone(model, replace, transfer=transfer)


def effective_kernels(model: keras.Model) -> dict[Key, np.ndarray]:
    """The kernels that the layers of a masked model run on."""
    return {
        (path, name): ops.convert_to_numpy(value)
        for path, layer in reparametrized_layers(model).items()
        for name, value in layer.effective_weights().items()
    }
