"""From the student's shape to the teacher's: a small layer, trained with the student and thrown away with the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from keras import layers, ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.serialization import register

KINDS = ("auto", "conv", "linear", "resize", None)


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
    interpolated.
    """

    def __init__(self, teacher_shape: Any, kind: str | None = "auto", *, name: str = "projector"):
        super().__init__(name=name, dtype="float32")
        self.teacher_shape = tuple(teacher_shape)
        self.kind = check_choice("projector", kind, KINDS)
        self.plan = Projection()

    def build(self, input_shape):
        self.plan = plan_projection(self.teacher_shape, input_shape, self.kind)
        self.learned = []
        if self.plan.channels is not None:
            make = {"conv": self._convolution, "linear": layers.Dense}[self.plan.kind]
            self.learned = [
                make(self.plan.channels, use_bias=False, dtype="float32"),
                layers.BatchNormalization(momentum=0.9, dtype="float32"),
            ]
            shape = (*self.teacher_shape[:-1], input_shape[-1])
            for layer in self.learned:
                layer.build(shape)
                shape = (*shape[:-1], self.plan.channels)

    def _convolution(self, channels, **settings):
        return layers.Conv2D(channels, 1, **settings)

    def call(self, features, training=None):
        features = self._rearranged(features)
        for layer in self.learned:
            features = layer(features, training=training) if layer is self.learned[-1] else layer(features)
        return features

    def compute_output_shape(self, input_shape):
        return self.teacher_shape

    def _rearranged(self, features):
        teacher = self.teacher_shape
        if self.plan.layout == "pool":
            return ops.mean(features, axis=(1, 2))
        if self.plan.layout == "tokens":
            return ops.reshape(features, (-1, teacher[1], features.shape[-1]))
        if self.plan.layout == "map":
            return ops.reshape(features, (-1, *teacher[1:3], features.shape[-1]))
        return features if self.plan.size is None else resize_map(features, self.plan.size)

    def get_config(self):
        return {"teacher_shape": self.teacher_shape, "kind": self.kind, "name": self.name}


def in_words(projectors: Iterable[Projector]) -> str | None:
    """What projectors do, those that do something; None where none does."""
    plans = [str(projector.plan) for projector in projectors if not projector.plan.is_identity]
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
