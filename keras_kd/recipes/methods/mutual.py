"""A student trained together with other models; the best of them is kept."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd import data
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.making import views
from keras_kd.recipes.methods.making import make_mutual_distiller, make_peers
from keras_kd.recipes.methods.self_taught import own_history
from keras_kd.recipes.stages.training import Training
from keras_kd.teachers.frozen import fingerprint


class MutualTraining(Training):
    """Trains the student and its peers with each other; makes the best on the validation split."""

    def __init__(self, plan: Any, makes: Artifact):
        recipe, models = plan.checked.recipe, plan.checked.models
        self._others = {id: model for id, model in models.items() if id.startswith("peer_")}
        identities = {f"{id} fingerprint": model.identity for id, model in self._others.items()}
        super().__init__(
            "distilled",
            model=models["student"],
            checked=plan.checked,
            makes=makes,
            views=views(recipe),
            settings={"distillation": recipe.distillation.model_dump(), **identities},
        )

    def distiller_of(self, context: Context, model: keras.Model, split: data.Split, total_steps: int) -> keras.Model:
        settings, others = context.checked.recipe.distillation, []
        for peer in self._others.values():
            others.append(peer.build())
            if not others[-1].built:
                others[-1].build((None, *context.checked.source.input_shape))
        peers = make_peers(model, others, settings)
        trained = peers.values() if settings.mode == "one" else [model, *others]  # saved as they were built
        self._peers = dict(zip(peers, trained, strict=True))
        self._starts = {name: fingerprint(peer) for name, peer in self._peers.items()}
        self._best = next(iter(peers))
        return make_mutual_distiller(peers, settings, total_steps)

    def student_of(self, model: keras.Model) -> keras.Model:
        return self._peers[self._best]

    def _train(self, context: Context, model: keras.Model, split: data.Split) -> dict[str, Any]:
        record = super()._train(context, model, split)
        student = next(iter(self._peers))
        conditions = record["conditions"] | {"initial weights": self._starts[self._best]}
        if self._best != student:
            conditions["peer"] = self._best.replace("_", " ")
        note = (
            f"{self.title}: {self._best.replace('_', ' ')} is the best of {len(self._peers)} peers ({self._measured})."
        )
        return record | {"conditions": conditions, "notes": [note]}

    def histories(self, history: dict[str, list[float]]) -> dict[str, list[float]]:
        """The history of the best peer on the validation split; of equal ones, the first."""
        curve = self._curve
        values = {name: history[f"val_{name}_{curve}"][-1] for name in self._peers}
        best = max if curve.endswith("accuracy") else min
        self._best = best(values, key=values.get)
        named = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
        self._measured = f"validation {curve.replace('_', ' ')}: {named}"
        return own_history(history, self._best)

    def _build(self, context: Context, split: data.Split) -> keras.Model:
        self._curve = context.checked.task.kind.curve
        return super()._build(context, split)
