"""Knowledge review (Chen et al., 2021): shallow levels of the teacher supervise all deeper levels of the student."""

from __future__ import annotations

import math
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features.projectors import BATCH_NORM, normalize
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import adaptive_average_pool
from keras_kd.losses.numerics import upcast
from keras_kd.losses.reduction import refuse_padding
from keras_kd.serialization import register

POOLED_SIZES = (4, 2, 1)
MAX_CHANNELS = 512


def knowledge_review(teacher_maps: Any, student_maps: Any) -> Any:
    """The hierarchical context loss: compares maps at full size and pooled to 4x4, 2x2 and 1x1, summed over the levels.

        level = sum_k w_k * mean((pool_k(teacher) - pool_k(student))^2) / sum_k w_k
        k = full size, 4, 2, 1;  w = 1, then 1/2, 1/4, 1/8 in the order in which they are used

    Pooled sizes that are not below the map's height are skipped. Weights and sizes are those of the published code
    (dvlab-research/ReviewKD), which produced the paper's tables.

    Source: Chen, Liu, Zhao & Jia, "Distilling Knowledge via Knowledge Review", 2021, section 3.

    Args:
        teacher_maps, student_maps: lists of `[batch, height, width, channels]`, or `[batch, channels]` for a 1x1 map;
            each pair has equal shapes.

    Returns:
        `[batch]`.
    """
    tensors = upcast(*teacher_maps, *student_maps)
    levels = zip(tensors[: len(teacher_maps)], tensors[len(teacher_maps) :], strict=True)
    return sum(_hierarchical_context(_as_map(teacher), _as_map(student)) for teacher, student in levels)


def _hierarchical_context(teacher_map: Any, student_map: Any) -> Any:
    difference = teacher_map - student_map  # pooling is linear, so the difference is pooled once
    loss, weight, total = _mean_square(difference), 1.0, 1.0
    for size in POOLED_SIZES:
        if size < difference.shape[1]:
            weight /= 2.0
            total += weight
            loss += weight * _mean_square(adaptive_average_pool(difference, (size, size)))
    return loss / total


def _mean_square(maps: Any) -> Any:
    return ops.mean(ops.square(maps), axis=(1, 2, 3))


