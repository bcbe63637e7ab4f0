"""The student that learns from synthesized images: the training with a generator, and the training on made images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_kd import data
from keras_kd.chain.fitting import fit
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.making import make_optimizer, views
from keras_kd.recipes.methods.making import make_data_free_distiller
from keras_kd.recipes.methods.pair import STUDENT, pair_of, part_of
from keras_kd.recipes.methods.synthesis import GeneratedImages, InvertedImages
from keras_kd.recipes.reading import schema
from keras_kd.recipes.reading.methods import DataFree, Generator
from keras_kd.recipes.stages.training import Training
from keras_kd.recipes.stages.training_teacher import teacher_settings


def plan_data_free(plan: Any, makes: Artifact) -> Iterator[Stage]:
    """The stages of a student that sees no data: its training, and the synthesis of images, in their order."""
    if isinstance(plan.checked.recipe.distillation.synthesizer, Generator):
        training = GeneratorTraining(plan)
        yield training
        yield StudentOfPair(training, makes)
        yield GeneratedImages(training, plan.checked)
    else:
        images = InvertedImages(plan["teacher"], plan.checked)
        yield images
        yield SynthesizedTraining(plan, makes, images)


def on_labeled_images(settings: DataFree) -> schema.Distillation:
    """The distillation on synthesized images, with the classes that they are for as labels."""
    given = settings.model_dump(include={"alpha", "temperature"}, exclude_none=True)
    return schema.Distillation(**given)


class SynthesizedTraining(Training):
    """Trains the student with its teacher on images made before."""

    def __init__(self, plan: Any, makes: Artifact, images: Stage):
        checked = plan.checked
        super().__init__(
            "distilled",
            model=checked.models["student"],
            checked=checked,
            makes=makes,
            views=views(checked.recipe),
            teachers=[plan["teacher"]],
            distillation=on_labeled_images(checked.recipe.distillation),
        )
        self.inputs = (*self.inputs, images)

    def split(self, context: Context, source: data.DataSource | None = None) -> data.Split:
        return context.synthesized


class GeneratorTraining(Training):
    """Trains the student and a generator of images in the same steps; makes a model with the outputs of both."""

    def __init__(self, plan: Any):
        checked, teacher = plan.checked, plan["teacher"]
        makes = Artifact(
            role=Role.GENERATOR, title="student distilled", kind="keras", file=Path(".state", "data_free.keras")
        )
        super().__init__(
            "data_free",
            model=checked.models["student"],
            checked=checked,
            makes=makes,
            views=None,
            settings={
                "distillation": checked.recipe.distillation.model_dump(),
                "value_range": checked.recipe.data.value_range,
                **teacher_settings([teacher], checked),
            },
        )
        self.inputs = (teacher,)

    def _build(self, context: Context, split: data.Split) -> keras.Model:
        """The distiller, which reads nothing of the training split but its size."""
        checked, settings = context.checked, self._model.settings
        recipe, distillation = checked.recipe, checked.recipe.distillation
        self._steps = distillation.synthesizer.steps_per_epoch or data.steps_per_epoch(split, settings.batch_size)
        total_steps = settings.epochs * self._steps
        student = self.first_model(context, total_steps)
        if not student.built:
            student.build((None, *checked.source.input_shape))
        options = {"value_range": recipe.data.value_range, "seed": recipe.seed}
        distiller = make_data_free_distiller(context.teacher, student, distillation, total_steps, **options)
        self._generator = distiller.generator
        return distiller

    def finished_model(self, model: keras.Model) -> keras.Model:
        return pair_of(self._generator, model)

    def _train(self, context: Context, model: keras.Model, split: data.Split) -> dict[str, Any]:
        checked, settings = context.checked, self._model.settings
        synthesizer, total_steps = checked.recipe.distillation.synthesizer, settings.epochs * self._steps
        model.compile(
            make_optimizer(settings, total_steps),
            loss=checked.task.loss(model.student, mixed=False),
            metrics=checked.task.metrics(model.student),
            synthesizer_optimizer=keras.optimizers.Adam(synthesizer.learning_rate),
        )
        history = fit(
            model,
            None,
            name=self.title,
            epochs=settings.epochs,
            progress=context.progress,
            resume=self._resume(context),
            validation_data=data.evaluation_batches(checked.source.validation, settings.batch_size),
            made={"steps_per_epoch": self._steps, "batch_size": settings.batch_size},
        )
        conditions = {"examples": "of a generator", "steps": total_steps, "seed": checked.recipe.seed}
        conditions |= {name: value for name, value in settings.settings(mode="json").items() if name != "model"}
        return {"history": history, "conditions": conditions}


class StudentOfPair(Stage):
    """The student that was trained with a generator, as a model of its own."""

    def __init__(self, training: GeneratorTraining, makes: Artifact):
        super().__init__("distilled", inputs=[training], settings={}, makes=makes)

    def run(self, context: Context) -> Artifact:
        (training,) = self.inputs
        record = context.artifacts[training.id].record
        return context.save_model(self.makes, part_of(context.model(training.id), STUDENT), **record)
