"""A generator that is trained together with the student (DAFL)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.synthesis.generator import LATENT_SIZE, generator
from keras_kd.synthesis.objectives import activation_loss, information_entropy_loss, one_hot_loss


@register
class DAFL:
    """Data-free learning: a generator whose images the teacher classifies surely, evenly and with strong activations.

        loss = one_hot * mean(one_hot_loss) + activation * mean(activation_loss) + entropy * information_entropy_loss

    Source: Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu & Tian, "Data-Free Learning of Student Networks", 2019. Its published
    weights: 1, 0.1 and 5 for MNIST; 0.05, 0.01 and 5 for CIFAR-10.

    Args:
        generator: a Keras model from noise `[batch, latent_size]` to images of the teacher's input shape; None builds
            `keras_kd.synthesis.generator`.
        features: the path of the teacher's layer whose activations are to be strong, such as the last before the
            classifier; None leaves that loss out.
        one_hot, activation, entropy: the weights, at least 0.
        value_range: of the images of the generator that is built, see `generator`.

    Raises:
        ConfigurationError: a weight out of range.
    """

    def __init__(
        self,
        generator: keras.Model | None = None,
        *,
        features: str | None = None,
        one_hot: float = 1.0,
        activation: float = 0.1,
        entropy: float = 5.0,
        value_range: tuple[float, float] | None = None,
    ):
        self.generator, self.features = generator, features
        self.one_hot = check_number("one_hot", one_hot, at_least=0.0)
        self.activation = check_number("activation", activation, at_least=0.0)
        self.entropy = check_number("entropy", entropy, at_least=0.0)
        self.value_range = None if value_range is None else tuple(value_range)

    @property
    def names(self) -> list[str]:
        """The names of the losses in the logs."""
        return ["one_hot", "entropy"] + (["activation"] if self.features else [])

    @property
    def taps(self) -> list[str]:
        """The layers of the teacher that the losses read."""
        return [self.features] if self.features else []

    @property
    def latent_size(self) -> int:
        return self.generator.input_shape[-1]

    def prepare(self, image_shape: tuple[int | None, ...]) -> None:
        """Builds the generator, or checks the one that was given, for images of this shape.

        Raises:
            ConfigurationError: a generator of other images, or not from vectors of noise.
        """
        if self.generator is None:
            made = generator(image_shape, latent_size=LATENT_SIZE, value_range=self.value_range)
            self.generator = made
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

    def losses(self, teacher: ModelOutputs) -> dict[str, Any]:
        """The losses of the generator by name, weighted, each a scalar.

        Args:
            teacher: its logits and taps for generated images, with a gradient to these.
        """
        (logits,) = teacher.outputs.values()
        made = {"one_hot": self.one_hot * ops.mean(one_hot_loss(logits))}
        made["entropy"] = self.entropy * information_entropy_loss(logits)
        if self.features:
            made["activation"] = self.activation * ops.mean(activation_loss(teacher.taps[self.features]))
        return made

    def get_config(self) -> dict[str, Any]:
        names = ("features", "one_hot", "activation", "entropy", "value_range")
        return {"generator": serialize(self.generator), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DAFL:
        return cls(**{**config, "generator": deserialize(config["generator"])})
