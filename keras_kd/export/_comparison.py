"""Compares a TFLite file with the Keras model that it was made from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, ExportError, explain
from keras_kd.export._saved_model import name_outputs, pack_inputs
from keras_kd.litert import Model, output_steps

FLOAT32_TOLERANCE = 0.01
_KERAS_BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """The largest absolute difference, the lowest agreement and the lowest signal-to-noise ratio, over the outputs.

    `agreement` and `snr`, in dB, are None if no output has classes, or real values other than zero.
    """

    max_difference: float
    agreement: float | None
    snr: float | None


def compare(
    model: keras.Model,
    file: Path,
    samples: dict[str, np.ndarray],
    *,
    exact: bool,
    min_snr: float | None = None,
    signature: str | None = None,
) -> Comparison:
    """Compares all outputs of the two on samples.

    Args:
        model: the Keras model.
        file: the TFLite file.
        samples: input name in the file -> array [n, ...], in the order of the model's inputs.
        exact: whether the two should be equal up to rounding.
        min_snr: the lowest signal-to-noise ratio in dB that is accepted of an output that differs by more than one step
            of its integers.
        signature: the name of the signature that computes what the model does; None for the main graph.

    Raises:
        ExportError: the file's outputs have other names or shapes, contain NaN or infinity, or differ more than they
            should.
    """
    expected, received = _run_keras(model, samples), _run_file(file, samples, signature)
    steps = output_steps(file.read_bytes(), signature) if min_snr is not None else {}
    differences, agreements, ratios = [], [], []
    for name, reference in expected.items():
        output = received.get(name)
        if output is None or output.shape != reference.shape:
            shape = "no such output" if output is None else f"shape {output.shape}"
            problem = f"Output {name!r} of the TFLite file does not match that of the Keras model."
            raise ExportError(explain(problem, received=shape, expected=f"shape {reference.shape}"))
        differences.append(_largest_difference(name, reference, output, exact=exact))
        agreements += _agreement(reference, output)
        is_rounding = differences[-1] <= steps.get(name, 0.0)  # one step of the output explains any ratio
        ratios += _checked_ratio(name, reference, output, None if is_rounding else min_snr)
    return Comparison(max(differences), min(agreements, default=None), min(ratios, default=None))


def signal_to_noise(reference: np.ndarray, output: np.ndarray) -> float:
    """10 log10 of the power of the reference over that of the difference, in dB; infinite for equal arrays.

    >>> signal_to_noise(np.array([1.0, 1.0]), np.array([1.1, 0.9]))
    20.0
    """
    reference, output = np.asarray(reference, np.float64), np.asarray(output, np.float64)
    signal, noise = np.square(reference).sum(), np.square(reference - output).sum()
    with np.errstate(divide="ignore"):
        return float(np.round(10 * (np.log10(signal) - np.log10(noise)), 6)) if noise else math.inf


def _agreement(reference: np.ndarray, output: np.ndarray) -> list[float]:
    """The share of equal predictions, in a list; an empty list for an output without classes."""
    if reference.dtype.kind in "iu":  # classes, such as those of an argmax
        return [float(np.mean(reference == output))]
    if reference.ndim > 1 and reference.shape[-1] > 1:
        return [float(np.mean(reference.argmax(-1) == output.argmax(-1)))]
    return []


def _checked_ratio(name: str, reference: np.ndarray, output: np.ndarray, min_snr: float | None) -> list[float]:
    if reference.dtype.kind != "f" or not reference.any():
        return []
    ratio = signal_to_noise(reference, output)
    if min_snr is not None and ratio < min_snr:
        raise ExportError(
            explain(
                f"Output {name!r} of the TFLite file differs from the Keras model's by more than rounding explains.",
                received=f"a signal-to-noise ratio of {ratio:.1f} dB",
                expected=f"at least {min_snr:g} dB",
                fix="Calibrate on more real samples, take a format with more bits, or accept it: lower `min_snr`.",
            )
        )
    return [ratio]


def _largest_difference(name: str, reference: np.ndarray, output: np.ndarray, *, exact: bool) -> float:
    exact = exact and reference.dtype.kind == "f"  # an index may change if two values are tied
    reference, output = reference.astype(np.float64), output.astype(np.float64)
    if not np.isfinite(output).all():
        fix = None if np.isfinite(reference).all() else "The Keras model returns them too."
        raise ExportError(explain(f"The TFLite file returns NaN or infinity for output {name!r}.", fix=fix))
    difference = float(np.abs(reference - output).max())
    limit = 1e-5 + FLOAT32_TOLERANCE * float(np.abs(reference).max())
    if exact and difference > limit:
        raise ExportError(
            explain(
                f"Output {name!r} of the float32 TFLite file differs from that of the Keras model.",
                received=f"a largest difference of {difference:.3g}",
                expected=f"at most {limit:.3g}, 1% of the largest output",
                fix="Look for a layer that is random at inference, or that depends on the batch.",
            )
        )
    return difference


def _run_keras(model: keras.Model, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name [n, ...], computed on the CPU: a GPU may round float32 to TF32."""
    parts = []
    with keras.device("cpu"):
        for start in range(0, len(next(iter(samples.values()))), _KERAS_BATCH):
            rows = slice(start, start + _KERAS_BATCH)
            flat = [keras.ops.convert_to_tensor(array[rows]) for array in samples.values()]
            outputs = name_outputs(model, model(pack_inputs(model, flat), training=False))
            parts.append({name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_file(file: Path, samples: dict[str, np.ndarray], signature: str | None) -> dict[str, np.ndarray]:
    """Outputs by name [n, ...], computed by LiteRT on one thread."""
    try:
        model = Model(file, num_threads=1, signature=signature)
        return model.predict({name: array for name, array in samples.items() if name in model.inputs})
    except ConfigurationError as error:
        fix = "Its kernels do not support what the converter wrote: try another `format`."
        raise ExportError(explain(f"LiteRT cannot run the converted file: {error}", fix=fix)) from error
