"""Projectors from the student's shape to the teacher's: trained with the student, discarded with the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.serialization import register

KINDS = ("auto", "conv", "linear", "resize", None)
ACTIVATIONS = (None, "relu")

# The published code uses PyTorch's batch normalization; its momentum of 0.1 is the weight of the new batch ...
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5, "dtype": "float32"}


def published_uniform() -> initializers.Initializer:
    """PyTorch's initialization of linear and convolutional layers, uniform within `1 / sqrt(inputs)`."""
    return initializers.VarianceScaling(scale=1.0 / 3.0, mode="fan_in", distribution="uniform")


@dataclasses.dataclass(frozen=True)
class Projection:
    """The steps that convert a student's features to the teacher's shape.

    Attributes:
        layout: the first step: `"tokens"` (a map becomes a sequence), `"map"` (a sequence becomes a map), `"pool"` (a
            map or a sequence becomes a vector) or None.
        size: the `(height, width)` to resize a map to, or None.
        channels: the channels of the learned projection, or None if none is needed.
        kind: `"conv"` (1x1 convolution) or `"linear"` (Dense), each followed by batch normalization.
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
        steps += [f"{name} to {self.channels} channels + batch normalization"] if self.channels else []
        return ", ".join(steps) or "none needed"


def plan_projection(teacher_shape: Any, student_shape: Any, kind: str | None = "auto") -> Projection:
    """The projection between two shapes.

    Args:
        teacher_shape, student_shape: `(batch, ...)`: a vector `[batch, channels]`, a sequence
            `[batch, tokens, channels]` or a map `[batch, height, width, channels]`.
        kind: `"auto"` adds only what the shapes require. `"conv"` and `"linear"` learn a projection even if the
            channels agree. `"resize"` changes only the spatial size, None nothing.

    Raises:
        ConfigurationError: if the shapes cannot be converted, or not by this kind.

    >>> print(plan_projection((None, 8, 8, 256), (None, 16, 16, 64)))
    resize to 8x8, 1x1 convolution to 256 channels + batch normalization
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
                f"projector={kind!r} does not convert the student's features to the teacher's shape.",
                received=f"teacher {teacher}, student {student}",
                expected="equal shapes" if kind is None else "equal channels" if not fits else "known sizes",
                fix="Use projector='auto', which learns the conversion." if kind != "auto" else None,
            )
        )
    return plan


