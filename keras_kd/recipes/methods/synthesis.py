"""The stages that synthesize images: of a trained generator, or from a teacher alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checked import CheckedRecipe
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.methods.making import make_inversion
from keras_kd.recipes.methods.pair import IMAGES, part_of
from keras_kd.recipes.stages.training_teacher import BATCH_SIZE

_MAKES = Artifact(role=Role.SYNTHESIZED, title="synthesized images", kind="arrays", file=Path("synthesized.npz"))


class GeneratedImages(Stage):
    """Images of a trained generator, with the classes that the teacher predicts for them."""

    def __init__(self, training: Stage, checked: CheckedRecipe):
        settings = {"seed": checked.recipe.seed, "images": checked.recipe.distillation.synthesizer.images}
        super().__init__("synthesized", inputs=[training], settings=settings, makes=_MAKES)

    def run(self, context: Context) -> Artifact:
        generator = part_of(context.model(self.inputs[0].id), IMAGES)
        rng = np.random.default_rng(self.settings["seed"])
        noise = rng.normal(size=(self.settings["images"], generator.input_shape[-1])).astype("float32")
        images = generator.predict(noise, batch_size=BATCH_SIZE, verbose=0)
        predicted = context.teacher.model.predict(images, batch_size=BATCH_SIZE, verbose=0)
        classes = np.asarray(predicted, "float32").argmax(-1).astype("int64")
        return context.save_arrays(self.makes, images=images, classes=classes)


class InvertedImages(Stage):
    """Images optimized for classes of the teacher; an interrupted synthesis resumes after its last batch."""

    def __init__(self, teacher: Stage, checked: CheckedRecipe):
        recipe = checked.recipe
        settings = {
            "seed": recipe.seed,
            "value_range": recipe.data.value_range,
            "synthesizer": recipe.distillation.synthesizer.model_dump(),
        }
        super().__init__("synthesized", inputs=[teacher], settings=settings, makes=_MAKES)

    def run(self, context: Context) -> Artifact:
        recipe, folder = context.checked.recipe, self._folder(context)
        settings = recipe.distillation.synthesizer
        inversion = make_inversion(self._teacher(context), settings, recipe.data.value_range)
        made = self._made(folder, inversion.num_batches(settings.images))
        total = inversion.num_batches(settings.images) * settings.steps
        title = self.makes.title
        if made:
            context.progress.say(f"{title}: resuming after {len(made)} of {total // settings.steps} batches.")
        with context.progress.stage(title, total=total, done=len(made) * settings.steps) as stage:
            batches = inversion.batches(
                settings.images, seed=recipe.seed, first=len(made), advance=lambda steps: stage.advance(steps=steps)
            )
            for images, classes in batches:
                with files.replacing(folder / f"{len(made):06}.npz") as file, file.open("wb") as opened:
                    np.savez(opened, images=images, classes=classes)
                made.append((images, classes))
        images, classes = (np.concatenate(part) for part in zip(*made, strict=True))
        return context.save_arrays(self.makes, images=images, classes=classes)

    def clean_up(self, context: Context) -> None:
        for folder in context.folder.state.glob("synthesis-*"):  # those of other settings too
            shutil.rmtree(folder)

    def _folder(self, context: Context) -> Path:
        """Of the batches for this teacher and these settings."""
        (teacher,) = self.inputs
        digest = context.artifacts[teacher.id].digest or ""
        return context.folder.state / f"synthesis-{self.key()}-{digest[:16]}"

    def _teacher(self, context: Context) -> keras.Model:
        return context.model(self.inputs[0].id)

    def _made(self, folder: Path, most: int) -> list[tuple[Any, Any]]:
        """The batches made before an interruption, in order, up to the first that is missing."""
        files.remove_partial(folder)
        made = []
        while len(made) < most and (file := folder / f"{len(made):06}.npz").exists():
            with np.load(file) as arrays:
                made.append((arrays["images"], arrays["classes"]))
        return made
