"""From the student's shape to the teacher's: a small layer, trained with the student and thrown away with the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.serialization import register

KINDS = ("auto", "conv", "linear", "resize", None)
ACTIVATIONS = (None, "relu")

# What the published code has: PyTorch's batch normalisation, whose momentum of 0.1 is the weight of the new batch ...
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5, "dtype": "float32"}


def published_uniform() -> initializers.Initializer:
    """... and the first weights of its linear and convolutional layers, uniform within `1 / sqrt(inputs)`."""
    return initializers.VarianceScaling(scale=1.0 / 3.0, mode="fan_in", distribution="uniform")


@dataclasses.dataclass(frozen=True)
class Projection:
    """What has to happen to a student's features before they can be compared with the teacher's.

    Attributes:
        layout: what changes first: `"tokens"` (a map becomes a sequence), `"map"` (a sequence becomes a map),
            `"pool"` (a map becomes a vector) or None.
        size: the `(height, width)` to resize a map to, or None.
        channels: of the learned projection, or None where none is needed.
        kind: `"conv"` (1x1 convolution) or `"linear"` (Dense), each followed by batch normalisation.
    """

    layout: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    kind: str = "conv"

    @property
    def is_identity(self) -> bool:
        return self == Projection(kind=self.kind)

    def __str__(self) -> str:
        layouts = {"tokens": ["map to tokens"], "map": ["tokens to map"], "pool": ["pool"]}
        steps = layouts.get(self.layout, [])
        steps += [f"resize to {self.size[0]}x{self.size[1]}"] if self.size else []
        name = {"conv": "1x1 convolution", "linear": "linear"}[self.kind]
        steps += [f"{name} to {self.channels} channels + batch normalisation"] if self.channels else []
        return ", ".join(steps) or "none needed"


def plan_projection(teacher_shape: Any, student_shape: Any, kind: str | None = "auto") -> Projection:
    """What `kind` means for two shapes.

    Args:
        teacher_shape, student_shape: `(batch, ...)`: a vector `[batch, channels]`, a sequence
            `[batch, tokens, channels]` or a map `[batch, height, width, channels]`.
        kind: `"auto"` takes what the shapes ask for and no more. `"conv"` and `"linear"` learn a projection even where
            the channels agree. `"resize"` changes the spatial size alone, None nothing.

    Raises:
        ConfigurationError: shapes that cannot be brought together, or not by this kind.

    >>> print(plan_projection((None, 8, 8, 256), (None, 16, 16, 64)))
    resize to 8x8, 1x1 convolution to 256 channels + batch normalisation
    """
    check_choice("projector", kind, KINDS)
    teacher, student = tuple(teacher_shape), tuple(student_shape)
    layout = _layout(teacher, student)
    size = None
    if len(teacher) == 4 and layout is None and teacher[1:3] != student[1:3]:
        size = teacher[1:3]
    learned = kind in ("conv", "linear") or (kind == "auto" and teacher[-1] != student[-1])
    plan = Projection(
        layout=layout,
        size=size,
        channels=teacher[-1] if learned else None,
        kind="conv" if (len(teacher) == 4 and kind != "linear") else "linear",
    )
    fits = teacher[-1] == student[-1] or learned
    static = size is None or all(isinstance(value, int) for value in size)
    if not fits or not static or teacher[-1] is None or (kind is None and not plan.is_identity):
        raise ConfigurationError(
            explain(
                f"projector={kind!r} does not bring the student's features to the teacher's shape.",
                received=f"teacher {teacher}, student {student}",
                expected="equal shapes" if kind is None else "equal channels" if not fits else "known sizes",
                fix="projector='auto' learns what is missing." if kind != "auto" else None,
            )
        )
    return plan


@register
class Projector(layers.Layer):
    """Carries a `Projection` out. In float32; it belongs to a loss, never to the student.

    Source: the regressor of Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, as a 1x1 convolution with batch
    normalisation; where the student's map is larger than the teacher's it is average-pooled, where smaller,
    interpolated. Batch normalisation has the published code's epsilon (1e-5) and momentum (0.9), the kernel its initial
    weights.

    Args:
        teacher_shape: `(batch, ...)` of what the features become.
        kind: as for `plan_projection`.
        activation: `"relu"` ends a learned projection in one, as RepDistiller's regressor for hints; None does not.
        kernel_initializer: of the learned kernel; None is PyTorch's for its layers, uniform within `1 / sqrt(inputs)`.
    """

    def __init__(
        self,
        teacher_shape: Any,
        kind: str | None = "auto",
        *,
        activation: str | None = None,
        kernel_initializer: Any = None,
        name: str = "projector",
    ):
        super().__init__(name=name, dtype="float32")
        self.teacher_shape = tuple(teacher_shape)
        self.kind = check_choice("projector", kind, KINDS)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.kernel_initializer = initializers.get(kernel_initializer or published_uniform())
        self.plan = Projection()
        self.supports_masking = True

    def build(self, input_shape):
        self.plan = plan_projection(self.teacher_shape, input_shape, self.kind)
        self._check_activation(input_shape)
        self.learned = []
        if self.plan.channels is not None:
            make = {"conv": self._convolution, "linear": layers.Dense}[self.plan.kind]
            self.learned = [
                make(self.plan.channels, use_bias=False, kernel_initializer=self.kernel_initializer, dtype="float32"),
                layers.BatchNormalization(**BATCH_NORM),
            ]
            shape = (*self.teacher_shape[:-1], input_shape[-1])
            for layer in self.learned:
                layer.build(shape)
                shape = (*shape[:-1], self.plan.channels)

    def _convolution(self, channels, **settings):
        return layers.Conv2D(channels, 1, **settings)

    def call(self, features, counts=None, training=None):
        """The features in the teacher's shape.

        Args:
            features: `[batch, ...]`.
            counts: bool, of as many axes, `[batch, positions or 1, 1]`: which of them count. The others become 0 and
                have no part in the statistics of a batch. None where all count.
            training: whether batch normalisation uses the batch and learns from it.
        """
        if counts is not None:
            features = ops.where(counts, features, ops.zeros_like(features))
        features = self._rearranged(features, counts)
        if not self.learned:
            return features
        convolution, norm = self.learned
        features = normalize(norm, convolution(features), self.arranged(counts), training)
        return ops.relu(features) if self.activation == "relu" else features

    def arranged(self, counts: Any) -> Any:
        """`counts`, as for `call`, for the features as they are returned; None where all count."""
        if counts is None:
            return None
        if all(size == 1 for size in counts.shape[1:]):  # whole rows
            return ops.reshape(counts, (-1, *(1 for _ in self.teacher_shape[1:])))
        if self.plan.layout == "pool":
            return ops.any(counts, axis=(1, 2))
        if self.plan.layout is None and self.plan.size is not None:
            raise ConfigurationError(
                explain(
                    "A map with a mask cannot be resized.",
                    received=f"a mask over {tuple(counts.shape[1:3])} positions",
                    expected=f"one over {tuple(self.plan.size)}",
                    fix="Name a layer of the student whose maps have the teacher's size, or one without a mask.",
                )
            )
        return self._laid_out(counts)

    def compute_output_shape(self, input_shape):
        return self.teacher_shape

    def _rearranged(self, features, counts):
        if self.plan.layout == "pool":
            return _mean_of_places(features, counts)
        if self.plan.layout is not None:
            return self._laid_out(features)
        return features if self.plan.size is None else resize_map(features, self.plan.size)

    def _laid_out(self, features):
        """A map as tokens, or tokens as a map."""
        sizes = {"tokens": self.teacher_shape[1:2], "map": self.teacher_shape[1:3]}
        if self.plan.layout not in sizes:
            return features
        return ops.reshape(features, (-1, *sizes[self.plan.layout], features.shape[-1]))

    def _check_activation(self, input_shape):
        if self.activation is not None and self.plan.channels is None:
            raise ConfigurationError(
                explain(
                    f"activation={self.activation!r} ends a learned projection, and these shapes need none.",
                    received=f"teacher {self.teacher_shape}, student {tuple(input_shape)}, projector={self.kind!r}",
                    expected="projector='conv' or 'linear', which always learn one, or other channels",
                )
            )

    def get_config(self):
        return {
            "teacher_shape": self.teacher_shape,
            "kind": self.kind,
            "activation": self.activation,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "name": self.name,
        }


def normalize(norm: layers.BatchNormalization, features: Any, counts: Any, training: Any) -> Any:
    """Batch normalisation of `[batch, ..., channels]` with the statistics of what counts.

    `counts` is bool, `[batch, ..., 1]`, with sizes of 1 where it is the same all along; None where all counts. A batch
    in which nothing counts leaves the moving statistics as they are.
    """
    if counts is None:
        return norm(features, training=training)
    mask = ops.logical_and(counts[..., 0], ops.ones_like(features[..., 0], dtype="bool"))
    before = [ops.convert_to_tensor(weight) + 0.0 for weight in norm.non_trainable_variables]
    # Not `norm(...)`: it would hang the mask on its output, for the next layer to complain about.
    outputs = norm.call(features, training=training, mask=mask)
    if training:
        for weight, value in zip(norm.non_trainable_variables, before, strict=True):
            weight.assign(ops.where(ops.any(mask), ops.convert_to_tensor(weight), value))
    return outputs


def _mean_of_places(maps: Any, counts: Any) -> Any:
    """`[batch, height, width, channels]` to `[batch, channels]`: the mean over what counts, the rest being 0."""
    if counts is None or all(size == 1 for size in counts.shape[1:]):
        return ops.mean(maps, axis=(1, 2))
    shares = ops.cast(counts, maps.dtype) * ops.ones_like(maps[..., :1])
    return ops.sum(maps, axis=(1, 2)) / ops.maximum(ops.sum(shares, axis=(1, 2)), 1.0)


def in_words(projectors: Iterable[Projector]) -> str | None:
    """What projectors do, those that do something; None where none does."""
    plans = [
        str(projector.plan) + (f" + {projector.activation}" if projector.activation else "")
        for projector in projectors
        if not projector.plan.is_identity
    ]
    return " and ".join(plans) or None


def resize_map(features: Any, size: tuple[int, int]) -> Any:
    """`[batch, height, width, channels]` to another height and width.

    Average pooling where the height and width are whole multiples of the new ones, else bilinear interpolation (with
    antialiasing on the way down).

    Raises:
        ConfigurationError: a height or width that is not known when the model is traced.
    """
    height, width = features.shape[1:3]
    if None in (height, width):
        raise ConfigurationError(
            explain(
                "Features of unknown size cannot be resized.",
                received=f"shape {tuple(features.shape)}",
                expected=f"a known height and width, to be brought to {tuple(size)}",
                fix="Batches of one image size, or models with such an input, make it known.",
            )
        )
    if (height, width) == tuple(size):
        return features
    if height % size[0] == 0 and width % size[1] == 0:
        window = (height // size[0], width // size[1])
        return ops.average_pool(features, window, strides=window, data_format="channels_last")
    smaller = height > size[0] or width > size[1]
    return ops.image.resize(features, size, interpolation="bilinear", antialias=smaller, data_format="channels_last")


def _layout(teacher: tuple, student: tuple) -> str | None:
    """What turns the student's kind of features into the teacher's."""
    kinds = {2: "vector", 3: "sequence", 4: "map"}
    kind = (kinds.get(len(teacher)), kinds.get(len(student)))
    if kind[0] is not None and kind[0] == kind[1]:
        if kind[0] != "sequence" or teacher[1] == student[1] or None in (teacher[1], student[1]):
            return None
    elif kind == ("vector", "map"):
        return "pool"
    elif kind == ("sequence", "map") and None not in student[1:3] and teacher[1] == student[1] * student[2]:
        return "tokens"
    elif kind == ("map", "sequence") and None not in teacher[1:3] and student[1] == teacher[1] * teacher[2]:
        return "map"
    raise ConfigurationError(
        explain(
            "These features cannot be brought to one shape.",
            received=f"teacher {teacher}, student {student}",
            expected="two vectors, two maps, two sequences of one length, or a map with as many places as a sequence "
            "has tokens",
            fix="Name other layers; keras_kd.match_layers(teacher, student) proposes pairs.",
        )
    )
