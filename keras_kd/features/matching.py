"""Proposes pairs of teacher and student layers that can be compared."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.projectors import plan_projection
from keras_kd.features.table import Tap, taps
from keras_kd.features.tracing import symbolic_inputs
from keras_kd.tables import format_table

_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Relu", "Relu6", "Silu", "Gelu", "HardSilu")
_MERGES = ("Add", "Concatenate")
_NORMS = ("BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization")
_PASSES_VECTOR = ("Dropout", "Flatten", "Reshape")


class LayerPair(NamedTuple):
    """A layer of the teacher and a comparable one of the student.

    Attributes:
        teacher, student: paths, as losses accept them.
        teacher_shape, student_shape: the shapes of their outputs, None for the batch and other variable axes.
    """

    teacher: str
    student: str
    teacher_shape: tuple[int | None, ...]
    student_shape: tuple[int | None, ...]


class PairTable(tuple):
    """Pairs from shallow to deep; prints as a table."""

    def __repr__(self) -> str:
        head = ("teacher", "student", "teacher shape", "student shape")
        return format_table([head, *(tuple(map(str, pair)) for pair in self)])


def match_layers(teacher: keras.Model, student: keras.Model, *, input_shape: Any = None) -> PairTable:
    """Proposes pairs of layers for losses on features, from shallow to deep.

    - Maps: each model is divided into stages, one per halving of its input's size. A stage is represented by the last
      ReLU after an addition or by its last block, else by its last activation, addition or normalization. Stages of the
      same size relative to the input are paired; the remaining ones get the nearest stage that preserves the order.
    - Sequences, if both models have attention: the blocks' outputs, paired evenly by depth.
    - The vector before the logits, if both models have one.

    Review the proposal before using it: every pair works with a `Hint`, but whether it helps depends on the training.

    Args:
        teacher, student: any Keras models, including nested ones.
        input_shape: `(batch, ...)` of the input of both, for models without a fixed size or that have not been built.

    Raises:
        ConfigurationError: if there is no pair, or an input shape is unknown.

    >>> def model(*widths):
    ...     body = [keras.layers.Conv2D(w, 3, 2, "same", name=f"conv_{n}") for n, w in enumerate(widths)]
    ...     return keras.Sequential([keras.Input((8, 8, 1)), *body])
    >>> match_layers(model(8, 16), model(4, 4))
    teacher  student  teacher shape     student shape
    -------  -------  ----------------  ---------------
    conv_0   conv_0   (None, 4, 4, 8)   (None, 4, 4, 4)
    conv_1   conv_1   (None, 2, 2, 16)  (None, 2, 2, 4)
    """
    read = [taps(model, input_shape=input_shape) for model in (teacher, student)]
    blocks = [_blocks(found) for found in read]
    if all(blocks):
        pairs = _evenly(*blocks)
    else:
        sizes = [_map_size(model, input_shape) for model in (teacher, student)]
        pairs = _by_level(*(_stages(found, size) for found, size in zip(read, sizes, strict=True)))
    vectors = [_vector(found) for found in read]
    pairs = [pair for pair in [*pairs, tuple(vectors)] if None not in pair and _fit(*pair)]
    if not pairs:
        raise ConfigurationError(
            explain(
                f"{teacher.name!r} and {student.name!r} have no comparable layers.",
                received=f"{len(read[0])} and {len(read[1])} inner outputs",
                expected="maps of known size, sequences of one length between attention blocks, or a vector below a "
                "Dense layer, in both",
                fix="Choose from keras_kd.taps(model); without a fixed size, pass input_shape=(None, 64, 64, 3).",
            )
        )
    return PairTable(LayerPair(t.path, s.path, t.shape, s.shape) for t, s in pairs)


# Maps.


def _map_size(model: Any, input_shape: Any) -> int | None:
    """The number of positions of the model's input image, or None."""
    shapes = [tensor.shape for tensor in keras.tree.flatten(symbolic_inputs(model, input_shape))]
    return next((_places(shape) for shape in shapes if len(shape) == 4), None)


def _places(shape: tuple) -> int | None:
    return None if None in shape[1:3] else shape[1] * shape[2]


def _stages(found: tuple[Tap, ...], input_places: int | None) -> dict[int, Tap]:
    """The layer that represents each stage, by the number of times the input was halved, in execution order."""
    if not input_places:
        return {}
    maps = [tap for tap in found if len(tap.shape) == 4 and _places(tap.shape)]
    maps = [tap for tap in maps if not _is_attention(tap) and not _is_inside_attention(tap, found)]
    containers = _containers(found)
    best: dict[int, tuple[int, int]] = {}
    for index, tap in enumerate(maps):
        if _places(tap.shape) == 1 and any(_places(later.shape) > 1 for later in maps[index:]):
            continue  # the gate of a squeeze-and-excitation, not a stage
        rank = _rank(tap, maps[index - 1] if index else None, containers)
        level = round(math.log2(input_places / _places(tap.shape)) / 2)
        if rank and rank >= best.get(level, (0,))[0]:
            best[level] = (rank, index)
    return {level: maps[index] for level, (_, index) in sorted(best.items(), key=lambda item: item[1][1])}


