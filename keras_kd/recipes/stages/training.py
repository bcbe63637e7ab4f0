"""The stages that train a model, alone or by distillation."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_kd import data
from keras_kd.callbacks import Resume
from keras_kd.chain.fitting import fit
from keras_kd.distillers import AdversarialTraining
from keras_kd.evaluation.roles import Role
from keras_kd.recipes import curricula
from keras_kd.recipes.checked import CheckedRecipe, TrainedModel
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import make_adversary, make_distiller, make_optimizer, pipeline
from keras_kd.recipes.reading import schema
from keras_kd.recipes.reading.curricula import ByTeacher
from keras_kd.recipes.speed import build_ahead, steps_per_execution
from keras_kd.recipes.stages.training_teacher import teacher_in_memory, teacher_of_stages, teacher_settings
from keras_kd.teachers.frozen import fingerprint
from keras_kd.transfer import unfreeze_gradually

SAVE_EVERY_SECONDS = 5.0


class Training(Stage):
    """Trains a model; an interrupted training resumes from its last save.

    Args:
        id, makes: see `Stage`.
        model: the model to train, with its settings.
        checked: the checked recipe.
        views: the number of views of an example; None means a fresh view each epoch.
        teachers: the stages whose artifacts are its teachers: none, one (possibly a cache), or several at once.
        distillation: the settings of the distillation.
        continues: the stage whose model is trained further; None starts from the initial weights.
        settings: further settings that the result depends on.
        curriculum: the settings of the order of the examples; None uses each once in each epoch.
        attacked_as: the distillation whose adversary a training without a teacher has as well; None has none.
    """

    def __init__(
        self,
        id: str,
        *,
        model: TrainedModel,
        checked: CheckedRecipe,
        makes: Artifact,
        views: int | None,
        teachers: Sequence[Stage] = (),
        distillation: schema.Distillation | None = None,
        continues: Stage | None = None,
        settings: Mapping[str, Any] | None = None,
        curriculum: ByTeacher | None = None,
        attacked_as: schema.Distillation | None = None,
    ):
        recipe, self._side = checked.recipe, "teacher" if makes.role in (Role.TEACHER, Role.SNAPSHOTS) else "student"
        source = checked.sides.of(self._side)
        own = {
            "seed": recipe.seed,
            "augment": recipe.augment,
            f"data{FINGERPRINT}": source.fingerprint,
            **model.settings.settings(),
            f"untrained model{FINGERPRINT}": model.identity,
            "views": views,
            **(settings or {}),
            **curricula.identity_of(curriculum),
            **(checked.sides.views_settings(source) if recipe.augment else {}),
        }
        if teachers:
            own |= {"distillation": _given(distillation), "drop": recipe.drop}
            own |= teacher_settings(teachers, checked) | checked.sides.taught_settings()
        self._attacked_as = attacked_as if attacked_as is not None and attacked_as.adversary is not None else None
        if self._attacked_as is not None:
            own["adversary"] = _on_labels(attacked_as).adversary.model_dump()
        inputs = [*teachers, *([] if continues is None or continues in teachers else [continues])]
        super().__init__(id, inputs=inputs, settings=own, makes=makes)
        self._model, self._views, self._distillation = model, views, distillation
        self._curriculum = curriculum
        self._teachers, self.continues = tuple(teachers), continues

    def split(self, context: Context, source: data.DataSource | None = None) -> data.Split:
        """The training examples of one of the sides, all of them by default; None is the side of this model."""
        return (source or context.checked.sides.of(self._side)).train

    def first_model(self, context: Context, total_steps: int) -> keras.Model:
        """The model with which the training starts."""
        return self._model.build()

    def student_of(self, model: keras.Model) -> keras.Model:
        """The model that learns, from what is compiled and fitted."""
        return getattr(model, "student", model)

    def histories(self, history: dict[str, list[float]]) -> dict[str, list[float]]:
        """The history of the student, from that of `fit`."""
        return history

    def finished_model(self, model: keras.Model) -> keras.Model:
        """The model that is saved, from the trained one."""
        return model

    def optimizer(self, total_steps: int) -> keras.optimizers.Optimizer:
        """The optimizer of a training of `total_steps` steps."""
        return make_optimizer(self._model.settings, total_steps)

    def callbacks(self, context: Context) -> list[keras.callbacks.Callback]:
        """What is called after each epoch, before its state is saved."""
        return []

    def train(self, context: Context) -> tuple[keras.Model, dict[str, Any]]:
        """The trained model, or its distiller, and the record of the training."""
        split = self.split(context)
        model = self._build(context, split)
        keras.utils.set_random_seed(context.checked.recipe.seed)
        return model, self._train(context, model, split)

    def run(self, context: Context) -> Artifact:
        model, record = self.train(context)
        return context.save_model(self.makes, self.finished_model(self.student_of(model)), **record)

    def clean_up(self, context: Context) -> None:
        self._resume(context).clear()

    def skipped(self, file: Path | None) -> str:
        return f"{self.makes.title}: loaded {file}, trained before with these settings."

    def replacing(self, file: Path, reason: str) -> str:
        return f"{file.name}: {reason}, trained again."

    def _resume(self, context: Context) -> Resume:
        return Resume(context.folder.state / self.key(), every_seconds=SAVE_EVERY_SECONDS, keep_finished=True)

    def _build(self, context: Context, split: data.Split) -> keras.Model:
        """The model with its initial weights, or its distiller."""
        checked, settings = context.checked, self._model.settings
        total_steps = settings.epochs * data.steps_per_epoch(split, settings.batch_size)
        model = self.first_model(context, total_steps)
        if not model.built:
            model.build((None, *checked.sides.of(self._side).input_shape))
        return self.distiller_of(context, model, split, total_steps)

    def distiller_of(self, context: Context, model: keras.Model, split: data.Split, total_steps: int) -> keras.Model:
        """The distiller of a newly built model; without teachers, the model itself, or its adversarial training."""
        recipe, sides = context.checked.recipe, context.checked.sides
        if self._attacked_as is not None:
            return AdversarialTraining(model, make_adversary(_on_labels(self._attacked_as), recipe))
        if not self._teachers:
            return model
        teacher = teacher_of_stages(self._teachers, context)
        adversary = make_adversary(self._distillation, recipe)
        if adversary is None or adversary.objective != "adaptive_kl":  # which follows the teacher to other inputs
            seen = self.split(context, sides.teacher) if sides.differ else split
            losses = self._distillation.losses
            teacher = teacher_in_memory(teacher, recipe, seen, losses, context.progress, self.title)
        options = {"adversary": adversary, "inputs": sides.inputs}
        return make_distiller(teacher, model, self._distillation, total_steps, recipe.drop, recipe.seed, **options)

    def _batches(self, context: Context, split: data.Split) -> data.Pipeline:
        """The batches of the training; if the sides differ, pairs, or one side of them, in the same order and views."""
        checked, sides = context.checked, context.checked.sides
        examples = sides.examples(functools.partial(self.split, context)) if sides.differ else split
        curriculum = curricula.make_curriculum(self._curriculum)
        batches = pipeline(
            checked.recipe, examples, self._model.settings, sides.student.num_classes, self._views, curriculum
        )
        return batches.side(self._side) if sides.differ and not self._teachers else batches

    @property
    def title(self) -> str:
        return self.makes.title

    def _train(self, context: Context, model: keras.Model, split: data.Split) -> dict[str, Any]:
        """Compiles and fits; returns the history and the conditions that compared students must share."""
        checked, settings = context.checked, self._model.settings
        student = self.student_of(model)
        initial_weights = fingerprint(student)
        source, batches = checked.sides.of(self._side), self._batches(context, split)
        mixed = any(isinstance(step, data.Mixing) for step in batches.augment)
        model.compile(
            self.optimizer(settings.epochs * batches.steps_per_epoch),
            loss=checked.task.loss(student, mixed=mixed),
            metrics=checked.task.metrics(student),
            steps_per_execution=steps_per_execution(model, batches),
        )
        unfreezing = [unfreeze_gradually(settings.unfreeze)] if settings.unfreeze else []
        for callback in unfreezing:
            callback.prepare(model)
        build_ahead(model, batches)
        if self._teachers:
            batches = batches.with_teacher(model.teacher, inputs=checked.sides.inputs.get("teacher_inputs"))
            batches.views = self._views  # a cache may contain more views
        one_hot = checked.task.one_hot(mixed=mixed)
        history = fit(
            model,
            batches,
            name=self.title,
            epochs=settings.epochs,
            progress=context.progress,
            resume=self._resume(context),
            callbacks=[*unfreezing, *self.callbacks(context)],
            validation_data=data.evaluation_batches(source.validation, settings.batch_size, one_hot=one_hot),
        )
        conditions = {"initial weights": initial_weights} | _conditions(model, batches, settings, split)
        conditions |= curricula.described(self._curriculum)
        return {
            "history": checked.task.history(self.histories(history), split.labels()),
            "conditions": conditions,
        }


def _given(distillation: schema.Distillation) -> dict[str, Any]:
    """The settings of a distillation, without the method, and those of an adversary if it has none."""
    of_adversary = {"adversary", "supervise"} if distillation.adversary is None else set()
    return distillation.model_dump(exclude={"method", *of_adversary})


def _on_labels(distillation: schema.Distillation) -> schema.Distillation:
    """The same with an adversary that raises the cross-entropy with the labels, as without a teacher."""
    adversary = distillation.adversary.model_copy(update={"objective": "cross_entropy"})
    return distillation.model_copy(update={"adversary": adversary})


def _conditions(
    model: keras.Model, batches: data.Pipeline, settings: schema.Training, split: data.Split
) -> dict[str, Any]:
    """The conditions under which the training ran."""
    fresh = "a fresh one each epoch" if batches.views is None else batches.views
    return {
        "examples": split.name,
        "views": fresh if batches.augment else 1,
        "seed": batches.seed,
        "steps": int(model.optimizer.iterations),
        **{name: value for name, value in settings.settings(mode="json").items() if name != "model"},
        **_attacked(model),
    }


def _attacked(model: keras.Model) -> dict[str, str]:
    """The adversary of a training as a condition; none without one."""
    adversary = getattr(model, "adversary", None)
    if adversary is None:
        return {}
    steps = f"{adversary.steps} step{'s' * (adversary.steps != 1)}"
    return {"adversary": f"{type(adversary).__name__}, {adversary.norm} epsilon {adversary.epsilon:.4g}, {steps}"}