def _nearest(maps: Any, size: tuple[int, int]) -> Any:
    """Resizes by nearest neighbor, rounding positions down as PyTorch does (`ops.image.resize` rounds differently)."""
    for axis, wanted in zip((1, 2), size, strict=True):
        length = maps.shape[axis]
        if length != wanted:
            maps = ops.take(maps, [index * length // wanted for index in range(wanted)], axis=axis)
    return maps


@register
class AttentionFusion(layers.Layer):
    """The attention-based fusion of one student level with all deeper levels, in float32.

        x = batch_norm(conv1x1(features));  y = deeper, resized to x
        a, b = sigmoid(conv1x1([x, y]));  fused = a * x + b * y, resized to the teacher's size
        output = batch_norm(conv3x3(fused))

    Source: Chen et al., 2021, section 3; initial weights and resizing are those of the published code.

    Args:
        channels: the channels of `fused`, the same for all levels.
        output_channels: the teacher's channels.
        output_size: the teacher's `(height, width)`.
        fuses: False for the deepest level, which has no deeper level to fuse with.
    """

    def __init__(self, channels: int, output_channels: int, output_size: Any, *, fuses: bool, name: str | None = None):
        super().__init__(name=name, dtype="float32")
        self.channels = channels
        self.output_channels = output_channels
        self.output_size = tuple(output_size)
        self.fuses = fuses

    def build(self, input_shape):
        settings = {"use_bias": False, "kernel_initializer": "lecun_uniform", "dtype": "float32"}
        self.reduce = layers.Conv2D(self.channels, 1, **settings)
        self.reduce_norm = layers.BatchNormalization(**BATCH_NORM)
        self.expand = layers.Conv2D(self.output_channels, 3, padding="same", **settings)
        self.expand_norm = layers.BatchNormalization(**BATCH_NORM)
        self.reduce.build(input_shape)
        self.reduce_norm.build((*input_shape[:-1], self.channels))
        self.expand.build((None, *self.output_size, self.channels))
        self.expand_norm.build((None, *self.output_size, self.output_channels))
        if self.fuses:
            limit = 1 / math.sqrt(2 * self.channels)
            start = initializers.RandomUniform(-limit, limit)
            settings = {"kernel_initializer": start, "bias_initializer": start.clone(), "dtype": "float32"}
            self.attention = layers.Conv2D(2, 1, activation="sigmoid", **settings)
            self.attention.build((*input_shape[:-1], 2 * self.channels))

    def call(self, features, deeper=None, present=None, training=None):
        """Returns `output`, which is compared with the teacher, and `fused`, for the next shallower level.

        `present` is `[batch]`, the rows to include in the batch statistics; None includes all.
        """
        included = None if present is None else ops.reshape(ops.cast(present, "bool"), (-1, 1, 1, 1))
        fused = normalize(self.reduce_norm, self.reduce(features), included, training)
        if self.fuses:
            deeper = _nearest(deeper, fused.shape[1:3])
            weights = self.attention(ops.concatenate([fused, deeper], axis=-1))
            fused = fused * weights[..., :1] + deeper * weights[..., 1:]
        fused = _nearest(fused, self.output_size)
        return normalize(self.expand_norm, self.expand(fused), included, training), fused

    def get_config(self):
        return {
            "channels": self.channels,
            "output_channels": self.output_channels,
            "output_size": self.output_size,
            "fuses": self.fuses,
            "name": self.name,
        }


@registry.register
class KnowledgeReview(DistillationLoss):
    """Compares the teacher's levels with the student's, each fused with all deeper ones, see `knowledge_review`.

    The fusion runs from the deepest level to the shallowest. It is trained with the student, saved with the distiller,
    and never part of the student. As published, use the teacher's maps before the last ReLU of each stage, the
    student's maps after it, and the pooled vector as the deepest level of both.

    Args:
        channels: the channels of the fusion; None uses those of the student's deepest level, at most 512, as in the
            published code.
        warmup_steps: the number of optimizer steps over which the loss grows linearly from 0; 0 disables the warm-up.
            (The published code uses `min(epoch / 20, 1)` of 240 epochs.)
        options: `teacher`, `student`, lists with the same number of taps, from shallow to deep; `name`, `reduction`,
            see `DistillationLoss`.

    >>> loss = KnowledgeReview(teacher=["stage_1_preact", "pool"], student=["stage_1", "pool"])
    >>> loss.name
    'knowledge_review_stage_1_pool'
    >>> maps = [ops.ones((2, 4, 4, 3)), ops.ones((2, 3))]
    >>> bool(loss(maps, maps) > 0)
    True
    """

    several_taps = True

    def __init__(self, *, channels: int | None = None, warmup_steps: int = 0, **options: Any):
        super().__init__(**options)
        self.channels = None if channels is None else check_integer("channels", channels, at_least=1)
        self.warmup_steps = check_integer("warmup_steps", warmup_steps, at_least=0)

    def build(self, teacher_shape, student_shape):
        teacher, student = _checked_levels(self.name, teacher_shape, student_shape)
        channels = self.channels or min(MAX_CHANNELS, student[-1][-1])
        deepest = len(student) - 1
        self.fusions = [
            AttentionFusion(channels, shape[-1], shape[1:3], fuses=level < deepest, name=f"fusion_{level}")
            for level, shape in enumerate(teacher)
        ]
        for fusion, shape in zip(self.fusions, student, strict=True):
            fusion.build(shape)

    def validate_outputs(self, teacher_outputs, student_outputs):
        _checked_levels(self.name, *([item.shape for item in _listed(x)] for x in (teacher_outputs, student_outputs)))

    def call(self, teacher, student, context):
        if context.mask is not None:
            refuse_padding(self.name, context.mask, "maps of several sizes")
        loss = knowledge_review(teacher, self._review(student, context))
        if not self.warmup_steps:
            return loss
        return loss * ops.minimum(ops.cast(context.step, loss.dtype) / self.warmup_steps, 1.0)

    def _review(self, student, context):
        outputs, fused = [], None
        for fusion, features in zip(reversed(self.fusions), reversed(student), strict=True):
            output, fused = fusion(_as_map(features), fused, present=context.present, training=context.training)
            outputs.append(output)
        return outputs[::-1]

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "warmup_steps": self.warmup_steps}


def _as_map(features: Any) -> Any:
    """Reshapes a vector to a 1x1 map."""
    return features if len(features.shape) == 4 else features[:, None, None, :]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _checked_levels(name: str, teacher_shapes: Any, student_shapes: Any) -> list[list[tuple]]:
    """The shapes as maps; raises `ConfigurationError` if they cannot be reviewed."""
    taps = [[tuple(shape) for shape in _listed(shapes)] for shapes in (teacher_shapes, student_shapes)]
    maps = [[(shape[0], 1, 1, shape[-1]) if len(shape) == 2 else shape for shape in shapes] for shapes in taps]
    are_maps = all(len(shape) == 4 and None not in shape[1:] for shapes in maps for shape in shapes)
    if not are_maps or len(maps[0]) != len(maps[1]) or not all(map(_gets_smaller, maps)):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} cannot review these levels.",
                received=f"teacher {taps[0]}, student {taps[1]}",
                expected="the same number of levels of both models, from shallow to deep, each a map [batch, height, "
                "width, channels] of known size or a vector [batch, channels], none larger than the previous one",
                fix="keras_kd.taps(model) lists the available layers with their shapes.",
            )
        )
    return maps


def _gets_smaller(shapes: list[tuple]) -> bool:
    return all(shape[1] >= after[1] for shape, after in zip(shapes, shapes[1:], strict=False))
