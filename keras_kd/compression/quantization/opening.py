"""Which layers compute several operations of an integer file, and what is rounded inside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras

from keras_kd.compression.inside import ITSELF, Inside
from keras_kd.compression.quantization.attention import InsideAttention
from keras_kd.compression.quantization.frozen_statistics import FrozenStatistics
from keras_kd.compression.quantization.inside import InsideActivation, InsideSeparable, InsideSum, QuantizedInside
from keras_kd.compression.quantization.normalization import InsideLayerNormalization
from keras_kd.compression.quantization.operations import Kind, kind_of
from keras_kd.compression.quantization.recurrent import InsideGRU, InsideLSTM, InsideRecurrent
from keras_kd.compression.quantization.settings import QuantizerSettings
from keras_kd.features.paths import layers_by_path
from keras_kd.keras_private import holds_layers

_KINDS: tuple[type[QuantizedInside], ...] = (
    InsideSeparable,
    InsideSum,
    InsideAttention,
    InsideLSTM,
    InsideGRU,
    InsideLayerNormalization,
    InsideActivation,
)


def insides(layer: keras.layers.Layer, settings: QuantizerSettings, calls: int) -> dict[str, Inside]:
    """What changes the computation of a layer and of the layers that it runs, by path; `ITSELF` for the layer.

    It rounds the tensors inside them, and freezes the statistics of batch normalizations.

    Args:
        layer: of the user's model; it is only read.
        settings: of the quantizers.
        calls: how often the layer runs in one step.
    """
    if (inside := _inside(layer, settings, calls)) is not None:
        return {ITSELF: inside}
    found = {path: _inside(inner, settings, calls * runs) for path, inner, runs in _open_layers(layer)}
    return {path: inside for path, inside in found.items() if inside is not None}


def _inside(layer: Any, settings: QuantizerSettings, calls: int) -> Inside | None:
    if (kind := _kind(layer)) is not None:
        return kind.of(layer, settings, calls)
    if settings.freeze is not None and isinstance(layer, keras.layers.BatchNormalization):
        return FrozenStatistics(settings.freeze, calls=calls)
    return None


def _open_layers(layer: Any) -> Iterator[tuple[str, Any, int]]:
    """The layers inside one, but not those inside layers that are rounded as a whole or recurrent.

    Yields:
        The path of each, the layer, and how often it runs when `layer` runs once.
    """
    if _is_closed(layer):
        return
    inside = {"": layer, **layers_by_path(layer)}
    closed: list[str] = []
    for path, inner in inside.items():
        if not path or any(path.startswith(f"{around}/") for around in closed):
            continue
        if _is_closed(inner):
            closed.append(path)
        parts = path.split("/")
        around = ["/".join(parts[:depth]) for depth in range(len(parts))]
        yield path, inner, math.prod(_num_steps(inside.get(one)) for one in around)


def _is_closed(layer: Any) -> bool:
    return _kind(layer) is not None or hasattr(layer, "cell")


def _num_steps(layer: Any) -> int:
    """How often a layer runs those inside it; 1 for a `TimeDistributed` over a number of steps that is not known."""
    if not isinstance(layer, keras.layers.TimeDistributed):
        return 1
    return layer.get_build_config()["input_shape"][1] or 1


def _kind(layer: Any) -> type[QuantizedInside] | None:
    return next((kind for kind in _KINDS if kind.fits(layer)), None)


def is_on_grid(layer: Any) -> bool:
    """Whether what is rounded inside a layer includes its outputs."""
    kind = _kind(layer)
    return kind is not None and issubclass(kind, InsideRecurrent)


def left_float(layer: Any) -> str:
    """What stays in floating point inside a layer; empty if nothing does."""
    if isinstance(layer, keras.layers.Bidirectional):
        return left_float(layer.forward_layer)
    if isinstance(layer, keras.layers.RNN) and not is_on_grid(layer):
        is_rolled = type(layer) in (keras.layers.LSTM, keras.layers.GRU)
        return "its steps stay float, as it is not unrolled" if is_rolled else "its steps stay float"
    if isinstance(layer, keras.layers.GroupQueryAttention | keras.layers.Attention):
        return "its scores stay float"
    inner = [one for _, one, _ in _open_layers(layer)] if isinstance(layer, keras.layers.Layer) else []
    reasons = dict.fromkeys(filter(None, map(left_float, inner)))
    if not reasons and _num_units(inner) > 1:
        return "what its layers pass to each other stays float"
    return "; ".join(reasons)


def _num_units(inner: list[Any]) -> int:
    """How many operations of an integer file the layers inside one are, which run in this order."""
    kinds = [kind_of(one) for one in inner if not holds_layers(one) or _is_closed(one)]
    kinds = [kind for kind in kinds if kind is not Kind.PASSED]
    return len(kinds[:1]) + sum(kind not in (Kind.NORMALIZATION, Kind.RELU) for kind in kinds[1:])
