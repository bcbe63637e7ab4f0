"""From a checked recipe to the stages of its run."""

from __future__ import annotations

import dataclasses

from keras_kd.evaluation.roles import Role
from keras_kd.recipes import registry
from keras_kd.recipes.assembly import Assembly
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.stages import (  # noqa: F401 - registers the stages of the package
    assistants,
    diagnosis,
    distilled,
    exports,
    few_labels,
    measurements,
    report,
    scratch,
    teacher,
)


@dataclasses.dataclass
class Plan:
    """The stages of a run, in an order in which each comes after those that it reads.

    Attributes:
        assembly: the checked recipe.
        folder: of the run.
        stages: those planned so far.
    """

    assembly: Assembly
    folder: RunFolder
    stages: list[Stage] = dataclasses.field(default_factory=list)

    def __getitem__(self, id: str) -> Stage:
        """The stage with this id."""
        return next(stage for stage in self.stages if stage.id == id)

    def __contains__(self, id: str) -> bool:
        return any(stage.id == id for stage in self.stages)

    def of(self, *roles: Role) -> list[Stage]:
        """The stages that make artifacts of these roles, in order."""
        return [stage for stage in self.stages if stage.makes.role in roles]


def plan(assembly: Assembly, folder: RunFolder) -> Plan:
    """All stages that a recipe asks for.

    Raises:
        ValueError: two stages have one id.
    """
    planned = Plan(assembly, folder)
    for planner in registry.planners():
        settings = assembly.recipe if planner.section is None else getattr(assembly.recipe, planner.section)
        if settings is None:
            continue
        for stage in planner.plan(planned, settings):
            if stage.id in planned:
                raise ValueError(f"two stages with the id {stage.id!r}")
            planned.stages.append(stage)
    return planned
