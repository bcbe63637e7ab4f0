"""A weight as few bytes: shared values, gaps between nonzero weights, and Huffman codes for both."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from keras_kd.compression.coding import huffman

_RAW, _SHARED, _SPARSE, _SPARSE_SHARED = range(4)
_GAP_BITS = (5, 8)
_MOST_VALUES = 2**16


def encode_weight(value: np.ndarray) -> bytes:
    """The shortest of several encodings of a weight as float32; `decode_weight` gives exactly the same values.

    - Raw: 4 bytes a weight.
    - Shared: the table of the different values, and the Huffman-coded index of each weight.
    - Sparse: the nonzero weights alone, raw or shared, each with its distance from the one before it, Huffman-coded. A
      longer distance than 5 or 8 bits hold is bridged by zeros.

    Source: S. Han, H. Mao & W. Dally, "Deep Compression: compressing deep neural networks with pruning, trained
    quantization and Huffman coding", 2016, figure 2 and section 4.

    Args:
        value: of any shape and any float dtype of at most 32 bits.
    """
    flat = np.ascontiguousarray(value, "<f4").reshape(-1)
    shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
    return min((bytes([kind]) + shape + content for kind, content in _encodings(flat)), key=len)


def decode_weight(data: bytes) -> np.ndarray:
    """The float32 weight that `encode_weight` was given."""
    kind, rank = data[0], data[1]
    shape = struct.unpack_from(f"<{rank}I", data, 2)
    data = data[2 + 4 * rank :]
    if kind in (_RAW, _SHARED):
        return (_raw(data) if kind == _RAW else _decode_shared(data)).reshape(shape)
    gaps, used = huffman.decode(data)
    values = _raw(data[used:]) if kind == _SPARSE else _decode_shared(data[used:])
    flat = np.zeros(int(np.prod(shape)), "<f4")
    flat[np.cumsum(gaps + 1) - 1] = values
    return flat.reshape(shape)


def _encodings(flat: np.ndarray) -> Iterator[tuple[int, bytes]]:
    yield _RAW, flat.tobytes()
    shared = _shared(flat)
    if shared is not None:
        yield _SHARED, shared
    if not np.any(_is_zero(flat)):
        return
    for bits in _GAP_BITS:
        gaps, values = _bridged(flat, 2**bits)
        coded = huffman.encode(gaps)
        yield _SPARSE, coded + values.tobytes()
        if shared is not None:
            yield _SPARSE_SHARED, coded + _shared(values)


def _bridged(flat: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of zeros before each stored weight, below `longest`, and the stored weights, bridges included."""
    places = np.flatnonzero(~_is_zero(flat))
    gaps = np.diff(places, prepend=-1) - 1
    bridges = gaps // longest
    ends = np.cumsum(bridges + 1) - 1
    stored = np.full(int(np.sum(bridges + 1)), longest - 1, "int64")
    values = np.zeros(len(stored), "<f4")
    stored[ends], values[ends] = gaps % longest, flat[places]
    return stored, values


def _is_zero(flat: np.ndarray) -> np.ndarray:
    return flat.view("<u4") == 0  # not the zero with a sign


def _shared(flat: np.ndarray) -> bytes | None:
    values, index = np.unique(flat.view("<u4"), return_inverse=True)
    if len(values) >= _MOST_VALUES:
        return None
    return struct.pack("<H", len(values)) + values.tobytes() + huffman.encode(index.reshape(-1))


def _decode_shared(data: bytes) -> np.ndarray:
    (number,) = struct.unpack_from("<H", data)
    table = np.frombuffer(data, "<f4", number, 2)
    return table[huffman.decode(data[2 + 4 * number :])[0]]


def _raw(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4")
