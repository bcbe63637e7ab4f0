"""The cache of a teacher's outputs on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_kd.errors import TeacherError
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT, settings_key
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import pipeline, views
from keras_kd.recipes.stages.training_teacher import teacher_of_stages, teacher_settings
from keras_kd.teachers import CachedTeacher, Teacher
from keras_kd.teachers.cache.store import Store


def through_cache(teachers: Sequence[Stage], checked: CheckedRecipe) -> tuple[Sequence[Stage], list[Stage]]:
    """The teachers of the next model, or their cache if the recipe has one.

    Returns:
        The stages to read, and the stages to add to the plan.
    """
    if checked.recipe.cache is None:
        return teachers, []
    cache = Cache(teachers, checked)
    return [cache], [cache]


class Cache(Stage):
    """Writes a teacher's outputs for each view of each training example; an interrupted build resumes."""

    def __init__(self, teachers: Sequence[Stage], checked: CheckedRecipe):
        recipe, names = checked.recipe, [stage.id for stage in teachers]
        self.name = names[-1] if len(names) == 1 else f"up_to_{names[-1]}"
        self._root = Path(recipe.cache.folder) if recipe.cache.folder else None
        settings = {
            "seed": recipe.seed,
            "augment": recipe.augment,
            f"data{FINGERPRINT}": checked.source.fingerprint,
            "views": views(recipe) or 1,
            "cache": recipe.cache.model_dump(include={"top_k", "remainder"}),
            "layers": _named_layers(recipe),
            **checked.sides.taught_settings(),
            **teacher_settings(teachers, checked),
        }
        title = f"{self.name.replace('_', ' ')}, cache"
        makes = Artifact(role=Role.CACHE, title=title, kind="cache")
        super().__init__(f"cache_{self.name}", inputs=teachers, settings=settings, makes=makes)

    def run(self, context: Context) -> Artifact:
        recipe, sides = context.checked.recipe, context.checked.sides
        teacher = teacher_of_stages(self.inputs, context)
        num_views, folder = self.settings["views"], self._folder(context, teacher)
        examples = sides.student.train.num_examples
        context.progress.say(f"{self.makes.title}: {examples:,} examples x {num_views} view{'s' * (num_views != 1)}.")
        with context.progress.stage(self.makes.title, total=num_views * examples) as stage:
            cached = CachedTeacher.build(
                teacher,
                pipeline(recipe, sides.examples(lambda s: s.train), recipe.student, sides.student.num_classes),
                context.folder.path / folder,
                inputs=sides.inputs.get("teacher_inputs"),
                views=num_views,
                top_k=recipe.cache.top_k,
                remainder=recipe.cache.remainder,
                taps=list(teacher.inner_taps(dict.fromkeys(self.settings["layers"]))),
                shard=context.shard,
                num_shards=context.num_shards,
                progress=lambda steps: stage.advance(steps=steps),
            )
        return dataclasses.replace(self.makes, file=folder / "manifest.json", is_complete=cached is not None)

    def digest(self, file: Path) -> str | None:
        """The identity of the cache; it does not change if another recipe adds more views."""
        root = None if self._root is None else self._root.absolute()
        if root is not None and root not in file.absolute().parents:
            return None
        try:
            store = Store.read(file.parent)
        except TeacherError:
            return None
        keys = [key for key in store.keys() if key.view < self.settings["views"]]
        return store.manifest.identity if keys and store.files().keys() >= set(keys) else None

    def _folder(self, context: Context, teacher: Teacher) -> Path:
        """The folder of these outputs, which no other teacher, encoding, data or augmentation shares.

        Relative to the run folder, unless the recipe names one.
        """
        recipe, sides = context.checked.recipe, context.checked.sides
        data = dict.fromkeys(side.fingerprint for side in (sides.teacher, sides.student))
        augment = [recipe.seed, recipe.augment] if recipe.augment else []
        key = settings_key(teacher.fingerprint, recipe.cache.top_k, recipe.cache.remainder, *data, *augment)
        root = self._root.absolute() if self._root else Path("teacher_cache")
        return root / f"{self.name}-{key}"


def _named_layers(recipe: Any) -> list[str]:
    """The layers of the teacher that the recipe's losses name."""
    named = []
    for section in (recipe.distillation, recipe.few_labels):
        for loss in (section and section.losses) or ():
            named += _teacher_names(loss)
    return list(dict.fromkeys(named))


def _teacher_names(loss: Any) -> list[str]:
    if not isinstance(loss, dict):
        return []
    inner = [name for value in loss.values() if isinstance(value, dict) for name in _teacher_names(value)]
    own = loss.get("teacher") or []
    return inner + ([own] if isinstance(own, str) else list(own))
