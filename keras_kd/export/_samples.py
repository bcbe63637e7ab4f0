"""Reads the user's calibration data or samples as one checked array per input of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.export._saved_model import ModelInput

MAX_STREAMED = 500
_OTHER_SCALE = 50  # pixels in 0..255 and pixels in 0..1 differ by a factor of 255
_FIX_DTYPE = "Scale the data as in training and convert it, for example `x.astype('float32')`."


def read_samples(name: str, data: Any, inputs: list[ModelInput]) -> dict[str, np.ndarray]:
    """One array [n, ...] per input, by its name, in the model's dtypes.

    Args:
        name: the argument's name, for messages.
        data: an array (for several inputs a list, tuple or dict of arrays), or an iterable of batches. A
            batch is what `model.fit` takes: inputs, or a tuple that starts with them. From an iterable, the
            first `MAX_STREAMED` examples are read.
        inputs: the model's inputs.

    Raises:
        ConfigurationError: no examples, or a shape or dtype that the model does not accept.
    """
    if _is_whole(data, inputs):
        arrays = _split(name, data, inputs)
    else:
        arrays = _gather(name, data, inputs)
    if not len(arrays[0]):
        raise ConfigurationError(_empty(name))
    named = dict(zip((one.name for one in inputs), arrays, strict=True))
    sizes = {key: len(array) for key, array in named.items()}
    if len(set(sizes.values())) > 1:
        problem = f"The inputs in {name!r} have different numbers of examples."
        raise ConfigurationError(explain(problem, received=sizes, expected="equal numbers"))
    return named


def random_samples(inputs: list[ModelInput], num_samples: int) -> dict[str, np.ndarray]:
    """Seeded random samples: uniform in [0, 1), and 0 or 1 for integer inputs."""
    generator = np.random.default_rng(0)
    draws = {one: generator.random((num_samples, *one.shape)) for one in inputs}
    return {
        one.name: (draw if np.dtype(one.dtype).kind == "f" else draw.round()).astype(one.dtype)
        for one, draw in draws.items()
    }


def _is_whole(data: Any, inputs: list[ModelInput]) -> bool:
    """Whether `data` is arrays rather than an iterable of batches."""
    if isinstance(data, (np.ndarray, Mapping)) or hasattr(data, "__array__"):
        return True
    several = isinstance(data, (list, tuple)) and len(inputs) > 1 and len(data) == len(inputs)
    return several and all(hasattr(part, "__array__") for part in data)


def _split(name: str, data: Any, inputs: list[ModelInput]) -> list[np.ndarray]:
    """The arrays of one batch, or of the whole data, in the inputs' order."""
    if isinstance(data, Mapping):
        keys = [one.name if one.name in data else one.key for one in inputs]
        if set(keys) != set(data):
            problem = f"The keys of {name!r} must be the model's inputs."
            raise ConfigurationError(explain(problem, received=sorted(data), expected=sorted(keys)))
        parts = [data[key] for key in keys]
    else:
        parts = list(data) if isinstance(data, (list, tuple)) else [data]
    if len(parts) != len(inputs):
        names = [one.name for one in inputs]
        problem = f"{name!r} must have one array for each input of the model."
        raise ConfigurationError(explain(problem, received=f"{len(parts)} arrays", expected=f"one for each of {names}"))
    return [_check(name, part, one) for part, one in zip(parts, inputs, strict=True)]


def _gather(name: str, data: Any, inputs: list[ModelInput]) -> list[np.ndarray]:
    if not isinstance(data, Iterable):
        expected = "an array of samples, or an iterable of batches"
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=type(data).__name__, expected=expected))
    batches, num_examples = [], 0
    for batch in data:
        inputs_of_batch = batch[0] if isinstance(batch, tuple) else batch  # (x, y) as in model.fit
        batches.append(_split(name, inputs_of_batch, inputs))
        num_examples += len(batches[-1][0])
        if num_examples >= MAX_STREAMED:
            break
    if not batches:
        raise ConfigurationError(_empty(name))
    for parts, one in zip(zip(*batches, strict=True), inputs, strict=True):
        _check_equal_sizes(name, parts, one)
    return [np.concatenate(parts)[:MAX_STREAMED] for parts in zip(*batches, strict=True)]


