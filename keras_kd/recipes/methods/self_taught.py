"""The student that teaches itself."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd import data
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.making import views
from keras_kd.recipes.methods.making import make_self_distiller
from keras_kd.recipes.stages.training import Training
from keras_kd.regimes.exits import MAIN


class SelfTaughtTraining(Training):
    """Trains the student with itself as the teacher: same start, order and views as alone."""

    def __init__(self, plan: Any, makes: Artifact, id: str = "distilled"):
        recipe = plan.checked.recipe
        super().__init__(
            id,
            model=plan.checked.models["student"],
            checked=plan.checked,
            makes=makes,
            views=views(recipe),
            settings={"distillation": recipe.distillation.model_dump(exclude={"keep_exits"})},
        )

    def distiller_of(self, context: Context, model: keras.Model, split: data.Split, total_steps: int) -> keras.Model:
        return make_self_distiller(model, context.checked.recipe.distillation, total_steps)

    def student_of(self, model: keras.Model) -> keras.Model:
        return model.strip()

    def histories(self, history: dict[str, list[float]]) -> dict[str, list[float]]:
        return own_history(history, MAIN)


def own_history(history: dict[str, list[float]], output: str) -> dict[str, list[float]]:
    """The history of one of several outputs, under the names that a model with a single output has.

    Its supervised loss is `loss` on both sides: the sum over all outputs does not compare with another training. The
    values of the other outputs stay, under their own names.

    >>> own_history({"loss": [3.0], "a_loss": [1.0], "val_loss": [4.0], "val_a_accuracy": [0.5]}, "a")
    {'total_loss': [3.0], 'loss': [1.0], 'val_accuracy': [0.5]}
    """
    is_one = not any(name.removeprefix("val_").startswith(f"{output}_") for name in history)
    if is_one:
        return history
    made = {}
    for name, values in history.items():
        prefix, own = ("val_", name[4:]) if name.startswith("val_") else ("", name)
        if own.startswith(f"{output}_"):
            made[f"{prefix}{own.removeprefix(f'{output}_')}"] = values
        elif own not in ("loss", "student_loss"):
            made[name] = values
        elif not prefix:
            made[f"total_{own}"] = values
    return dict(sorted(made.items(), key=lambda item: item[0] != "total_loss"))
