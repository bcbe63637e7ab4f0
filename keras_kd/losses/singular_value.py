"""Distillation by singular value decomposition (Lee, Kim & Song, 2018): relates the main directions of two layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, check_choice, check_integer, explain
from keras_kd.features import Projector
from keras_kd.features.projectors import describe_projectors
from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.numerics import l2_normalize, upcast

CANDIDATES = 3  # how many more of the student's directions than of the teacher's are compared, as published
TIE = 1e-5  # eigenvalues closer than this share of the largest may be equal, but for rounding in float32


def singular_value_kd(teacher_maps: Sequence[Any], student_maps: Sequence[Any], num_vectors: int = 1) -> Any:
    """The squared difference of radial basis functions between the main directions of consecutive layers.

        V = the first right singular vectors of a map [positions, channels], `num_vectors` of the teacher
        R[i, j, k] = exp(-(V_layer[i, k] - V_next[j, k])^2 / 8)
        loss = sum over pairs of consecutive layers, i, j and k of (R(teacher) - R(student))^2

    Of the student's `num_vectors + 3` first vectors, each of the teacher's is compared with the one of the largest
    absolute cosine, with the sign that makes it positive. Vector k of both is multiplied by the teacher's singular
    value k, divided by the norm of the first `num_vectors`. The sign of a singular vector is arbitrary; here the
    teacher's have a non-negative sum, while the published code takes what its library returns.

    The scale is that of the published code (RepDistiller), whose mean over the batch this is. The authors' first code
    has half of it, times sqrt(`num_vectors`), summed over the batch. Both set gradients that are not finite to 0; see
    `singular_vectors` for those of this function.

    Source: Lee, Kim & Song, "Self-supervised Knowledge Distillation Using Singular Value Decomposition", 2018, section
    3.

    Args:
        teacher_maps, student_maps: two or more maps `[batch, ..., channels]` in layer order; the channels at each index
            are the same in both models, the number of positions may differ.
        num_vectors: how many of the teacher's vectors are compared, at most the channels of each layer.

    Returns:
        `[batch]`.
    """
    layers = [_aligned(*upcast(*maps), num_vectors) for maps in zip(teacher_maps, student_maps, strict=True)]
    return sum(
        ops.sum(ops.square(_radial_basis(*teacher) - _radial_basis(*student)), axis=(1, 2, 3))
        for teacher, student in (zip(*pair, strict=True) for pair in pairwise(layers))
    )


def singular_vectors(features: Any, num_vectors: int) -> tuple[Any, Any]:
    """The largest singular values of `[batch, ..., channels]`, `[batch, vectors]`, and their right singular vectors.

    The vectors, `[batch, channels, vectors]`, have a gradient, by first-order perturbation of the eigenvectors of the
    smaller Gram matrix:

        dv_i = sum over j with different eigenvalues of v_j (v_j . dG v_i) / (e_i - e_j)

    Two vectors of equal eigenvalues (closer than 1e-5 of the largest) are any basis of their plane; their part of the
    derivative, which is not defined, is taken as 0, so the gradient is finite. The values have no gradient. A direction
    of singular value 0 (at most 0.003 of the largest) is a vector of zeros, without a gradient.

    Args:
        features: `[batch, ..., channels]`; the axes between are positions.
        num_vectors: how many; at most as many are returned as there are channels.
    """
    (features,) = upcast(features)
    rows = ops.reshape(features, (ops.shape(features)[0], -1, features.shape[-1]))
    size = ops.stop_gradient(ops.max(ops.abs(rows), axis=(1, 2), keepdims=True))
    rows = rows / ops.where(size > 0, size, 1.0)  # directions have no scale, and squares overflow
    columns = ops.transpose(rows, (0, 2, 1))
    is_wide = rows.shape[1] is not None and num_vectors <= rows.shape[1] < rows.shape[2]
    gram = ops.matmul(rows, columns) if is_wide else ops.matmul(columns, rows)
    squares, vectors = _eigenvectors(gram, num_vectors)
    vectors = l2_normalize(ops.matmul(columns, vectors), axis=1) if is_wide else vectors
    exists = squares > TIE * ops.maximum(squares[:, :1], 0.0)
    values = ops.sqrt(ops.where(exists, squares, 0.0)) * size[..., 0]
    return values, ops.where(exists[:, None], vectors, 0.0)


def _eigenvectors(symmetric: Any, count: int) -> tuple[Any, Any]:
    """The largest eigenvalues, and their eigenvectors with a gradient that is finite at ties."""
    fixed = ops.stop_gradient(symmetric)
    values, vectors = (ops.stop_gradient(ops.flip(x, axis=-1)) for x in ops.eigh(fixed))
    gaps = values[:, None, :count] - values[:, :, None]
    differs = ops.abs(gaps) > TIE * ops.abs(values[:, :1, None])
    inverse = ops.where(differs, 1.0 / ops.where(differs, gaps, 1.0), 0.0)
    # 0 in value; the gradient of the sum is the perturbation of the eigenvectors
    change = ops.matmul(ops.transpose(vectors, (0, 2, 1)), ops.matmul(symmetric - fixed, vectors[:, :, :count]))
    return values[:, :count], vectors[:, :, :count] + ops.matmul(vectors, change * inverse)


def _aligned(teacher: Any, student: Any, num_vectors: int) -> tuple[Any, Any]:
    """The teacher's weighted vectors, and those of the student that are compared with them."""
    values, target = singular_vectors(ops.stop_gradient(teacher), num_vectors)
    _, candidates = singular_vectors(student, num_vectors + CANDIDATES)
    target = ops.stop_gradient(target * _sign(ops.sum(target, axis=1, keepdims=True)))
    cosines = ops.stop_gradient(ops.matmul(ops.transpose(candidates, (0, 2, 1)), target))
    nearest = ops.one_hot(ops.argmax(ops.abs(cosines), axis=1), cosines.shape[1], axis=1, dtype=cosines.dtype)
    weights = ops.stop_gradient(l2_normalize(values)[:, None])
    return target * weights, ops.matmul(candidates, nearest * _sign(cosines)) * weights


