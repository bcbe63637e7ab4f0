"""The error that each operator of a quantized file adds."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.litert import Observer, read_file

_NUM_SAMPLES = 32
_ADD_NOTHING = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CAST")


def operators_by_error(content: bytes, quantized: bytes, samples: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """The operators of a float32 file, those whose quantization adds the largest error first.

    Args:
        content: a LiteRT file in float32.
        quantized: the same file quantized, whose tensors have the same names, as ai-edge-quantizer leaves them.
        samples: arrays by input name, the first 32 of which are run.

    Returns:
        For each operator that computes, by the noise-to-signal ratio of its output beyond the largest one of its
        inputs: the name of its first output, and those of the operators that compute its inputs. They belong together,
            since the
        error is often that of the tensor between them: a large channel hides what the small ones lose.
    """
    few = {name: array[:_NUM_SAMPLES] for name, array in samples.items()}
    ratios = noise_to_signal(content, quantized, few)
    graph = read_file(content).graphs[0]
    makers = {index: one for one in graph.operators for index in one.outputs}
    added = {}
    for one in graph.operators:
        name, *inputs = (graph.tensors[index].name for index in (*one.outputs[:1], *one.inputs) if index >= 0)
        if one.name not in _ADD_NOTHING and name in ratios:
            before = (makers[index] for index in one.inputs if index in makers)
            group = (name, *(graph.tensors[maker.outputs[0]].name for maker in before))
            added[group] = ratios[name] - max((ratios.get(other, 0.0) for other in inputs), default=0.0)
    return sorted(added, key=added.get, reverse=True)


def noise_to_signal(content: bytes, other: bytes, samples: Any) -> dict[str, float]:
    """The power of the difference over that of the values in the first file, for each real tensor that both have."""
    noise: dict[str, float] = {}
    signal: dict[str, float] = {}
    for values, others in zip(Observer(content).values(samples), Observer(other).values(samples), strict=True):
        for name in values.keys() & others.keys():
            first, second = (array[name].astype(np.float64) for array in (values, others))
            if values[name].dtype.kind == "f" and first.shape == second.shape:
                signal[name] = signal.get(name, 0.0) + float(np.square(first).sum())
                noise[name] = noise.get(name, 0.0) + float(np.square(first - second).sum())
    return {name: noise[name] / signal[name] for name in sorted(signal) if signal[name] > 0}
