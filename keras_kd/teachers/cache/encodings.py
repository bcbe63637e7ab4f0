"""Encodings of teacher outputs on disk: half-precision rows, or a few classes of each row.

Encodings convert NumPy outputs `[b, ...]` to the fields of a record and back.
"""

from __future__ import annotations

import abc
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, TeacherError, check_choice, check_integer, explain

REMAINDERS = ("uniform", "renormalized", "sampled")
_ZERO_MASS_GAP = 1e4
"""How far below the smallest stored logit a class without mass is placed: e^-500 of its mass at temperature 20."""


class Encoding(abc.ABC):
    """Converts outputs `[b, ...]` to the fields of a record and back."""

    @property
    @abc.abstractmethod
    def fields(self) -> list[tuple[Any, ...]]:
        """The fields of a NumPy record: `(name, dtype, shape)`."""

    @abc.abstractmethod
    def encode(self, values: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        """Encodes float `[b, ...]` as fields.

        Raises:
            TeacherError: values that are not finite or do not fit the dtype.
        """

    @abc.abstractmethod
    def decode(self, record: np.ndarray) -> np.ndarray:
        """Decodes fields to float32 `[b, ...]`."""

    @property
    def num_bytes(self) -> int:
        """Bytes per example and view."""
        return np.dtype(self.fields).itemsize

    def get_config(self) -> dict[str, Any]:
        return {"name": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Rows(Encoding):
    """Stores whole rows in `dtype`.

    >>> Rows((1000,)).num_bytes
    2000
    """

    shape: tuple[int, ...]
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self):
        check_choice("dtype", self.dtype, ("float16", "float32"))
        object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def fields(self):
        return [("values", self.dtype, self.shape)]

    def encode(self, values, draws):
        return {"values": _stored(values, self.dtype)}

    def decode(self, record):
        return record["values"].astype(np.float32)


@dataclass(frozen=True)
class TopK(Encoding):
    """Stores the `k` largest logits of a row; `remainder` determines the mass of the other classes.

    - `"uniform"`: their total mass at temperature 1 is stored and spread evenly over them.
    - `"renormalized"`: they get no mass; the kept classes sum to 1.
    - `"sampled"`: instead of the largest logits, `k` draws with replacement from softmax(logits / temperature) are
      stored; counts / k is an unbiased estimate of the teacher's distribution at that temperature. A. Anshumann et al.,
      "Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs", 2025.

    >>> TopK(10, num_classes=1000).num_bytes, TopK(100, num_classes=1000).num_bytes
    (42, 402)
    """

    k: int
    num_classes: int
    remainder: Literal["uniform", "renormalized", "sampled"] = "uniform"
    temperature: float = 1.0

    def __post_init__(self):
        check_integer("top_k", self.k, at_least=1, at_most=self.num_classes - 1)
        check_choice("remainder", self.remainder, REMAINDERS)
        if self.remainder == "sampled" and self.k > np.iinfo(np.uint16).max:
            raise ConfigurationError(explain("Too many draws.", received=self.k, expected="at most 65535"))

    @property
    def fields(self):
        index = ("index", np.min_scalar_type(self.num_classes - 1).str, (self.k,))
        if self.remainder == "sampled":
            return [index, ("count", np.min_scalar_type(self.k).str, (self.k,))]
        rest = [("rest", "<f2")] if self.remainder == "uniform" else []
        return [index, ("value", "<f2", (self.k,)), *rest]

    def encode(self, values, draws):
        logits = np.asarray(values, np.float32)
        if self.remainder == "sampled":
            return self._sample(_finite(logits), draws)
        order = np.argsort(-_finite(logits), axis=-1, kind="stable")
        index, others = order[:, : self.k], order[:, self.k :]
        kept = {"index": index, "value": _stored(np.take_along_axis(logits, index, -1), "float16")}
        if self.remainder == "renormalized":
            return kept
        return kept | {"rest": _stored(_log_mean_exp(np.take_along_axis(logits, others, -1)), "float16")}

    def _sample(self, logits: np.ndarray, draws: Draws) -> dict[str, np.ndarray]:
        scaled = logits.astype(np.float64) / self.temperature
        mass = np.exp(scaled - scaled.max(-1, keepdims=True))
        edges = np.cumsum(mass, -1)
        points = draws.uniform("sampled", (self.k,)) * edges[:, -1:]
        record = {"index": np.zeros(points.shape, np.int64), "count": np.zeros(points.shape, np.int64)}
        for row, (edge, point) in enumerate(zip(edges, points, strict=True)):
            drawn = np.minimum(np.searchsorted(edge, point, side="right"), self.num_classes - 1)
            classes, counts = np.unique(drawn, return_counts=True)
            record["index"][row, : len(classes)] = classes
            record["count"][row, : len(classes)] = counts
        return record

    def decode(self, record):
        if self.remainder == "sampled":
            return self._decode_sample(record)
        value = record["value"].astype(np.float32)
        floor = record["rest"].astype(np.float32) if self.remainder == "uniform" else value.min(-1) - _ZERO_MASS_GAP
        logits = np.repeat(floor[:, None], self.num_classes, axis=1)
        np.put_along_axis(logits, record["index"].astype(np.int64), value, axis=-1)
        return logits

    def _decode_sample(self, record: np.ndarray) -> np.ndarray:
        counts = np.zeros((len(record), self.num_classes), np.float32)
        rows = np.arange(len(record))[:, None]
        np.add.at(counts, (rows, record["index"].astype(np.int64)), record["count"])
        floor = np.float32(-_ZERO_MASS_GAP)
        with np.errstate(divide="ignore"):
            logits = np.float32(self.temperature) * np.log(counts / self.k)
        return np.where(counts > 0, logits, floor)


def from_config(config: dict[str, Any]) -> Encoding:
    """Creates an encoding from its `get_config`."""
    kinds = {"Rows": Rows, "TopK": TopK}
    settings = dict(config)
    return kinds[settings.pop("name")](**settings)


def _finite(values: np.ndarray) -> np.ndarray:
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(-1)
    if bad.any():
        raise TeacherError(
            explain(
                "The teacher returned values that are not finite.",
                received=f"NaN or infinity for {bad.sum()} of {len(values)} examples, the first at row {bad.argmax()}",
                expected="finite numbers",
            )
        )
    return values


def _stored(values: np.ndarray, dtype: str) -> np.ndarray:
    values = _finite(np.asarray(values, np.float32))
    largest, limit = float(np.abs(values).max(initial=0)), float(np.finfo(dtype).max)
    if largest > limit:
        raise TeacherError(
            explain(
                f"The teacher's outputs exceed the range of {dtype}.",
                received=f"up to {largest:g}",
                expected=f"at most {limit:g}",
                fix='Pass dtype="float32".',
            )
        )
    return values.astype(dtype)


def _log_mean_exp(values: np.ndarray) -> np.ndarray:
    top = values.max(-1, keepdims=True)
    return (top + np.log(np.exp(values - top).mean(-1, keepdims=True)))[..., 0]
