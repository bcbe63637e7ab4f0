"""Checks of keys that depend on each other, before Keras and its backend are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd.errors import RecipeError, explain
from keras_kd.recipes.reading.method_together import problems_of_method
from keras_kd.recipes.reading.schema import INHERITED, Distillation, Recipe
from keras_kd.recipes.reading.sides_together import problems_of_sides
from keras_kd.recipes.reading.snapshots import problems_of_snapshots
from keras_kd.recipes.reading.yaml_text import printable

ADVERSARIAL = "adversarial"


def check_together(recipe: Recipe) -> None:
    """Raises `RecipeError` with a line for each key that does not fit the others."""
    problems = [*problems_of_method(recipe), *problems_of_sides(recipe), *problems_of_snapshots(recipe)]
    problems += _of_robustness(recipe)
    if recipe.distillation.method == "distiller":
        problems += [*_of_adversaries(recipe), *_of_curriculum(recipe)]
    if problems:
        raise RecipeError("\n".join(problems))


def layers_read(loss: Any, role: str) -> list[str]:
    """The names of outputs and layers of `"teacher"` or `"student"` in the settings of a loss, inner losses included.

    >>> layers_read({"name": "hint", "teacher": ["a", "b"], "inner": {"teacher": "c"}}, "teacher")
    ['c', 'a', 'b']
    """
    if not isinstance(loss, dict):
        return []
    inner = [name for value in loss.values() for name in layers_read(value, role)]
    own = loss.get(role) or []
    return inner + ([own] if isinstance(own, str) else list(own) if isinstance(own, (list, tuple)) else [])


def _of_adversaries(recipe: Recipe) -> Iterator[str]:
    for section in ("distillation", "few_labels"):
        settings = getattr(recipe, section)
        is_inherited = section == "few_labels" and settings is not None and _same_attack(settings, recipe.distillation)
        if settings is None or is_inherited:
            continue
        if settings.adversary is not None:
            yield from _of_adversary(section, settings, recipe)
        elif settings.supervise == ADVERSARIAL:
            yield explain(
                f"{section}.supervise: there are no adversarial examples without an adversary.",
                received=f"supervise: {ADVERSARIAL}, adversary: null",
                expected="supervise: clean, or an adversary",
                fix=f"For example {section}.adversary: {{name: pgd, epsilon: 8/255}}.",
            )


def _same_attack(first: Distillation, second: Distillation) -> bool:
    """Whether two sections have the same adversary, inputs for the labels, and losses."""
    return all(getattr(first, key) == getattr(second, key) for key in INHERITED)


def _of_adversary(section: str, settings: Distillation, recipe: Recipe) -> Iterator[str]:
    adversary = settings.adversary
    yield from _of_epsilon(f"{section}.adversary.epsilon", adversary, recipe)
    if recipe.assistants:
        yield explain(
            f"{section}.adversary: only the student is attacked, and assistants would learn from clean images.",
            received=f"an adversary and {len(recipe.assistants)} assistant(s)",
            expected="assistants: [], or adversary: null",
            fix="Train a robust assistant in a recipe of its own, and name its file as teacher.model.",
        )
    read = {
        role: [name for loss in settings.losses or () for name in layers_read(loss, role)]
        for role in ("teacher", "student")
    }
    if settings.losses is not None and ADVERSARIAL not in read["student"] and settings.supervise != ADVERSARIAL:
        yield explain(
            f"{section}.adversary: it has no effect, since nothing is trained on the perturbed inputs.",
            received=f"losses without student: {ADVERSARIAL}, and supervise: clean",
            expected=f"a loss such as {{name: soft_targets, student: {ADVERSARIAL}}}, or supervise: {ADVERSARIAL}",
        )
    if recipe.cache is not None and (adversary.objective == "adaptive_kl" or ADVERSARIAL in read["teacher"]):
        yield explain(
            f"{section}.adversary: a cache has no outputs for perturbed inputs.",
            received=f"a cache, and objective: adaptive_kl or a loss with teacher: {ADVERSARIAL}",
            expected="cache: null, or an objective and losses that read the teacher's outputs for the clean inputs",
        )


def _of_robustness(recipe: Recipe) -> Iterator[str]:
    if recipe.measure.robustness is not None:
        yield from _of_epsilon("measure.robustness.epsilon", recipe.measure.robustness, recipe)


def _of_curriculum(recipe: Recipe) -> Iterator[str]:
    settings, few = recipe.data.curriculum, recipe.few_labels
    if settings is None:
        return
    if recipe.student.epochs is None:
        yield explain(
            "data.curriculum: it has no effect, since the student is only compressed.",
            received=f"name: {settings.name}, and student.epochs: null",
            expected="data.curriculum: null, or a number of epochs",
        )
    if few is not None and (settings.name == "teacher_loss" or settings.balanced):
        yield explain(
            "data.curriculum: it needs a label for each example, which the students with few labels do not have.",
            received=f"name: {settings.name}, balanced: {str(settings.balanced).lower()}, and few_labels",
            expected="few_labels: null, or another curriculum, which is not balanced",
        )
    if recipe.guidance == "all" and recipe.assistants and settings.name != "scores":
        yield explain(
            "data.curriculum: with several teachers, it is open which of them finds an example difficult.",
            received=f"name: {settings.name}, and guidance: all",
            expected="guidance: previous, or name: scores",
        )
    file = getattr(settings, "file", None)
    if file is not None and not Path(file).is_file():
        expected = "a .npy file with a number for each training example"
        yield explain("data.curriculum.file: file not found.", received=printable(file), expected=expected)


def _of_epsilon(key: str, settings: Any, recipe: Recipe) -> Iterator[str]:
    low, high = recipe.data.value_range
    if settings.norm == "linf" and settings.epsilon > high - low:
        yield explain(
            f"{key}: larger than the range of the inputs.",
            received=f"{settings.epsilon:g}, and data.value_range: [{low:g}, {high:g}]",
            expected=f"above 0, at most {high - low:g}",
            fix=f"It has the unit of the inputs: 8 of 255 shades are {8 * (high - low) / 255:.4g} here.",
        )
