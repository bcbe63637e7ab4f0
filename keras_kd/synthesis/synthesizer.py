"""What every synthesizer of a `DataFreeDistiller` has."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.losses import DistillationLoss
from keras_kd.synthesis.generator import LATENT_SIZE, generator


class Synthesizer:
    """A generator of images, and the losses that train it; the base class of `DAFL` and `ZSKT`.

    Args:
        generator: a Keras model from noise `[batch, latent_size]` to images of the teacher's input shape; None builds
            `keras_kd.synthesis.generator`.
        value_range: of the images of the generator that is built, see `generator`.

    Attributes:
        reads_student: whether the losses compare the teacher with the student.
        student_steps: the student's steps for each step of the generator, on images from the same noise.
        is_bounded: as for `generator`, of the one that is built.
    """

    reads_student = False
    is_bounded = True
    student_steps = 1

    def __init__(self, generator: keras.Model | None = None, *, value_range: tuple[float, float] | None = None):
        self.generator = generator
        self.value_range = None if value_range is None else tuple(value_range)

    @property
    def names(self) -> list[str]:
        """The names of the losses in the logs."""
        raise NotImplementedError

    @property
    def taps(self) -> list[str]:
        """The layers of the teacher that the losses read."""
        return []

    @property
    def latent_size(self) -> int:
        return self.generator.input_shape[-1]

    def terms(self, num_classes: int) -> list[DistillationLoss]:
        """The terms of the student beside the one that follows from the compiled loss."""
        return []

    def losses(self, teacher: ModelOutputs, student: ModelOutputs | None, temperature: Any) -> dict[str, Any]:
        """The losses of the generator by name, weighted, each a scalar.

        Args:
            teacher: its logits and taps for generated images, with a gradient to these.
            student: its logits, with a gradient to the images and none to its weights; None unless `reads_student`.
            temperature: of the distiller, a scalar.
        """
        raise NotImplementedError

    def prepare(self, image_shape: tuple[int | None, ...]) -> None:
        """Builds the generator, or checks the one that was given, for images of this shape.

        Raises:
            ConfigurationError: a generator of other images, or not from vectors of noise.
        """
        if self.generator is None:
            settings = {"value_range": self.value_range, "is_bounded": self.is_bounded}
            self.generator = generator(image_shape, latent_size=LATENT_SIZE, **settings)
        is_model = isinstance(self.generator, keras.Model) and self.generator.built
        shapes = (self.generator.input_shape, self.generator.output_shape) if is_model else (None, None)
        if not is_model or len(shapes[0]) != 2 or tuple(shapes[1][1:]) != tuple(image_shape):
            raise ConfigurationError(
                explain(
                    "The generator does not make the teacher's inputs.",
                    received=f"{shapes[0]} to {shapes[1]}" if is_model else f"a {type(self.generator).__name__}",
                    expected=f"a built Keras model from (None, latent_size) to {(None, *image_shape)}",
                )
            )
