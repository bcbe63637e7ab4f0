"""What a delegate takes, as data: rules for operators, and the table of a delegate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from keras_kd.export.delegates.nodes import Node

Kind = Literal[
    "constant",
    "dtype",
    "dynamic",
    "inputs",
    "operator",
    "partition",
    "rank",
    "setting",
    "size",
    "unexplained",
    "version",
]


@dataclass(frozen=True)
class Refusal:
    """Why a delegate does not take an operator.

    Attributes:
        kind: what it is about, such as "dtype".
        reason: a sentence without its first word's capital and without a period.
        advice: what to change in the Keras model or its export; empty if nothing is known.
    """

    kind: Kind
    reason: str
    advice: str = ""


Condition = Callable[[Node], Refusal | None]


@dataclass(frozen=True)
class Rule:
    """Under which conditions a delegate takes some operators.

    Attributes:
        operators: their names in LiteRT's schema.
        source: the file and function that this rule follows.
        max_version: the last version that is taken; None if the source has no limit.
        min_version: the first version that is taken.
        conditions: each returns why an operator is refused, or None.
    """

    operators: tuple[str, ...]
    source: str
    max_version: int | None = None
    min_version: int = 1
    conditions: tuple[Condition, ...] = ()

    def refusal(self, node: Node) -> Refusal | None:
        """Why the delegate does not take an operator; None if it does."""
        version = node.operator.version
        if not self.min_version <= version <= (version if self.max_version is None else self.max_version):
            return self._version_refusal(version)
        return next((found for one in self.conditions if (found := one(node)) is not None), None)

    def _version_refusal(self, version: int) -> Refusal:
        limit = f"up to version {self.max_version}" if self.min_version == 1 else f"only version {self.max_version}"
        return Refusal("version", f"it is version {version}, and the delegate takes {limit}")


@dataclass(frozen=True)
class Table:
    """The rules of one delegate.

    Attributes:
        name: as on the command line.
        title: in messages.
        source: where the rules come from, with the version and date.
        rules: for the operators that it takes.
        conditions: on every operator, before its rule.
        whole: conditions on every operator of which a single failure refuses the whole file.
        advice: what to do about operators that are not in the table, by operator.
        max_partitions: how many subgraphs it takes, the largest first; None if all.
        min_operators: of a subgraph.
        is_static: whether a tensor with a size that is only known at run time refuses the whole file.
        folds_float16: whether it reads float16 constants without their `DEQUANTIZE`.
        takes_first: whether it takes the first subgraphs rather than the largest.
        tolerates_ends: whether `QUANTIZE` at the start and `DEQUANTIZE` at the end may stay on the CPU.
        notes: what the user has to know about the delegate or its table.
    """

    name: str
    title: str
    source: str
    rules: tuple[Rule, ...]
    conditions: tuple[Condition, ...] = ()
    whole: tuple[Condition, ...] = ()
    advice: tuple[tuple[tuple[str, ...], str], ...] = ()
    max_partitions: int | None = None
    min_operators: int = 1
    is_static: bool = True
    folds_float16: bool = False
    takes_first: bool = False
    tolerates_ends: bool = False
    notes: tuple[str, ...] = ()

    def rule(self, operator: str) -> Rule | None:
        return next((rule for rule in self.rules if operator in rule.operators), None)

    def refusal(self, node: Node) -> Refusal | None:
        """Why the delegate does not take an operator; None if it does."""
        rule = None if node.operator.is_custom else self.rule(node.name)
        if rule is None:
            return Refusal("operator", "it is not in the delegate's table", self.advice_for(node.name))
        return first_refusal(self.conditions, node) or rule.refusal(node)

    def advice_for(self, operator: str) -> str:
        return next((text for names, text in self.advice if operator in names), "")


def first_refusal(conditions: Iterable[Condition], node: Node) -> Refusal | None:
    """The first refusal of several conditions."""
    return next((found for one in conditions if (found := one(node)) is not None), None)
