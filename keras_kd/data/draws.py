"""Random numbers that can be drawn again: each is a function of the seed, the example's id, the view and a name.

No generator is advanced, so it does not matter in which order, batch, process or thread the numbers are asked for. A
name's text is hashed together with the seed and the view; the example and the counter go through SplitMix64, a
counter-based generator. Normals use nothing but what IEEE 754 rounds in one way (+ - * / and the square root): the last
bit of NumPy's `log` depends on the processor's vector instructions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_kd import files
from keras_kd.data.checks import check_seed
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
_MAX_VIEW = 2**63 - 1
MIN_BETA_ALPHA = 1e-3  # below, the quantiles of Beta(alpha, alpha) leave the range of float64


def splitmix64(states: np.ndarray, count: int) -> np.ndarray:
    """The first `count` numbers of a SplitMix64 generator started at each of `states`.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.

    Args:
        states: uint64 `[b]`.
        count: numbers per state.

    Returns:
        uint64 `[b, count]`.

    >>> splitmix64(np.array([1234567], "uint64"), 2)
    array([[6457827717110365317, 3203168211198807973]], dtype=uint64)
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return _finalise(states[:, None] + steps)


def _finalise(z: np.ndarray) -> np.ndarray:
    """Stirs the bits of a uint64 array: a bijection in which each input bit changes about half of the output's."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Random numbers that are a function of (seed, example id, view, name) and of nothing else.

    A name is one stream: asked for again, it gives the same numbers, and `uniform`, `integers`, `normal` and `beta` of
    one name come from the same bits. Give each draw within an augmentation a name of its own.

    Args:
        seed: a whole number, 0 to 2^32 - 1.
        ids: the examples' numbers in the data set, whole numbers `[b]`.
        view: which of the views of an example, counted from 0; the epoch, where each epoch sees new ones.
        path: set by `under`.

    Raises:
        ConfigurationError: no whole numbers, or ids that are no vector.

    >>> one, three = Draws(0, [7], view=2), Draws(0, [5, 6, 7], view=2)
    >>> bool(one.uniform("shift")[0] == three.uniform("shift")[2])
    True
    """

    def __init__(self, seed: int, ids: Any, view: int, path: str = ""):
        self.seed = check_seed(seed)
        self.ids = _checked_ids(ids)
        self.view = check_integer("view", view, at_least=0, at_most=_MAX_VIEW)
        self.path = path

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Draws(seed={self.seed}, ids={self.ids!r}, view={self.view}, path={self.path!r})"

    def under(self, name: str) -> Draws:
        """A stream of its own for the same examples: its draw `n` is the draw `name/n` of this one."""
        return Draws(self.seed, self.ids, self.view, f"{self.path}{name}/")

    def for_ids(self, ids: Any) -> Draws:
        """The same stream for other examples."""
        return Draws(self.seed, ids, self.view, self.path)

    def bits(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """uint64 `[b, *shape]`, all 64 bits random."""
        text = f"{self.seed}:{self.view}:{self.path}{name}"
        states = _finalise(self.ids.view(np.uint64) ^ np.uint64(files.random_key(text)))
        return splitmix64(states, math.prod(shape)).reshape(len(self), *shape)

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """float64 `[b, *shape]`, evenly spread over [0, 1)."""
        return (self.bits(name, shape) >> np.uint64(11)) * 2.0**-53

    def integers(self, name: str, high: Any) -> np.ndarray:
        """int64 `[b]`, each evenly spread over 0..high - 1.

        Args:
            high: a whole number, or one for each example `[b]`; 1 to 2^53.

        Raises:
            ConfigurationError: no whole numbers in that range, or not as many as there are examples.
        """
        return (self.uniform(name) * self._checked_high(high)).astype(np.int64)

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """float32 `[b, *shape]` of mean 0 and standard deviation 1, by `normal_quantile`."""
        centred = (self.bits(name, shape) >> np.uint64(12)) * 2.0**-52 + (2.0**-53 - 0.5)
        return normal_quantile(centred).astype(np.float32)

    def beta(self, name: str, alpha: float) -> np.ndarray:
        """float64 `[b]` in 0..1 of the distribution Beta(alpha, alpha), by its quantiles.

        Those are SciPy's: another processor or release of it may differ in the last bit.

        Raises:
            ConfigurationError: `alpha` is not positive.
        """
        from scipy.special import betaincinv

        alpha = check_number("alpha", alpha, at_least=MIN_BETA_ALPHA)
        return betaincinv(alpha, alpha, self.uniform(name))

    def _checked_high(self, high: Any) -> np.ndarray:
        high = np.asarray(high)
        is_whole = high.dtype.kind in "iu" and np.all((high >= 1) & (high <= 2**53))
        if is_whole and high.shape in ((), (len(self),)):
            return high
        raise ConfigurationError(
            explain(
                "'high' is not usable.",
                received=repr(high),
                expected=f"a whole number, 1 <= high <= 2^53, or {len(self)} of them, one for each example",
            )
        )


def _checked_ids(ids: Any) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ConfigurationError(
            explain(
                "'ids' are not usable.",
                received=f"{ids.dtype} of shape {ids.shape}",
                expected="whole numbers [b], one for each example",
            )
        )
    return np.ascontiguousarray(ids, dtype=np.int64)


# The normal distribution.

_CENTRE = (
    (59.109374720, 159.29113202, 50.434271938, 3.3871327179),
    (67.187563600, 78.757757664, 17.895169469, 1.0),
)
_TAIL = (
    (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777),
    (0.12021132975, 0.73700164250, 1.0),
)
_FAR_TAIL = (
    (0.017337203997, 0.42868294337, 3.0812263860, 6.6579051150),
    (0.012258202635, 0.24197894225, 1.0),
)


def normal_quantile(centred: np.ndarray) -> np.ndarray:
    """The value below which a standard normal falls with probability `centred + 0.5`, right to 7 digits.

    Source: Wichura, "Algorithm AS 241: the percentage points of the normal distribution", 1988 (its PPND7).

    Args:
        centred: float64 of any shape, between -0.5 and 0.5 without the two.

    Returns:
        float64 of that shape.
    """
    values = centred * _ratio(_CENTRE, 0.180625 - centred * centred)
    is_tail = np.abs(centred) > 0.425
    tail = centred[is_tail]
    depth = np.sqrt(-_log(0.5 - np.abs(tail)))
    size = np.where(depth <= 5, _ratio(_TAIL, depth - 1.6), _ratio(_FAR_TAIL, depth - 5))
    values[is_tail] = np.copysign(size, tail)
    return values


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    above, below = (_polynomial(row, x) for row in coefficients)
    return above / below


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    """Horner's rule; the highest power's coefficient comes first."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value


def _log(x: np.ndarray) -> np.ndarray:
    """The natural logarithm to 9 digits: of the exponent, and by the series of `2 atanh((m - c) / (m + c))`."""
    mantissa, exponent = np.frexp(x)
    s = (mantissa - 0.75) / (mantissa + 0.75)
    odd = _polynomial((2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3, 2.0), s * s)
    return exponent * math.log(2) + (math.log(0.75) + s * odd)
