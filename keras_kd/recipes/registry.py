"""The registry of stages: their order, and the recipe sections that enable some of them.

A new stage is one file and one registration:

    class Halve(Section):
        factor: float = 0.5

    @register("halve", Halve)
    def plan_halving(plan, settings):
        yield Halving("halved", inputs=[plan["distilled"]], settings=settings.model_dump(), makes=...)

The recipe then accepts a section `halve: {factor: 0.25}`. The models and files of the stage are measured and reported
by their roles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import create_model

from keras_kd.recipes.reading.schema import Recipe, Section

PHASES = (
    "teacher",
    "diagnosis",
    "assistants",
    "scratch",
    "distilled",
    "few labels",
    "compression",
    "export",
    "measure",
    "report",
)


@dataclasses.dataclass(frozen=True)
class Planner:
    """Adds stages to a plan.

    Attributes:
        plan: a function of the plan so far and the settings of `section` (or the recipe, without a section) that
            yields stages.
        section: the key of the recipe that enables it; None if it is always enabled.
        schema: of that section; None for a key of `Recipe` itself.
        phase: one of `PHASES`; within a phase, planners run in the order of registration.
    """

    plan: Callable[[Any, Any], Iterable[Any]]
    section: str | None
    schema: type[Section] | None
    phase: str


_PLANNERS: list[Planner] = []


def register(
    section: str | None = None, schema: type[Section] | None = None, *, phase: str = "compression"
) -> Callable[[Callable], Callable]:
    """Registers the decorated function as a `Planner`.

    Raises:
        ValueError: an unknown phase, or a section already used by another planner or the recipe itself.
    """
    taken = {*Recipe.model_fields, *(planner.section for planner in _PLANNERS if planner.schema)}
    if phase not in PHASES or (schema is not None and section in taken):
        raise ValueError(f"phase {phase!r} of {PHASES}; section {section!r}, taken are {sorted(taken)}")

    def registered(plan: Callable) -> Callable:
        _PLANNERS.append(Planner(plan, section, schema, phase))
        return plan

    return registered


def planners() -> list[Planner]:
    """All planners, in the order in which they plan."""
    return sorted(_PLANNERS, key=lambda planner: PHASES.index(planner.phase))


def recipe_class() -> type[Recipe]:
    """`Recipe` with the registered sections, each of which may be omitted or null."""
    schemas = {planner.section: planner.schema for planner in _PLANNERS if planner.schema is not None}
    if not schemas:
        return Recipe
    return create_model("Recipe", __base__=Recipe, **{name: (schema | None, None) for name, schema in schemas.items()})
