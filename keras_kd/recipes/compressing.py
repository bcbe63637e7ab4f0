"""The techniques of `compress`: how each makes its transform, and what its model is called in the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_kd import compression, schedules
from keras_kd.compression.pruning.patterns import get_pattern
from keras_kd.recipes.reading.schema import ChannelPruning, Clustering, Pruning, QuantizationAware

_MASK_UPDATES = 30


class Technique(NamedTuple):
    """What a recipe needs to know of a technique.

    Attributes:
        make: the transform of a training of so many steps, from the settings of the recipe.
        title: of the model in the report.
        keeps_ranges: whether the trained model is kept as it is, because an export reads the ranges of its activations,
            instead of its plain architecture.
    """

    make: Callable[[Any, int], compression.Transform]
    title: Callable[[Any], str]
    keeps_ranges: bool = False


def make_transform(settings: Any, total_steps: int) -> compression.Transform:
    """The transform of one item of `compress`, for a training of `total_steps` steps."""
    return TECHNIQUES[settings.name].make(settings, total_steps)


def keeps_ranges(settings: Any) -> bool:
    """Whether the model of one item of `compress` is kept as it was trained, for its export."""
    return TECHNIQUES[settings.name].keeps_ranges


def title_of(settings: Any) -> str:
    """The title of the model that one item of `compress` makes."""
    return TECHNIQUES[settings.name].title(settings)


def make_pruning(settings: Pruning, total_steps: int) -> compression.Pruning:
    """The sparsity rises over the first half of the steps; a training of a single step has the whole of it."""
    pattern = get_pattern(settings.pattern)
    compression.Pruning(settings.sparsity, pattern=pattern)  # checks that they fit each other
    ramp, final = total_steps // 2, settings.sparsity or pattern.least_sparsity
    if ramp:
        final = keras.tree.map_structure(lambda value: schedules.Polynomial(0.0, value, steps=ramp), final)
    updates = {"frequency": max(1, ramp // _MASK_UPDATES)}
    return compression.Pruning(final, pattern=pattern, scope=settings.scope, score=settings.score, **updates)


def _pruned(settings: Pruning) -> str:
    percent = f" {100 * settings.sparsity:g}%" if isinstance(settings.sparsity, float) else ""
    defaults = {"pattern": "unstructured", "scope": "layer", "score": "magnitude"}
    words = [getattr(settings, name) for name, default in defaults.items() if getattr(settings, name) != default]
    return ", ".join([f"pruned{percent}", *(["by layer"] if isinstance(settings.sparsity, dict) else []), *words])


def make_clustering(settings: Clustering, total_steps: int) -> compression.Clustering:
    """The clusters are there from the first step."""
    return compression.Clustering(settings.clusters, start=settings.start, per_channel=settings.per_channel)


def _clustered(settings: Clustering) -> str:
    return f"{settings.clusters} clusters{' per channel' if settings.per_channel else ''}"


def make_channel_pruning(settings: ChannelPruning, total_steps: int) -> compression.ChannelPruning:
    """The channels leave before the first step; the training is that of the smaller model."""
    chosen = settings.model_dump(include={"operations", "parameters", "score", "scope", "multiple_of"})
    return compression.ChannelPruning(**chosen)


def _without_channels(settings: ChannelPruning) -> str:
    target = "operations" if settings.operations is not None else "parameters"
    return f"channels to {100 * getattr(settings, target):g}% of {target}"


def make_quantization_aware(settings: QuantizationAware, total_steps: int) -> compression.QuantizationAware:
    """Ranges and statistics stay in the last fifth of the steps."""
    chosen = settings.model_dump(include={"bits", "activation_bits", "algorithm", "skip"})
    return compression.QuantizationAware(**chosen, freeze=max(1, total_steps - total_steps // 5))


def _quantization_aware(settings: QuantizationAware) -> str:
    bits = [f"{settings.bits}-bit weights"] if settings.bits != 8 else []
    bits += [f"{settings.activation_bits}-bit activations"] if settings.activation_bits != 8 else []
    learned = ["learned steps"] if settings.algorithm == "lsq" else []
    return ", ".join(["quantization-aware", *bits, *learned])


TECHNIQUES = {
    "channel_pruning": Technique(make_channel_pruning, _without_channels),
    "clustering": Technique(make_clustering, _clustered),
    "pruning": Technique(make_pruning, _pruned),
    "quantization_aware": Technique(make_quantization_aware, _quantization_aware, keeps_ranges=True),
}