@register
class Projector(layers.Layer):
    """Applies a `Projection` in float32. It belongs to a loss, never to the student.

    Source: the regressor of Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, as a 1x1 convolution with batch
    normalization. A student map that is larger than the teacher's is average-pooled, a smaller one interpolated. The
    epsilon (1e-5) and momentum (0.9) of the batch normalization and the kernel's initialization are those of the
    published code.

    Args:
        teacher_shape: the target shape, `(batch, ...)`.
        kind: as for `plan_projection`.
        activation: `"relu"` applies a ReLU to the output of a learned projection, as in RepDistiller's regressor for
            hints; None applies nothing.
        kernel_initializer: the initializer of the learned kernel; None is PyTorch's default, uniform within
            `1 / sqrt(inputs)`.
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

    def call(self, features, included=None, training=None):
        """Converts features to the teacher's shape.

        Args:
            features: `[batch, ...]`.
            included: bool with the same number of axes, `[batch, positions or 1, 1]`: the entries to include. The
                others become 0 and are excluded from the batch statistics. None includes all.
            training: whether batch normalization uses and updates its batch statistics.
        """
        if included is not None:
            features = ops.where(included, features, ops.zeros_like(features))
        features = self._rearranged(features, included)
        if not self.learned:
            return features
        convolution, norm = self.learned
        features = normalize(norm, convolution(features), self.arranged(included), training)
        return ops.relu(features) if self.activation == "relu" else features

    def arranged(self, included: Any) -> Any:
        """`included`, as for `call`, rearranged to match the returned features; None includes all."""
        if included is None:
            return None
        if all(size == 1 for size in included.shape[1:]):  # whole rows
            return ops.reshape(included, (-1, *(1 for _ in self.teacher_shape[1:])))
        if self.plan.layout == "pool":
            return ops.any(included, axis=tuple(range(1, len(included.shape) - 1)))
        if self.plan.layout is None and self.plan.size is not None:
            raise ConfigurationError(
                explain(
                    "A map with a mask cannot be resized.",
                    received=f"a mask over {tuple(included.shape[1:3])} positions",
                    expected=f"one over {tuple(self.plan.size)}",
                    fix="Choose a student layer with maps of the teacher's size, or one without a mask.",
                )
            )
        return self._laid_out(included)

    def compute_output_shape(self, input_shape):
        return self.teacher_shape

    def _rearranged(self, features, included):
        if self.plan.layout == "pool":
            return pool_positions(features, included)
        if self.plan.layout is not None:
            return self._laid_out(features)
        return features if self.plan.size is None else resize_map(features, self.plan.size)

    def _laid_out(self, features):
        """Reshapes a map to tokens, or tokens to a map."""
        sizes = {"tokens": self.teacher_shape[1:2], "map": self.teacher_shape[1:3]}
        if self.plan.layout not in sizes:
            return features
        return ops.reshape(features, (-1, *sizes[self.plan.layout], features.shape[-1]))

    def _check_activation(self, input_shape):
        if self.activation is not None and self.plan.channels is None:
            raise ConfigurationError(
                explain(
                    f"activation={self.activation!r} requires a learned projection, but these shapes need none.",
                    received=f"teacher {self.teacher_shape}, student {tuple(input_shape)}, projector={self.kind!r}",
                    expected="projector='conv' or 'linear', which always learn one, or different channels",
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


def normalize(norm: layers.BatchNormalization, features: Any, included: Any, training: Any) -> Any:
    """Batch normalization of `[batch, ..., channels]` with the statistics of the included entries.

    `included` is bool, `[batch, ..., 1]`, broadcast along axes of size 1; None includes all. A batch without included
    entries leaves the moving statistics unchanged.
    """
    if included is None:
        return norm(features, training=training)
    mask = ops.logical_and(included[..., 0], ops.ones_like(features[..., 0], dtype="bool"))
    before = [ops.convert_to_tensor(weight) + 0.0 for weight in norm.non_trainable_variables]
    # `norm(...)` would attach the mask to its output, which the next layer may not support.
    outputs = norm.call(features, training=training, mask=mask)
    if training:
        for weight, value in zip(norm.non_trainable_variables, before, strict=True):
            weight.assign(ops.where(ops.any(mask), ops.convert_to_tensor(weight), value))
    return outputs


def pool_positions(features: Any, included: Any) -> Any:
    """The mean over the included positions: `[batch, ..., channels]` to `[batch, channels]`.

    `included` is bool, `[batch, positions or 1, 1]`; None includes all. Without included positions the mean is 0.
    """
    axes = tuple(range(1, len(features.shape) - 1))
    if included is None or all(size == 1 for size in included.shape[1:]):
        return ops.mean(features, axis=axes) if axes else features
    included = ops.logical_and(included, ops.ones_like(features[..., :1], dtype="bool"))
    total = ops.sum(ops.where(included, features, ops.zeros_like(features)), axis=axes)
    return total / ops.maximum(ops.sum(ops.cast(included, features.dtype), axis=axes), 1.0)


def describe_projectors(projectors: Iterable[Projector]) -> str | None:
    """A description of the projectors that change anything; None if there are none."""
    plans = [
        str(projector.plan) + (f" + {projector.activation}" if projector.activation else "")
        for projector in projectors
        if not projector.plan.is_identity
    ]
    return " and ".join(plans) or None


def resize_map(features: Any, size: tuple[int, int]) -> Any:
    """Resizes `[batch, height, width, channels]`.

    Uses average pooling if height and width are multiples of the new ones, else bilinear interpolation (with
    antialiasing when shrinking).

    Raises:
        ConfigurationError: if the height or width is unknown when the model is traced.
    """
    height, width = features.shape[1:3]
    if None in (height, width):
        raise ConfigurationError(
            explain(
                "Features of unknown size cannot be resized.",
                received=f"shape {tuple(features.shape)}",
                expected=f"a known height and width, to be resized to {tuple(size)}",
                fix="Use batches of one image size, or models with a fixed input size.",
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
    """The layout change from the student's kind of features to the teacher's."""
    kinds = {2: "vector", 3: "sequence", 4: "map"}
    kind = (kinds.get(len(teacher)), kinds.get(len(student)))
    if kind[0] is not None and kind[0] == kind[1]:
        if kind[0] != "sequence" or teacher[1] == student[1] or None in (teacher[1], student[1]):
            return None
    elif kind in (("vector", "map"), ("vector", "sequence")):
        return "pool"
    elif kind == ("sequence", "map") and None not in student[1:3] and teacher[1] == student[1] * student[2]:
        return "tokens"
    elif kind == ("map", "sequence") and None not in teacher[1:3] and student[1] == teacher[1] * teacher[2]:
        return "map"
    raise ConfigurationError(
        explain(
            "These features cannot be converted to the same shape.",
            received=f"teacher {teacher}, student {student}",
            expected="two vectors, two maps, two sequences of equal length, a map with as many positions as a "
            "sequence has tokens, or a teacher's vector",
            fix="Choose other layers; keras_kd.match_layers(teacher, student) proposes pairs. A Hint compares features "
            "of any two kinds with projector='pooled', by their means over all positions.",
        )
    )
