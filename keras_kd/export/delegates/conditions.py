"""Conditions that tables share: each is a function that makes a condition on an operator."""

from __future__ import annotations

from collections.abc import Callable, Collection

from keras_kd.export.delegates.nodes import Node
from keras_kd.export.delegates.rules import Condition, Refusal

STATIC_ADVICE = "Export with a static batch, which is `export_tflite`'s default."
_SMALLER_RANK = "Reshape to fewer dimensions before it; fold the time or depth dimension into another one."


def ranks(allowed: Collection[int], places: Collection[int] | None = None, *, advice: str = _SMALLER_RANK) -> Condition:
    """Inputs have one of these numbers of dimensions; `places` restricts this to some, None to inputs and outputs."""

    def check(node: Node) -> Refusal | None:
        tensors = (*node.inputs, *node.outputs) if places is None else [node.input(place) for place in places]
        for one in tensors:
            if one is not None and len(one.shape) not in allowed:
                reason = f"a tensor has {len(one.shape)} dimensions, and the delegate takes {_listed(allowed)}"
                return Refusal("rank", reason, advice)
        return None

    return check


def dtypes(
    allowed: Collection[str],
    place: int = 0,
    *,
    of_output: bool = False,
    is_required: bool = False,
    advice: str = "",
) -> Condition:
    """A tensor has one of these dtypes; a missing one passes unless it is required."""

    def check(node: Node) -> Refusal | None:
        tensor = node.output(place) if of_output else node.input(place)
        if tensor is None:
            return Refusal("inputs", f"input {place} is missing") if is_required else None
        if tensor.dtype in allowed:
            return None
        what = "its output" if of_output else f"input {place}"
        return Refusal("dtype", f"{what} is {tensor.dtype}, and the delegate takes {_listed(allowed)}", advice)

    return check


def constant(*places: int, advice: str = STATIC_ADVICE) -> Condition:
    """Inputs are constants of the file, if the operator has them."""

    def check(node: Node) -> Refusal | None:
        for place in places:
            if node.input(place) is not None and not node.is_constant(place):
                return Refusal("constant", f"input {place} is computed and has to be a constant", advice)
        return None

    return check


def computed(place: int) -> Condition:
    """An input is not a constant."""

    def check(node: Node) -> Refusal | None:
        return Refusal("constant", f"input {place} is a constant") if node.is_constant(place) else None

    return check


def counts(
    *,
    inputs: Collection[int] | None = None,
    computed: Collection[int] | None = None,
    constants: Collection[int] | None = None,
    outputs: Collection[int] | None = None,
) -> Condition:
    """The operator has one of these numbers of inputs, computed inputs, constant inputs and outputs."""

    def check(node: Node) -> Refusal | None:
        found = (
            ("inputs", len(node.operator.inputs), inputs),
            ("computed inputs", node.num_computed, computed),
            ("constant inputs", node.num_constants, constants),
            ("outputs", len(node.operator.outputs), outputs),
        )
        for what, number, allowed in found:
            if allowed is not None and number not in allowed:
                return Refusal("inputs", f"it has {number} {what}, and the delegate takes {_listed(allowed)}")
        return None

    return check


def setting(name: str, allowed: Collection[object], *, default: object = None, advice: str = "") -> Condition:
    """A setting has one of these values."""

    def check(node: Node) -> Refusal | None:
        value = node.option(name, default)
        if value in allowed:
            return None
        return Refusal("setting", f"{name} is {value}, and the delegate takes {_listed(allowed)}", advice)

    return check


def at_most(name: str, most: float, *, least: float = 0) -> Condition:
    """A setting that is a number is in a range."""

    def check(node: Node) -> Refusal | None:
        value = node.number(name, 1)
        if least <= value <= most:
            return None
        return Refusal("setting", f"{name} is {value}, and the delegate takes {least:g} to {most:g}")

    return check


def any_of(*conditions: Condition) -> Condition:
    """One of several conditions holds; the refusal is that of the last."""

    def check(node: Node) -> Refusal | None:
        refusals = [condition(node) for condition in conditions]
        return None if None in refusals else refusals[-1]

    return check


def require(holds: Callable[[Node], bool], refusal: Refusal) -> Condition:
    """A condition with a reason of its own."""
    return lambda node: None if holds(node) else refusal


def broadcasts(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two shapes broadcast, as in NumPy.

    >>> broadcasts((2, 3), (3,)), broadcasts((2, 3), (2,))
    (True, False)
    """
    pairs = zip(first[::-1], second[::-1], strict=False)
    return all(one == other or 1 in (one, other) for one, other in pairs)


def _listed(values: Collection[object]) -> str:
    """
    >>> _listed(("int8", "uint8")), _listed((1, 2, 3)), _listed((2, 4))
    ('int8 or uint8', '1 to 3', '2 or 4')
    """
    values = list(values)
    if len(values) > 2 and isinstance(values[0], int) and values == list(range(values[0], values[0] + len(values))):
        return f"{values[0]} to {values[-1]}"
    return " or ".join(str(one) for one in values)
