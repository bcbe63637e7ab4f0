"""Which layers compute several operations of an integer file, and what is rounded inside them."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.compression.inside import ITSELF
from keras_kd.compression.quantization.attention import InsideAttention
from keras_kd.compression.quantization.inside import InsideActivation, InsideSeparable, InsideSum, QuantizedInside
from keras_kd.compression.quantization.normalization import InsideLayerNormalization
from keras_kd.compression.quantization.recurrent import InsideGRU, InsideLSTM, InsideRecurrent
from keras_kd.compression.quantization.settings import QuantizerSettings
from keras_kd.features.paths import layers_by_path

_KINDS: tuple[type[QuantizedInside], ...] = (
    InsideSeparable,
    InsideSum,
    InsideAttention,
    InsideLSTM,
    InsideGRU,
    InsideLayerNormalization,
    InsideActivation,
)


def insides(layer: keras.layers.Layer, settings: QuantizerSettings, calls: int) -> dict[str, QuantizedInside]:
    """What rounds the tensors inside a layer and the layers that it runs, by path; `ITSELF` for the layer.

    Args:
        layer: of the user's model; it is only read.
        settings: of the quantizers.
        calls: how often the layer runs in one step.
    """
    if (kind := _kind(layer)) is not None:
        return {ITSELF: kind.of(layer, settings, calls)}
    if hasattr(layer, "cell"):
        return {}
    found: dict[str, QuantizedInside] = {}
    closed: list[str] = []
    for path, inner in layers_by_path(layer).items():
        if any(path.startswith(f"{around}/") for around in closed):
            continue
        if (kind := _kind(inner)) is not None:
            found[path] = kind.of(inner, settings, calls)
        if path in found or hasattr(inner, "cell"):
            closed.append(path)
    return found


def _kind(layer: Any) -> type[QuantizedInside] | None:
    return next((kind for kind in _KINDS if kind.fits(layer)), None)


def is_on_grid(layer: Any) -> bool:
    """Whether what is rounded inside a layer includes its outputs."""
    kind = _kind(layer)
    return kind is not None and issubclass(kind, InsideRecurrent)


def left_float(layer: Any) -> str:
    """What stays in floating point inside a layer; empty if nothing does."""
    if isinstance(layer, keras.layers.RNN) and not is_on_grid(layer):
        is_rolled = type(layer) in (keras.layers.LSTM, keras.layers.GRU)
        return "its steps stay float, as it is not unrolled" if is_rolled else "its steps stay float"
    if isinstance(layer, keras.layers.GroupQueryAttention | keras.layers.Attention):
        return "its scores stay float"
    return ""
