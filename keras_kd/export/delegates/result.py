"""The answer to whether a delegate takes a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keras_kd.export.delegates.rules import Refusal

Basis = Literal["by table", "run here"]


@dataclass(frozen=True)
class OperatorCheck:
    """Where one operator of a file runs.

    Attributes:
        graph: the index of its graph.
        place: its place in the graph, in execution order.
        name: as in LiteRT's schema, for example "CONV_2D".
        version: of the operator.
        output: the name of its first output tensor.
        is_taken: whether the delegate runs it.
        is_tolerated: whether it converts an input or output on the CPU, which is not a fallback.
        refusal: why the delegate does not run it; None if it does.
    """

    graph: int
    place: int
    name: str
    version: int
    output: str
    is_taken: bool
    is_tolerated: bool = False
    refusal: Refusal | None = None

    @property
    def is_fallback(self) -> bool:
        return not (self.is_taken or self.is_tolerated)

    def __str__(self) -> str:
        where = f"{self.place:>4}  {self.name}"
        return f"{where}: {self.refusal.reason}" if self.refusal else where


@dataclass(frozen=True)
class DelegateCheck:
    """Which operators of a file a delegate runs, and how this is known.

    Attributes:
        delegate: such as "gpu".
        title: the delegate's name in messages.
        basis: "by table": by the delegate's published rules, on no hardware; "run here": the delegate itself answered.
        source: where the rules come from, or what was run.
        operators: every operator of the graphs that a caller can run, without the dequantization of stored weights
            that the delegate reads itself.
        num_partitions: the number of subgraphs that the delegate runs.
        notes: what else there is to know.
    """

    delegate: str
    title: str
    basis: Basis
    source: str
    operators: tuple[OperatorCheck, ...]
    num_partitions: int
    notes: tuple[str, ...] = ()

    @property
    def fallbacks(self) -> tuple[OperatorCheck, ...]:
        """The operators that run on the CPU instead."""
        return tuple(one for one in self.operators if one.is_fallback)

    @property
    def num_taken(self) -> int:
        return sum(one.is_taken for one in self.operators)

    @property
    def is_whole(self) -> bool:
        """Whether the delegate runs every operator, and there is one."""
        return self.num_taken > 0 and not self.fallbacks

    @property
    def share(self) -> float:
        """The share of the operators that the delegate runs, 0 to 1."""
        return self.num_taken / len(self.operators) if self.operators else 0.0

    def reasons(self) -> Mapping[Refusal, tuple[str, ...]]:
        """The different reasons for fallbacks, and the names of the operators, one for each fallback."""
        found: dict[Refusal, list[str]] = {}
        for one in self.fallbacks:
            if one.refusal is not None:
                found.setdefault(one.refusal, []).append(one.name)
        return {refusal: tuple(names) for refusal, names in found.items()}

    def to_dict(self) -> Mapping[str, Any]:
        """The same as plain data, for JSON."""
        derived = {"is_whole": self.is_whole, "num_taken": self.num_taken, "share": self.share}
        return asdict(self) | derived

    def __str__(self) -> str:
        return "\n".join([self.headline(), *(f"  {line}" for line in self._lines())])

    def headline(self) -> str:
        taken = f"{self.num_taken} of {_count(len(self.operators), 'operator')}"
        where = f" in {_count(self.num_partitions, 'subgraph')}" if self.num_taken else ""
        return f"{self.title} ({self.basis}): {taken}{where}"

    def _lines(self) -> list[str]:
        lines = []
        for refusal, names in self.reasons().items():
            lines.append(f"{numbered(names)}: {refusal.reason}")
            lines += [f"  {refusal.advice}"] if refusal.advice else []
        return [*lines, *self.notes, f"Source: {self.source}"]


def numbered(names: Iterable[str]) -> str:
    """Names with how often they occur.

    >>> numbered(["ADD", "MUL", "ADD"])
    'ADD (x2), MUL'
    """
    return ", ".join(name if number == 1 else f"{name} (x{number})" for name, number in Counter(names).items())


def _count(number: int, noun: str) -> str:
    """
    >>> _count(1, "subgraph"), _count(2, "subgraph")
    ('1 subgraph', '2 subgraphs')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
