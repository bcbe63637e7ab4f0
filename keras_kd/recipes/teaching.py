"""Who teaches in a run: the trained teacher or a file, faster, with others as an ensemble, or from a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import data
from keras_kd.diagnosis import Diagnosis, diagnose
from keras_kd.errors import ConfigurationError, explain
from keras_kd.recipes.building import build, is_file
from keras_kd.recipes.folder import RunFolder, settings_key
from keras_kd.recipes.progress import RunProgress
from keras_kd.recipes.schema import Cache, Recipe, Training
from keras_kd.teachers import (
    CachedTeacher,
    Ensemble,
    FrozenTeacher,
    StoredLogits,
    Teacher,
    from_path,
)
from keras_kd.teachers.running import Runner

MAX_DIAGNOSED = 2000
_BATCH_SIZE = 256


def views(recipe: Recipe) -> int | None:
    """How many views of an image all students see, those of the cache; None is a fresh one each epoch."""
    return recipe.cache.views if recipe.cache is not None and recipe.augment else None


def pipeline(
    recipe: Recipe, split: data.Split, settings: Training, num_classes: int, views: int | None = None
) -> data.Pipeline:
    """The batches of a training; view v of an image is the same in every training of the run."""
    seed, augment = recipe.seed, list(recipe.augment)
    return data.Pipeline(split, augment, settings.batch_size, seed=seed, num_classes=num_classes, views=views)


def open_teacher(name: str, recipe: Recipe, source: data.DataSource) -> Teacher:
    """A trained teacher: from its file or folder, or what a function returns."""
    if is_file(name):
        return FrozenTeacher(name, inference=recipe.teacher.inference)
    is_function = ":" in name and not Path(name).exists()
    return build(name, source, recipe.seed) if is_function else from_path(name)


def check_file(name: str) -> None:
    """Raises `ConfigurationError` where a trained teacher is not there."""
    if not Path(name).exists():
        expected = "a .keras or .tflite file, or a SavedModel folder"
        raise ConfigurationError(explain("the file is not there.", received=name, expected=expected))


def teacher_of(recipe: Recipe, model: keras.Model | Path | None, source: data.DataSource) -> Teacher:
    """Who teaches: `model` (None where the recipe's teacher is no Keras model), alone or with others as an ensemble."""
    settings = recipe.teacher
    if model is not None:
        teacher = FrozenTeacher(model, inference=settings.inference)
    elif settings.inference is None:
        teacher = open_teacher(settings.model, recipe, source)
    else:
        raise ConfigurationError(
            explain(
                "Only a Keras model can be made faster.",
                received=f"inference: {settings.inference} with {settings.model}",
                expected="a Keras model, or inference: null",
            )
        )
    if not settings.ensemble_with:
        return teacher
    weights = list(settings.weights) if isinstance(settings.weights, tuple) else settings.weights
    others = [open_teacher(name, recipe, source) for name in settings.ensemble_with]
    return Ensemble([teacher, *others], weights=weights, combine=settings.combine)


def cached(
    teacher: Teacher,
    recipe: Recipe,
    source: data.DataSource,
    folder: RunFolder,
    progress: RunProgress,
    name: str,
    shard: int = 0,
    num_shards: int = 1,
) -> Teacher | None:
    """The teacher itself, or its cache where the recipe asks for one, built or gone on with.

    None where shares of other processes are still missing.
    """
    cache = recipe.cache
    if cache is None:
        return teacher
    inputs = pipeline(recipe, source.train, recipe.student, source.num_classes)
    num_views = views(recipe) or 1
    total = num_views * source.train.num_examples
    progress.say(f"{name}: cache of {source.train.num_examples:,} examples x {num_views} view(s).")
    with progress.stage(f"{name}, cache", total=total) as stage:
        return CachedTeacher.build(
            teacher,
            inputs,
            cache_folder(cache, folder, name, teacher),
            views=num_views,
            top_k=cache.top_k,
            remainder=cache.remainder,
            taps=_taps_read(recipe, teacher),
            shard=shard,
            num_shards=num_shards,
            progress=lambda steps: stage.advance(steps=steps),
        )


def cache_folder(cache: Cache, folder: RunFolder, name: str, teacher: Teacher) -> Path:
    """A folder for each teacher and encoding, so that another one does not meet the cache of the first."""
    key = settings_key(teacher.fingerprint, cache.top_k, cache.remainder)
    return (Path(cache.folder) if cache.folder else folder.path / "teacher_cache") / f"{name.replace(' ', '_')}-{key}"


def _taps_read(recipe: Recipe, teacher: Teacher) -> list[str]:
    """The inner layers of the teacher that the recipe's losses read."""
    named = []
    for section in (recipe.distillation, recipe.few_labels):
        for loss in (section and section.losses) or ():
            named += _teacher_names(loss)
    return list(teacher.inner_taps(dict.fromkeys(named)))


def _teacher_names(loss: Any) -> list[str]:
    if not isinstance(loss, dict):
        return []
    inner = [name for value in loss.values() if isinstance(value, dict) for name in _teacher_names(value)]
    own = loss.get("teacher") or []
    return inner + ([own] if isinstance(own, str) else list(own))


def asked_once(
    teacher: Teacher, recipe: Recipe, split: data.Split, losses: Any, progress: RunProgress, name: str
) -> Teacher:
    """The teacher's logits in memory where it would give the same ones in every epoch, or else the teacher itself.

    They are the same where nothing is augmented and no loss reads its layers: the training then costs one pass of the
    teacher instead of one each epoch.
    """
    shapes = teacher.output_shapes or {}
    is_same = isinstance(teacher, FrozenTeacher) and not recipe.augment and losses is None and len(shapes) == 1
    num_bytes = 4 * split.num_examples * sum(shape[-1] or 0 for shape in shapes.values())
    if not is_same or num_bytes > data.splits.MEMORY_LIMIT_BYTES:
        return teacher
    with progress.stage(f"{name}, teacher", total=split.num_examples) as stage:
        logits = predict(teacher, split, lambda steps: stage.advance(steps=steps))
    return StoredLogits({next(iter(shapes)): logits}, outputs="logits", fingerprint=teacher.fingerprint)


def predict(teacher: Teacher, split: data.Split, advance: Callable[[int], None] = lambda steps: None) -> np.ndarray:
    """The logits of any teacher for a whole split, `[examples, classes]`; `advance` gets the size of each batch."""
    runner, parts, start = Runner(teacher), [], 0
    for x, _ in data.evaluation_batches(split, _BATCH_SIZE).as_numpy_iterator():
        parts.append(next(iter(runner(np.arange(start, start + len(x)), 0, x).values())))
        start += len(x)
        advance(len(x))
    return np.concatenate(parts)


def diagnosis(teacher: Teacher, recipe: Recipe, source: data.DataSource) -> Diagnosis:
    """What a teacher is worth, on up to 2,000 images of the training and of the validation split each.

    A teacher that knows the training images alone, by their number: on the first of these.
    """
    if teacher.knows_one_set:
        first = np.arange(min(source.train.num_examples, MAX_DIAGNOSED))
        return diagnose(teacher, source.train.subset(first, "train").arrays(), progress=False)
    rng = np.random.default_rng(recipe.seed)
    splits = {}
    for name in ("train", "validation"):
        split = getattr(source, name)
        size = min(split.num_examples, MAX_DIAGNOSED)
        splits[name] = split.subset(rng.choice(split.num_examples, size, replace=False), name).arrays()
    return diagnose(teacher, splits["train"], validation=splits["validation"], progress=False)
