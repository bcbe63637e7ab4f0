"""Prepares the terms for training: names in the logs, what each term reads, shape checks, building."""

from __future__ import annotations

from typing import Any

from keras_kd.distillers.objective import select
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.features.shapes import same_shape
from keras_kd.losses import DistillationLoss
from keras_kd.losses.keras_distiller import ShapeOnly

RESERVED = ("loss", "student_loss", "distillation_loss", "alpha")


def names_read(terms: list[DistillationLoss], role: str) -> list[str]:
    """The outputs and layers of the `"teacher"` or `"student"` that the terms name, without duplicates."""
    read = [getattr(term, role) for term in terms]
    flat = [name for item in read for name in (item if isinstance(item, tuple) else (item,))]
    return [name for name in dict.fromkeys(flat) if name is not None]


def check_names(terms: list[DistillationLoss]) -> None:
    """Raises `ConfigurationError` if names in the logs collide."""
    names = [term.name for term in terms]
    taken = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
    if taken:
        raise ConfigurationError(
            explain(
                "Each loss needs a unique name in the logs.",
                received=f"{names}",
                expected=f"other names for {taken}",
                fix="Pass name=... to the losses.",
            )
        )


def build_terms(terms: list[DistillationLoss], teacher: ModelOutputs, student: ModelOutputs) -> None:
    """Checks each term against the shapes it will read, and builds it; skips terms with unknown shapes.

    Raises:
        ConfigurationError: the shapes do not fit a term.
    """
    for term in terms:
        shapes = [
            select(model, getattr(term, role), term, role)
            for model, role in ((teacher, "teacher"), (student, "student"))
        ]
        if any(shape is None or None in (shape if isinstance(shape, list) else ()) for shape in shapes):
            continue
        term.validate_outputs(*map(_shaped, shapes))
        if not term.built:
            term.build(*shapes)
        elif term.weights:
            _check_learned_for(term, shapes)


def _check_learned_for(term: DistillationLoss, shapes: list[Any]) -> None:
    """Raises `ConfigurationError` if a term was built for features of different shapes."""
    learned_for = list(term.get_build_config()["shapes_dict"].values())
    sizes = [
        [tuple(shape) for shape in (side if isinstance(side[0], (list, tuple)) else [side])] for side in learned_for
    ]
    given = [side if isinstance(side, list) else [side] for side in shapes]
    if all(_agree(a, b) for a, b in zip(sizes, given, strict=True)):
        return
    raise ConfigurationError(
        explain(
            f"The loss {term.name!r} was built for other features.",
            received=f"teacher {shapes[0]}, student {shapes[1]}",
            expected=f"teacher {learned_for[0]}, student {learned_for[1]}",
            fix="Create a new loss and a new Distiller for other models.",
        )
    )


def _agree(one: list[tuple], other: list[tuple]) -> bool:
    """Whether shapes are equal wherever both are known."""
    return len(one) == len(other) and all(map(same_shape, one, other))


def _shaped(shape: Any) -> Any:
    return [ShapeOnly(item) for item in shape] if isinstance(shape, list) else ShapeOnly(shape)
