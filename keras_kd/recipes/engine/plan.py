"""Plans the stages of a run from a checked recipe."""

from __future__ import annotations

import dataclasses

from keras_kd.evaluation.roles import Role
from keras_kd.recipes import registry
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.stages import (  # noqa: F401 - registers the stages of the package
    assistants,
    compress,
    diagnosis,
    distilled,
    exports,
    few_labels,
    measurements,
    report,
    robustness,
    scratch,
    teacher,
)


@dataclasses.dataclass
class Plan:
    """The stages of a run, ordered so that each comes after the stages that it reads.

    Attributes:
        checked: the checked recipe.
        folder: the run folder.
        stages: the stages planned so far.
    """

    checked: CheckedRecipe
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


def plan(checked: CheckedRecipe, folder: RunFolder) -> Plan:
    """All stages for a recipe.

    Raises:
        ValueError: two stages have the same id.
    """
    planned = Plan(checked, folder)
    for planner in registry.planners():
        settings = checked.recipe if planner.section is None else getattr(checked.recipe, planner.section)
        if settings is None:
            continue
        for stage in planner.plan(planned, settings):
            if stage.id in planned:
                raise ValueError(f"two stages with the id {stage.id!r}")
            planned.stages.append(stage)
    return planned
