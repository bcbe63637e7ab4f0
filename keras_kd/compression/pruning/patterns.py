"""Patterns of zeros: unstructured, blocks of a matrix, and at most n of m neighbors."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from keras import ops

from keras_kd.compression.pruning import masks
from keras_kd.errors import ConfigurationError, explain


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Which weights are pruned one by one, in groups, or together.

    >>> str(get_pattern("2:4")), str(get_pattern((1, 4))), str(get_pattern("unstructured"))
    ('2:4', '1x4', 'unstructured')
    """

    def mask(self, scores: Any, sparsity: Any) -> Any:
        """The mask of a matrix of scores `(..., inputs, outputs)` at a sparsity."""
        return masks.unstructured(scores, sparsity)

    def units(self, scores: Any) -> Any:
        """The scores of what is pruned as one. Units that the pattern itself prunes have a score of -1."""
        return scores

    @property
    def needs_matrix(self) -> bool:
        return False

    @property
    def least_sparsity(self) -> float:
        """The sparsity that the complete pattern has by itself."""
        return 0.0

    def __str__(self) -> str:
        return "unstructured"


@dataclasses.dataclass(frozen=True)
class Blocks(Pattern):
    """Blocks of `height` inputs and `width` outputs are pruned as a whole."""

    height: int
    width: int

    def mask(self, scores, sparsity):
        return masks.blocks(scores, sparsity, (self.height, self.width))

    def units(self, scores):
        return masks.block_means(scores, (self.height, self.width))

    @property
    def needs_matrix(self):
        return True

    def __str__(self):
        return f"{self.height}x{self.width}"


@dataclasses.dataclass(frozen=True)
class NOfM(Pattern):
    """At most `n` of `m` neighboring inputs of an output are kept."""

    n: int
    m: int

    def mask(self, scores, sparsity):
        return masks.n_of_m(scores, sparsity, self.n, self.m)

    def units(self, scores):
        return ops.where(masks.structure_n_of_m(scores, self.least_sparsity, self.n, self.m) > 0, scores, -1.0)

    @property
    def needs_matrix(self):
        return True

    @property
    def least_sparsity(self):
        return 1.0 - self.n / self.m

    def __str__(self):
        return f"{self.n}:{self.m}"


def get_pattern(value: Any) -> Pattern:
    """A pattern from `"unstructured"`, a block such as `"1x4"` or `(1, 4)`, or `"2:4"` for 2 of 4.

    Raises:
        ConfigurationError: none of these.
    """
    if type(value) in (Pattern, Blocks, NOfM):  # others could not be saved by their text
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        value = "x".join(map(str, value))
    if isinstance(value, str):
        if value == "unstructured":
            return Pattern()
        if (sizes := _numbers(value, "x")) and min(sizes) >= 1:
            return Blocks(*sizes)
        if (sizes := _numbers(value, ":")) and 1 <= sizes[0] < sizes[1]:
            return NOfM(*sizes)
    raise ConfigurationError(
        explain(
            "Unknown 'pattern'.",
            received=repr(value),
            expected="'unstructured', a block such as '1x4', or '2:4' for at most 2 nonzero weights in every 4",
        )
    )


def _numbers(value: str, separator: str) -> tuple[int, int] | None:
    match = re.fullmatch(rf"(\d+)\s*{separator}\s*(\d+)", value)
    return match and (int(match[1]), int(match[2]))