def _check_equal_sizes(name: str, parts: tuple[np.ndarray, ...], one: ModelInput) -> None:
    shapes = sorted({part.shape[1:] for part in parts})
    if len(shapes) > 1:
        problem = f"{name!r} has examples of several sizes for input {one.name!r}; a TFLite file takes a single size."
        received = ", ".join(map(str, shapes))
        raise ConfigurationError(explain(problem, received=received, expected="the size that the phone will use"))


def _check(name: str, part: Any, one: ModelInput) -> np.ndarray:
    """`part` as an array of the input's dtype; raises `ConfigurationError` if it does not fit."""
    array, wanted = np.asarray(part), np.dtype(one.dtype)
    kinds = "f" if wanted.kind == "f" else "iu" if wanted.kind in "iu" else wanted.kind
    if array.dtype.kind not in kinds:
        problem = f"{name!r} has a dtype that input {one.name!r} does not take."
        raise ConfigurationError(explain(problem, received=array.dtype, expected=one.dtype, fix=_FIX_DTYPE))
    fits = array.ndim == len(one.shape) + 1 and all(
        size is None or size == given for size, given in zip(one.shape, array.shape[1:], strict=True)
    )
    if not fits:
        problem = f"{name!r} has a shape that input {one.name!r} does not take."
        expected = f"({', '.join(map(str, ['n', *('any' if size is None else size for size in one.shape)]))})"
        raise ConfigurationError(explain(problem, received=array.shape, expected=expected))
    _check_values(name, array, wanted)
    return array.astype(wanted, copy=False)


def _check_values(name: str, array: np.ndarray, wanted: np.dtype) -> None:
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            broken = ~np.isfinite(array.astype(wanted, copy=False))
        if broken.any():
            rows = np.unique(np.nonzero(broken)[0])
            received = f"examples {', '.join(map(str, rows[:5]))}{' ...' if len(rows) > 5 else ''} (counted from 0)"
            problem = f"{name!r} contains NaN or infinity."
            raise ConfigurationError(explain(problem, received=received, expected="finite numbers"))
    elif wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if array.min() < limits.min or array.max() > limits.max:
            problem = f"{name!r} contains integers outside the range of {wanted}."
            received, expected = f"{array.min()}..{array.max()}", f"{limits.min}..{limits.max}"
            raise ConfigurationError(explain(problem, received=received, expected=expected))


def check_ranges(calibration: dict[str, np.ndarray], samples: dict[str, np.ndarray]) -> None:
    """Rejects calibration data that give no useful range for an input.

    Raises:
        ConfigurationError: all values of an input are equal, or on another scale than the samples.
    """
    for name, array in calibration.items():
        if array.dtype.kind != "f":
            continue
        low, high = float(array.min()), float(array.max())
        fix = "Pass real inputs, scaled as in training, both as 'calibration' and as 'samples'."
        if low == high:
            problem = f"The calibration of input {name!r} has a single value, so its range is unknown."
            raise ConfigurationError(explain(problem, received=f"{low:g}", expected="real samples", fix=fix))
        largest, other = max(abs(low), abs(high)), float(np.abs(samples[name]).max())
        if max(largest, other) > _OTHER_SCALE * min(largest, other):
            problem = f"Calibration and samples of input {name!r} are not on the same scale."
            received = f"values up to {largest:g} in 'calibration' and up to {other:g} in 'samples'"
            raise ConfigurationError(explain(problem, received=received, expected="both as in training", fix=fix))


def _empty(name: str) -> str:
    fix = "Pass a few hundred real samples. A generator that was used before is empty."
    return explain(f"{name!r} is empty.", received="0 examples", expected="at least 1", fix=fix)
