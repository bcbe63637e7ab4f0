"""The teacher of a training: one or several models, a cache on disk, or outputs in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_kd import data
from keras_kd.chain.progress import RunProgress
from keras_kd.data.sources import records
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import teacher_of_snapshots
from keras_kd.recipes.reading.schema import Recipe
from keras_kd.teachers import CachedTeacher, FrozenTeacher, Panel, StoredLogits, Teacher
from keras_kd.teachers.array_runner import TeacherRunner

BATCH_SIZE = 256


def teacher_settings(stages: Sequence[Stage], checked: CheckedRecipe) -> dict[str, Any]:
    """The settings that the outputs of these stages' models depend on, besides their artifacts."""
    roles = {stage.makes.role for stage in stages}
    own = {"teacher settings": checked.teacher_settings} if roles & {Role.TEACHER, Role.SNAPSHOTS} else {}
    return own | ({"snapshots": checked.recipe.teacher.snapshots.model_dump()} if Role.SNAPSHOTS in roles else {})


def teacher_of_stages(stages: Sequence[Stage], context: Context) -> Teacher:
    """The teacher made from the artifacts of these stages; several of them teach at once."""
    teachers = [_teacher(stage, context) for stage in stages]
    return teachers[0] if len(teachers) == 1 else Panel(teachers, names=[stage.id for stage in stages])


def _teacher(stage: Stage, context: Context) -> Teacher:
    if stage.makes.role is Role.TEACHER:
        return context.teacher
    if stage.makes.role is Role.SNAPSHOTS:
        paths = stage.paths(context.file(stage.id))
        return teacher_of_snapshots(context.checked.recipe, paths, context.checked.source)
    if stage.makes.role is Role.CACHE:
        return CachedTeacher.open(context.file(stage.id).parent)
    return FrozenTeacher(context.file(stage.id))


def teacher_in_memory(
    teacher: Teacher, recipe: Recipe, split: data.Split, losses: Any, progress: RunProgress, name: str
) -> Teacher:
    """The teacher's logits in memory if they are the same in every epoch, else the teacher itself.

    This applies if there is no augmentation and no loss reads the teacher's layers: the training then needs one pass of
    the teacher instead of one per epoch.
    """
    shapes = teacher.output_shapes or {}
    is_same = isinstance(teacher, FrozenTeacher) and not recipe.augment and losses is None and len(shapes) == 1
    num_bytes = 4 * split.num_examples * sum(_size(shape) for shape in shapes.values())
    if not is_same or num_bytes > records.MEMORY_LIMIT_BYTES:
        return teacher
    with progress.stage(f"{name}, teacher", total=split.num_examples) as stage:
        logits = predict(teacher, split, lambda steps: stage.advance(steps=steps))
    return StoredLogits({next(iter(shapes)): logits}, outputs="logits", fingerprint=teacher.fingerprint)


def _size(shape: tuple[int | None, ...]) -> int:
    """The number of values of an output for one example; infinite if an axis is not fixed."""
    return math.inf if None in shape[1:] else math.prod(shape[1:])


def predict(teacher: Teacher, split: data.Split, advance: Callable[[int], None] = lambda steps: None) -> np.ndarray:
    """The logits of any teacher for a split, `[examples, ..., outputs]`; `advance` receives each batch's size."""
    runner, parts, start = TeacherRunner(teacher), [], 0
    for x, _ in data.evaluation_batches(split, BATCH_SIZE).as_numpy_iterator():
        parts.append(next(iter(runner(np.arange(start, start + len(x)), 0, x).values())))
        start += len(x)
        advance(len(x))
    return np.concatenate(parts)
