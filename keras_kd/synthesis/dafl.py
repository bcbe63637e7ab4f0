"""A generator that is trained together with the student (DAFL)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_kd.errors import check_number
from keras_kd.features import ModelOutputs
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.synthesis.objectives import activation_loss, information_entropy_loss, one_hot_loss
from keras_kd.synthesis.synthesizer import Synthesizer


@register
class DAFL(Synthesizer):
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
        super().__init__(generator, value_range=value_range)
        self.features = features
        self.one_hot = check_number("one_hot", one_hot, at_least=0.0)
        self.activation = check_number("activation", activation, at_least=0.0)
        self.entropy = check_number("entropy", entropy, at_least=0.0)

    @property
    def names(self) -> list[str]:
        return ["one_hot", "entropy"] + (["activation"] if self.features else [])

    @property
    def taps(self) -> list[str]:
        return [self.features] if self.features else []

    def losses(self, teacher: ModelOutputs, student: ModelOutputs | None, temperature: Any) -> dict[str, Any]:
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