def _rank(tap: Tap, before: Tap | None, containers: set[str]) -> int:
    """How well a map represents its stage: 3 at the end of a block, 0 not at all (padding, pooling, dropout)."""
    ends_block = tap.layer in _ACTIVATIONS and before is not None and before.layer in _MERGES
    if ends_block or tap.path in containers:
        return 3
    if tap.layer in (*_ACTIVATIONS, *_MERGES, *_NORMS):
        return 2
    return 1 if "Conv" in tap.layer else 0


def _by_level(teacher: dict[int, Tap], student: dict[int, Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs equal levels first, then the rest of the shorter list with the nearest free level that keeps the order."""
    levels = [(level, level) for level in student if level in teacher]
    free = [[level for level in side if (level, level) not in levels] for side in (teacher, student)]
    while all(free):
        crossing = [(t, s) for t in free[0] for s in free[1] if all((t < a) == (s < b) for a, b in levels)]
        if not crossing:
            break
        nearest = min(crossing, key=lambda pair: abs(pair[0] - pair[1]))
        levels.append(nearest)
        free = [[level for level in side if level != used] for side, used in zip(free, nearest, strict=True)]
    order = list(student)
    return [(teacher[t], student[s]) for t, s in sorted(levels, key=lambda pair: order.index(pair[1]))]


# Sequences.


def _blocks(found: tuple[Tap, ...]) -> list[Tap]:
    """The outputs of the blocks around each attention layer, in order; empty if there are no such layers."""
    attention = [tap for tap in found if _is_attention(tap) and not _is_inside_attention(tap, found)]
    length = {tap.shape[1] for tap in attention if len(tap.shape) == 3}
    if len(length) != 1:
        return []
    sequences = [tap for tap in found if len(tap.shape) == 3 and tap.shape[1] in length]
    sequences = [tap for tap in sequences if not _is_inside_attention(tap, found)]
    around = [tap for tap in sequences if sum(_is_in(inner, tap) for inner in attention) == 1]
    outermost = [tap for tap in around if not any(_is_in(tap, other) for other in around)]
    return outermost or _segments(sequences, attention)


def _segments(sequences: list[Tap], attention: list[Tap]) -> list[Tap]:
    """The last addition or normalization between one attention layer and the next."""
    starts = [sequences.index(tap) for tap in attention]
    segments = [sequences[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [([tap for tap in part if tap.layer in (*_NORMS, "Add")] or part)[-1] for part in segments]


def _evenly(teacher: list[Tap], student: list[Tap]) -> list[tuple[Tap, Tap]]:
    """Divides the deeper model into as many equal parts as the shallower one has blocks and takes the last of each."""
    count = min(len(teacher), len(student))

    def spread(blocks: list[Tap]) -> list[Tap]:
        return [blocks[(number + 1) * len(blocks) // count - 1] for number in range(count)]

    return list(zip(spread(teacher), spread(student), strict=True))


def _is_attention(tap: Tap) -> bool:
    return "Attention" in tap.layer


def _is_inside_attention(tap: Tap, found: tuple[Tap, ...]) -> bool:
    return any(_is_attention(other) and _is_in(tap, other) for other in found)


# Both.


def _is_in(inner: Tap, outer: Tap) -> bool:
    return inner.path.startswith(outer.path.split("#")[0] + "/")


def _containers(found: tuple[Tap, ...]) -> set[str]:
    """The paths of layers that contain layers."""
    return {tap.path for tap in found if any(_is_in(other, tap) for other in found)}


def _vector(found: tuple[Tap, ...]) -> Tap | None:
    """The input vector of the last Dense layer, without dropout; None if it is a flattened map."""
    vectors = [tap for tap in found if len(tap.shape) == 2]
    heads = [index for index, tap in enumerate(vectors) if tap.layer == "Dense"]
    below = [tap for tap in vectors[: heads[-1]] if "Dropout" not in tap.layer] if heads else []
    return below[-1] if below and below[-1].layer not in _PASSES_VECTOR else None


def _fit(teacher: Tap, student: Tap) -> bool:
    try:
        plan_projection(teacher.shape, student.shape)
    except ConfigurationError:
        return False
    return True
