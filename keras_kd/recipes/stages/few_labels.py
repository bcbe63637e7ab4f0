"""The comparison of the student alone and distilled, with few labeled examples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import data
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import views
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages.assistants import teachers_of_student
from keras_kd.recipes.stages.training import Training


@register("few_labels", phase="few labels")
def plan_few_labels(plan: Any, few: Any) -> Iterator[Stage]:
    """The student trained alone on the labeled examples, and distilled on all examples, most without a label."""
    shared = {
        "model": plan.checked.models["student"],
        "checked": plan.checked,
        "views": views(plan.checked.recipe),
        "settings": {"num_labels": few.num_labels},
    }
    yield FewLabelsAlone(
        "few_scratch", makes=_makes(Role.SCRATCH, "scratch", few.num_labels), attacked_as=few, **shared
    )
    yield FewLabelsDistilled(
        "few_distilled",
        makes=_makes(Role.DISTILLED, "distilled", few.num_labels),
        teachers=teachers_of_student(plan),
        distillation=few,
        curriculum=plan.checked.recipe.data.curriculum,
        **shared,
    )


def _makes(role: Role, name: str, labels: int) -> Artifact:
    file = Path(".state", f"few_{name}.keras")
    return Artifact(role=role, title=f"{name}, {labels} labels", kind="keras", file=file, labels=labels)


class FewLabelsAlone(Training):
    """Trains on the labeled examples alone."""

    def split(self, context: Context, source: data.DataSource | None = None) -> data.Split:
        return few_label_splits(context.checked, source)[0]


class FewLabelsDistilled(Training):
    """Trains on all examples, most of them without a label."""

    def split(self, context: Context, source: data.DataSource | None = None) -> data.Split:
        return few_label_splits(context.checked, source)[1]


def few_label_splits(checked: CheckedRecipe, source: data.DataSource | None = None) -> tuple[data.Split, data.Split]:
    """The labeled examples, repeated to the size of the whole split; and the whole split without the other labels.

    Both give the same number of steps per epoch. `source` is one of the sides, by default that of the student; both
    have the same labels, and so the same examples are chosen.
    """
    train_split, num_labels = (source or checked.source).train, checked.recipe.few_labels.num_labels
    labeled, partly = data.few_labels(train_split, num_labels, checked.recipe.seed)
    repeated = np.sort(np.resize(np.arange(labeled.num_examples), train_split.num_examples))
    alone = labeled.subset(repeated, name=f"the {num_labels} labeled ones, repeated")
    return alone, partly.relabeled(partly.labels(), name=f"all, {num_labels} of them labeled")
