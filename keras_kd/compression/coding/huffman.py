"""Huffman coding of sequences of small whole numbers."""

from __future__ import annotations

import heapq
import itertools
import struct

import numpy as np

from keras_kd.errors import ConfigurationError, explain

_HEADER = struct.Struct("<IIH")  # how many symbols, bits and different symbols


def code_lengths(counts: dict[int, int]) -> dict[int, int]:
    """The number of bits of each symbol in an optimal prefix code; 1 for a single symbol.

    Source: D. Huffman, "A method for the construction of minimum-redundancy codes", 1952.

    >>> code_lengths({0: 5, 1: 2, 2: 1})
    {0: 1, 1: 2, 2: 2}
    """
    if len(counts) == 1:
        return dict.fromkeys(counts, 1)
    order = itertools.count()
    heap = [(count, next(order), (symbol,)) for symbol, count in sorted(counts.items())]
    heapq.heapify(heap)
    lengths = dict.fromkeys(sorted(counts), 0)
    while len(heap) > 1:
        (one, _, left), (other, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heappush(heap, (one + other, next(order), left + right))
    return lengths


def canonical_codes(lengths: dict[int, int]) -> dict[int, int]:
    """The code of each symbol as a number, from the lengths alone: ascending by length, then by symbol.

    >>> canonical_codes({0: 1, 1: 2, 2: 2})  # 0, 10, 11
    {0: 0, 1: 2, 2: 3}
    """
    codes, code, last = {}, 0, 0
    for symbol in sorted(lengths, key=lambda symbol: (lengths[symbol], symbol)):
        code <<= lengths[symbol] - last
        codes[symbol], last = code, lengths[symbol]
        code += 1
    return codes


def encode(symbols: np.ndarray) -> bytes:
    """A sequence of whole numbers from 0 to 65,535, with the table of its code.

    Args:
        symbols: `[n]`, of an integer dtype; n may be 0.
    """
    values, index, counts = np.unique(symbols, return_inverse=True, return_counts=True)
    if not len(values):
        return _HEADER.pack(0, 0, 0)
    if values[0] < 0 or values[-1] >= 2**16:
        raise ConfigurationError(
            explain("These symbols cannot be coded.", received=f"{values[0]} to {values[-1]}", expected="0 to 65,535")
        )
    lengths = code_lengths(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    codes = canonical_codes(lengths)
    longest = max(lengths.values())
    table = np.array([[codes[value] >> bit & 1 for bit in reversed(range(longest))] for value in values.tolist()])
    used = np.array([[bit < lengths[value] for bit in reversed(range(longest))] for value in values.tolist()])
    index = index.reshape(-1)
    bits = table.astype("uint8")[index][used[index]]
    header = _HEADER.pack(len(symbols), len(bits), len(values) & 0xFFFF)
    sizes = np.array([lengths[value] for value in values.tolist()], "uint8")
    return header + values.astype("<u2").tobytes() + sizes.tobytes() + np.packbits(bits).tobytes()


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """The sequence that `encode` was given, and how many bytes of `data` it took."""
    num_symbols, num_bits, num_values = _HEADER.unpack_from(data)
    if not num_symbols:
        return np.empty(0, "int64"), _HEADER.size
    num_values = num_values or 2**16
    start = _HEADER.size
    values = np.frombuffer(data, "<u2", num_values, start).tolist()
    sizes = np.frombuffer(data, "uint8", num_values, start + 2 * num_values).tolist()
    start += 3 * num_values
    end = start + -(-num_bits // 8)
    bits = np.unpackbits(np.frombuffer(data[start:end], "uint8"))[:num_bits].tolist()
    lengths = dict(zip(values, sizes, strict=True))
    symbol_of = {(lengths[symbol], code): symbol for symbol, code in canonical_codes(lengths).items()}
    found, code, length = [], 0, 0
    for bit in bits:
        code, length = code << 1 | bit, length + 1
        if (length, code) in symbol_of:
            found.append(symbol_of[length, code])
            code = length = 0
    return np.array(found), end
