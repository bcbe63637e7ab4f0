"""Factor transfer (Kim et al., 2018): matches factors of the last feature maps, the teacher's from an auto-encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_choice, check_number, explain
from keras_kd.features.projectors import published_uniform
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps, pool_to_smallest
from keras_kd.losses.numerics import flatten, l2_normalize, upcast
from keras_kd.losses.reduction import refuse_padding
from keras_kd.losses.trained import fixed_copy, unset
from keras_kd.serialization import deserialize, register, serialize

SLOPE = 0.1  # of the leaky ReLUs, for negative inputs


def factor_transfer(teacher_factor: Any, student_factor: Any, *, power: int = 1) -> Any:
    """`mean of |F_T / ||F_T|| - F_S / ||F_S|| |^power` over all entries of the factors, each flattened.

    The paper's value is the p-norm of the difference; this function takes the mean, as the published code does for
    p = 1 (Jangho-Kim/Factor-Transfer-pytorch), which the published weights refer to. If the factors differ in size, the
    larger is average-pooled to the smaller, as in RepDistiller.

    Source: Kim, Park & Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
    section 3.

    Args:
        teacher_factor, student_factor: `[batch, height, width, channels]` with the same channels.
        power: 1 or 2.

    Returns:
        `[batch]`.
    """
    factors = pool_to_smallest(*upcast(teacher_factor, student_factor))
    teacher, student = (l2_normalize(flatten(factor)) for factor in factors)
    difference = ops.abs(teacher - student) if power == 1 else ops.square(teacher - student)
    return ops.mean(difference, axis=-1)


@register
class Paraphraser(keras.Model):
    """A convolutional auto-encoder of the teacher's feature maps; its code is the teacher's factor.

    Six 3x3 convolutions with leaky ReLUs (slope 0.1): three encode `c` channels to `rate * c`, three decode. Fit it to
    the teacher's features as any Keras model, with the features as inputs and as targets; the published code does so
    with a mean absolute error.

    Source: as for `factor_transfer`. Published code initializes as PyTorch does, here too; its transposed convolutions
    have stride 1, which are convolutions.

    Args:
        rate: the channels of the factor, relative to those of the features; above 0.

    >>> paraphraser = Paraphraser(rate=0.5)
    >>> features = ops.ones((2, 4, 4, 6))
    >>> tuple(paraphraser(features).shape), tuple(paraphraser.encode(features).shape)
    ((2, 4, 4, 6), (2, 4, 4, 3))
    """

    def __init__(self, *, rate: float = 0.5, name: str = "paraphraser"):
        super().__init__(name=name, dtype="float32")
        self.rate = check_number("rate", rate, at_least=1e-6)
        self.encoder: list[layers.Conv2D] = []
        self.decoder: list[layers.Conv2D] = []

    def build(self, input_shape):
        channels = input_shape[-1]
        factor = factor_channels(channels, self.rate)
        self.encoder = _convolutions("encoder", channels, (channels, factor, factor))
        self.decoder = _convolutions("decoder", factor, (factor, channels, channels))

    def encode(self, features: Any) -> Any:
        """The factor, `[batch, height, width, rate * channels]`."""
        return _apply(self.encoder, features)

    def call(self, features):
        return _apply(self.decoder, self.encode(features))

    def get_config(self):
        return {"rate": self.rate, "name": self.name}


def factor_channels(channels: int, rate: float) -> int:
    """The number of channels of a factor; raises `ConfigurationError` if it would be 0."""
    factor = round(channels * rate)
    if factor < 1:
        raise ConfigurationError(
            explain(
                "The factor would have no channels.",
                received=f"rate={rate} for {channels} channels",
                expected=f"a rate of at least {1 / channels:g}",
            )
        )
    return factor


def _convolutions(name: str, channels: int, widths: Sequence[int]) -> list[layers.Conv2D]:
    """Built 3x3 convolutions, initialized as by PyTorch."""
    made = []
    for index, width in enumerate(widths):
        limit = 1.0 / math.sqrt(9 * channels)
        layer = layers.Conv2D(
            width,
            3,
            padding="same",
            kernel_initializer=published_uniform(),
            bias_initializer=initializers.RandomUniform(-limit, limit),
            dtype="float32",
            name=f"{name}_{index}",
        )
        layer.build((None, None, None, channels))
        made.append(layer)
        channels = width
    return made


def _apply(convolutions: Sequence[layers.Conv2D], features: Any) -> Any:
    for layer in convolutions:
        features = ops.leaky_relu(layer(features), negative_slope=SLOPE)
    return features


@registry.register
class FactorTransfer(DistillationLoss):
    """Trains the student's factor to match the direction of the teacher's, see `factor_transfer`.

    The teacher's factor is the code of a `Paraphraser`; the student's is made by a translator, three more 3x3
    convolutions, which this loss learns. In the paper the paraphraser is fitted first and then fixed: pass it as
    `paraphraser`, which copies it. Without one, the loss learns a paraphraser in the same steps: to the value it adds
    `reconstruction_weight` times the mean absolute error of the reconstructed features, whose gradient reaches the
    paraphraser alone, and the factor that the student is compared with has no gradient. The student then follows a
    factor that still changes in the first epochs.

    Use it on the last feature map, with a weight of 500 (the authors, CIFAR-10), 200 (RepDistiller) or 1000
    (torchdistill, ImageNet).

    Args:
        paraphraser: a `Paraphraser` that has been fitted to the features of the teacher's layer; None learns one.
        rate: the channels of the factor, relative to the teacher's; None is 0.5, or that of `paraphraser`.
        power: 1 or 2, see `factor_transfer`.
        reconstruction_weight: the weight of the reconstruction within this loss if the paraphraser is learned here. The
            default is 1 divided by the authors' weight of 500, so that with that weight it is learned as published.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = FactorTransfer(teacher="stage_3", student="stage_3", rate=0.5)
    >>> value = loss(ops.ones((2, 4, 4, 6)), ops.ones((2, 4, 4, 3)))
    >>> len(loss.trainable_weights), tuple(value.shape)
    (18, ())
    """

    def __init__(
        self,
        *,
        paraphraser: Paraphraser | None = None,
        rate: float | None = None,
        power: int = 1,
        reconstruction_weight: float = 0.002,
        **options: Any,
    ):
        super().__init__(**options)
        self.is_fitted = paraphraser is not None
        self.rate = _checked_rate(rate, paraphraser)
        self.power = check_choice("power", power, (1, 2))
        self.reconstruction_weight = check_number("reconstruction_weight", reconstruction_weight, at_least=0.0)
        self._paraphraser = fixed_copy(paraphraser, "paraphraser") if self.is_fitted else Paraphraser(rate=self.rate)

    def build(self, teacher_shape, student_shape):
        self._check(tuple(teacher_shape), tuple(student_shape))
        if not self._paraphraser.built:
            self._paraphraser.build(tuple(teacher_shape))
            self._paraphraser.built = True
        factor = factor_channels(teacher_shape[-1], self.rate)
        channels = student_shape[-1]
        self._translator = _convolutions("translator", channels, (channels, factor, factor))

    @property
    def trained_layers(self):
        return [self._paraphraser] if self.is_fitted else []

    def call(self, teacher, student, context):
        if context.mask is not None:
            refuse_padding(self.name, context.mask, "3x3 convolutions")
        teacher, student = upcast(teacher, student)
        factor = self._paraphraser.encode(teacher)
        translated = _apply(self._translator, student)
        values = factor_transfer(ops.stop_gradient(factor), translated, power=self.power)
        if self.is_fitted:
            return values
        error = ops.mean(flatten(ops.abs(_apply(self._paraphraser.decoder, factor) - teacher)), axis=-1)
        return values + self.reconstruction_weight * error

    def validate_outputs(self, teacher_outputs, student_outputs):
        self._check(tuple(teacher_outputs.shape), tuple(student_outputs.shape))

    def _check(self, teacher: tuple, student: tuple) -> None:
        check_feature_maps(self.name, teacher, student)
        factor_channels(teacher[-1], self.rate)
        fitted_for = self._paraphraser.encoder[0].kernel.shape[2] if self._paraphraser.built else teacher[-1]
        if fitted_for != teacher[-1]:
            raise ConfigurationError(
                explain(
                    f"The paraphraser of the loss {self.name!r} was fitted to other features.",
                    received=f"features with {teacher[-1]} channels",
                    expected=f"{fitted_for} channels",
                    fix="Fit a Paraphraser to the output of the layer that teacher= names.",
                )
            )

    def get_config(self):
        return {
            **super().get_config(),
            "paraphraser": serialize(self._paraphraser) if self.is_fitted else None,
            "rate": self.rate,
            "power": self.power,
            "reconstruction_weight": self.reconstruction_weight,
        }

    @classmethod
    def from_config(cls, config):
        return unset(cls(**{**config, "paraphraser": deserialize(config["paraphraser"])}))


def _checked_rate(rate: float | None, paraphraser: Any) -> float:
    if paraphraser is None:
        return check_number("rate", 0.5 if rate is None else rate, at_least=1e-6)
    if not isinstance(paraphraser, Paraphraser) or not paraphraser.built:
        raise ConfigurationError(
            explain(
                "Invalid 'paraphraser'.",
                received=f"a {type(paraphraser).__name__}"
                + (" without weights" * isinstance(paraphraser, Paraphraser)),
                expected="a keras_kd.losses.Paraphraser that has been fitted to the teacher's features",
                fix="Call its compile(loss='mean_absolute_error', ...) and fit(features, features), or pass None to "
                "learn a paraphraser with the student.",
            )
        )
    if rate not in (None, paraphraser.rate):
        raise ConfigurationError(
            explain("'rate' contradicts the paraphraser.", received=rate, expected=f"{paraphraser.rate}, or None")
        )
    return paraphraser.rate
