"""How many bytes the weights of a model take: as they are, in a compressed file, and entropy-coded."""

from __future__ import annotations

import dataclasses
import gzip

import keras
import numpy as np
from keras import ops

from keras_kd.compression.coding.weights import encode_weight
from keras_kd.compression.stripping import check_model, reparametrized_layers, strip
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.paths import layers_by_path
from keras_kd.surgery.weights import own_weights
from keras_kd.tables import format_table


@dataclasses.dataclass(frozen=True)
class LayerSize:
    """The sizes of the weights of one layer.

    Attributes:
        path: of the layer, as in `kd.taps`.
        num_weights: how many numbers they are.
        num_zeros: how many of them are exactly zero.
        num_values: how many different ones its largest weight has.
        float32_bytes: 4 for each.
        gzip_bytes: of the float32 bytes, as a download or an app package has them.
        coded_bytes: with shared values, gaps and Huffman codes, see `Sizes`.
    """

    path: str
    num_weights: int
    num_zeros: int
    num_values: int
    float32_bytes: int
    gzip_bytes: int
    coded_bytes: int


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of the weights of a model, by layer; prints as a table.

    The coded bytes are those of a complete encoding that can be decoded: for each weight, the shortest of float32
    numbers, a table of its different values with Huffman-coded indices, and the same for its nonzero weights with
    Huffman-coded distances between them. They include all tables, shapes, biases and statistics.
    """

    layers: tuple[LayerSize, ...]

    @property
    def float32_bytes(self) -> int:
        return sum(layer.float32_bytes for layer in self.layers)

    @property
    def gzip_bytes(self) -> int:
        return sum(layer.gzip_bytes for layer in self.layers)

    @property
    def coded_bytes(self) -> int:
        return sum(layer.coded_bytes for layer in self.layers)

    def __str__(self) -> str:
        rows = [(layer.path, layer.num_weights, layer.num_zeros, layer.num_values, layer) for layer in self.layers]
        totals = sum(layer.num_weights for layer in self.layers), sum(layer.num_zeros for layer in self.layers)
        rows.append(("total", *totals, None, self))
        header = ("layer", "weights", "zeros", "values", "float32 bytes", "gzip", "coded", "float32 / coded")
        return format_table([header, *(_cells(*row) for row in rows)])


def sizes(model: keras.Model) -> Sizes:
    """The bytes of the weights of a model as float32, after gzip, and entropy-coded as in Deep Compression.

    A model that is still being compressed is measured as `strip` returns it. The sizes are those of weights alone: a
    `.tflite` file has the graph in addition, and no format for entropy-coded weights.

    Source: S. Han, H. Mao & W. Dally, "Deep Compression: compressing deep neural networks with pruning, trained
    quantization and Huffman coding", 2016.

    Args:
        model: any built Keras model.

    Raises:
        ConfigurationError: not a model, or one without weights.

    >>> model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(10, "relu", kernel_initializer="ones")])
    >>> sizes(model).float32_bytes, sizes(model).coded_bytes < 200
    (4040, True)
    """
    check_model(model)
    if reparametrized_layers(model):
        model = strip(model)
    seen: set[int] = set()
    rows = []
    for path, layer in {"": model, **layers_by_path(model)}.items():
        weights = own_weights(layer) if isinstance(layer, keras.layers.Layer) else []
        new = [weight for weight in weights if id(weight) not in seen]
        seen.update(map(id, new))
        if new:
            rows.append(_size(path, [ops.convert_to_numpy(weight).astype("float32") for weight in new]))
    if not rows:
        raise ConfigurationError(
            explain(
                f"{model.name!r} has no weights to measure.",
                received="a model without weights, or one that is not built",
                expected="a model with weights",
            )
        )
    return Sizes(tuple(rows))


def _size(path: str, values: list[np.ndarray]) -> LayerSize:
    content = b"".join(value.tobytes() for value in values)
    return LayerSize(
        path,
        num_weights=sum(value.size for value in values),
        num_zeros=sum(int(np.sum(value == 0)) for value in values),
        num_values=len(np.unique(max(values, key=np.size))),
        float32_bytes=len(content),
        gzip_bytes=len(gzip.compress(content, 9, mtime=0)),
        coded_bytes=sum(len(encode_weight(value)) for value in values),
    )


def _cells(name: str, weights: int, zeros: int, values: int | None, found: LayerSize | Sizes) -> tuple[str, ...]:
    bytes_ = found.float32_bytes, found.gzip_bytes, found.coded_bytes
    numbers = (f"{weights:,}", f"{100 * zeros / max(weights, 1):.0f}%", "-" if values is None else f"{values:,}")
    return (name, *numbers, *(f"{size:,}" for size in bytes_), f"{bytes_[0] / max(bytes_[2], 1):.1f}")
