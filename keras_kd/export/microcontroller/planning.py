"""A plan of the memory for buffers that are in use at different times; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """Memory in use from one operator to another, both included.

    Attributes:
        num_bytes: of the memory.
        first, last: places of operators in their graph; -1 before the first.
    """

    num_bytes: int
    first: int
    last: int


def planned_bytes(buffers: Sequence[Buffer]) -> int:
    """The size of the memory that holds all buffers by `greedy_plan`."""
    starts = greedy_plan(buffers)
    return max((start + buffer.num_bytes for start, buffer in zip(starts, buffers, strict=True)), default=0)


def greedy_plan(buffers: Sequence[Buffer]) -> list[int]:
    """The first byte of each buffer, such that buffers in use at the same time do not overlap.

    The largest buffer comes first, and of equal ones the last; each takes the first gap that is large enough. This is
    the plan of LiteRT for Microcontrollers (tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc of
    2026-08-20).

    >>> greedy_plan([Buffer(64, -1, 0), Buffer(512, 0, 1), Buffer(192, 1, 2)])
    [512, 0, 512]
    """
    starts = [0] * len(buffers)
    placed: list[int] = []
    for index in sorted(range(len(buffers)), key=lambda index: (buffers[index].num_bytes, index), reverse=True):
        wanted = buffers[index]
        others = [other for other in placed if _meet(buffers[other], wanted)]
        starts[index] = _first_gap(
            sorted((starts[other], starts[other] + buffers[other].num_bytes) for other in others), wanted.num_bytes
        )
        placed.append(index)
    return starts


def _meet(one: Buffer, other: Buffer) -> bool:
    return one.first <= other.last and other.first <= one.last


def _first_gap(occupied: Sequence[tuple[int, int]], num_bytes: int) -> int:
    """The first byte behind or between pieces of memory [start, end), sorted, that has room for so many bytes."""
    start = 0
    for begin, end in occupied:
        if begin - start >= num_bytes:
            break
        start = max(start, end)
    return start