def _sign(values: Any) -> Any:
    return ops.where(values < 0, -ops.ones_like(values), ops.ones_like(values))


def _radial_basis(first: Any, second: Any) -> Any:
    return ops.exp(-ops.square(first[:, :, None] - second[:, None]) / 8.0)


@registry.register
class SingularValueKD(DistillationLoss):
    """Trains the main directions of the student's layers to relate to each other as the teacher's do.

    See `singular_value_kd`. The paper and RepDistiller first train the student on this loss alone, and then on the
    labels; a schedule that ends at 0 as its weight has the same effect. A step costs one eigendecomposition per
    example, map and model, of the smaller of channels and positions: name layers where one of them is small.

    Args:
        num_vectors: how many singular vectors of the teacher are compared; 1 in the published code.
        projector: `"auto"` learns a 1x1 convolution (maps) or a linear layer with batch normalization for each student
            layer with a different number of channels than the teacher's; published code requires equal channels. None
            learns nothing and rejects different channels.
        options: `teacher`, `student` (lists of two or more layers, from input to output), `name`, `reduction`, see
            `DistillationLoss`.

    >>> loss = SingularValueKD(teacher=["stage_1", "stage_2"], student=["stage_1", "stage_2"])
    >>> round(float(loss([[[[1.0, 0.0]]], [[[1.0, 0.0]]]], [[[[1.0, 0.0]]], [[[0.0, 1.0]]]])), 4)
    0.0552
    """

    several_taps = True
    excludes_padding = True

    def __init__(self, *, num_vectors: int = 1, projector: str | None = "auto", **options: Any):
        super().__init__(**options)
        self.num_vectors = check_integer("num_vectors", num_vectors, at_least=1)
        self.projector = check_choice("projector", projector, ("auto", None))
        self._projectors: list[Projector] = []

    def build(self, teacher_shape, student_shape):
        self._check(teacher_shape, student_shape)
        projectors = []
        for teacher, student in zip(teacher_shape, student_shape, strict=True):
            projectors.append(Projector((*student[:-1], teacher[-1]), self.projector))  # positions may differ
            projectors[-1].build(tuple(student))
        self._projectors = projectors

    @property
    def projection(self):
        return describe_projectors(self._projectors)

    def call(self, teacher, student, context):
        pairs = [
            self._included(project, *maps, context)
            for project, *maps in zip(self._projectors, teacher, student, strict=True)
        ]
        return singular_value_kd(*zip(*pairs, strict=True), self.num_vectors)

    def _included(self, project: Projector, teacher: Any, student: Any, context: Any) -> tuple[Any, Any]:
        """Both maps, the student projected, with zeros (no direction) at excluded positions."""
        included = context.included(student)
        teacher, student = without_padding(teacher, student, context)
        student = project(student, included=included, training=context.training)
        return teacher, student if included is None else ops.where(included, student, ops.zeros_like(student))

    def validate_outputs(self, teacher_outputs, student_outputs):
        sides = (teacher_outputs, student_outputs)
        self._check(*([x.shape for x in side] if isinstance(side, (list, tuple)) else side.shape for side in sides))

    def _check(self, teacher_shapes: Any, student_shapes: Any) -> None:
        num_taps = [len(shapes) if isinstance(shapes, list) else 1 for shapes in (teacher_shapes, student_shapes)]
        if num_taps[0] != num_taps[1] or num_taps[0] < 2:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares how layers relate to each other.",
                    received=f"{num_taps[0]} of the teacher, {num_taps[1]} of the student",
                    expected="two or more layers of the teacher, and the same number of the student",
                    fix="Name them: teacher=['stage_1', 'stage_2'], student=['stage_1', 'stage_2'].",
                )
            )
        shapes = [*teacher_shapes, *student_shapes]
        if any(len(shape) < 3 or shape[-1] is None for shape in shapes):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} decomposes maps of positions and channels.",
                    received=" and ".join(str(tuple(shape)) for shape in shapes),
                    expected="shapes (batch, height, width, channels) or (batch, positions, channels)",
                    fix="Name layers before the pooling over the positions.",
                )
            )
        self._check_channels(*([shape[-1] for shape in shapes] for shapes in (teacher_shapes, student_shapes)))

    def _check_channels(self, teacher: list[int], student: list[int]) -> None:
        if self.num_vectors > min(teacher):
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares more singular vectors than a layer has.",
                    received=f"num_vectors={self.num_vectors}, channels {teacher} of the teacher",
                    expected=f"at most {min(teacher)}",
                )
            )
        if self.projector is None and teacher != student:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} compares maps with different numbers of channels.",
                    received=f"channels {teacher} of the teacher, {student} of the student",
                    expected="the same channels",
                    fix="Use projector='auto', which learns to map the student's channels to the teacher's.",
                )
            )

    def get_config(self):
        return {**super().get_config(), "num_vectors": self.num_vectors, "projector": self.projector}
