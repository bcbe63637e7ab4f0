"""Reproducible random numbers: each is a function of the seed, the example id, the view and a name.

There is no generator state, so numbers do not depend on the order, batch, process or thread in which they are drawn.
The name is hashed together with the seed and the view; the example id and the counter go through SplitMix64, a
counter-based generator. Quantiles are SciPy's: their last float64 bit may differ between processors and SciPy releases,
which rounding to float32 nearly always hides.
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
MIN_BETA_ALPHA = 1e-3  # below, quantiles of Beta(alpha, alpha) are out of float64 range


def splitmix64(states: np.ndarray, count: int) -> np.ndarray:
    """The first `count` numbers of a SplitMix64 generator, for each initial state in `states`.

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
    """Mixes the bits of a uint64 array: a bijection in which each input bit flips about half of the output bits."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Random numbers that depend only on (seed, example id, view, name).

    Each name identifies one stream: repeated draws return the same numbers, and `uniform`, `integers`, `normal` and
    `beta` with the same name use the same bits. Give each draw within an augmentation its own name.

    Args:
        seed: an integer, 0 to 2^32 - 1.
        ids: the example ids in the data set, integers `[b]`.
        view: the index of the view, from 0; equals the epoch if each epoch uses new views.
        path: set by `under`.

    Raises:
        ConfigurationError: not integers, or ids that are not a vector.

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
        """A separate stream for the same examples: its draw `n` is the draw `name/n` of this one."""
        return Draws(self.seed, self.ids, self.view, f"{self.path}{name}/")

    def bits(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """uint64 `[b, *shape]` with 64 random bits each."""
        text = f"{self.seed}:{self.view}:{self.path}{name}"
        states = _finalise(self.ids.view(np.uint64) ^ np.uint64(files.random_key(text)))
        return splitmix64(states, math.prod(shape)).reshape(len(self), *shape)

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """float64 `[b, *shape]`, uniform over [0, 1)."""
        return (self.bits(name, shape) >> np.uint64(11)) * 2.0**-53

    def integers(self, name: str, high: Any) -> np.ndarray:
        """int64 `[b]`, uniform over 0..high - 1.

        Args:
            high: an integer, or one per example `[b]`; 1 to 2^53.

        Raises:
            ConfigurationError: not integers in that range, or not one per example.
        """
        return (self.uniform(name) * self._checked_high(high)).astype(np.int64)

    def normal(self, name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """float32 `[b, *shape]`, standard normal, by inverting the distribution function."""
        from scipy.special import ndtri

        return ndtri((self.bits(name, shape) >> np.uint64(12)) * 2.0**-52 + 2.0**-53).astype(np.float32)

    def beta(self, name: str, alpha: float) -> np.ndarray:
        """float64 `[b]` in 0..1 from Beta(alpha, alpha), by inverting its distribution function.

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
                "Invalid 'high'.",
                received=repr(high),
                expected=f"a whole number, 1 <= high <= 2^53, or {len(self)} of them, one for each example",
            )
        )


def _checked_ids(ids: Any) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ConfigurationError(
            explain(
                "Invalid 'ids'.",
                received=f"{ids.dtype} of shape {ids.shape}",
                expected="whole numbers [b], one for each example",
            )
        )
    return np.ascontiguousarray(ids, dtype=np.int64)
