"""Correlation congruence (Peng et al., 2019): matches a Gaussian kernel between the examples of a batch."""

from __future__ import annotations

import math
from typing import Any

from keras import layers, ops

from keras_kd.errors import check_integer, check_number
from keras_kd.losses.base import registry
from keras_kd.losses.linear_embedding import check_known_sizes, linear_embedding
from keras_kd.losses.numerics import flatten, l2_normalize, upcast
from keras_kd.losses.pairwise import PairwiseLoss, num_present_rows, paired_rows


def correlation_congruence(
    teacher_features: Any, student_features: Any, *, gamma: float = 0.4, order: int = 2, present: Any = None
) -> Any:
    """The squared difference between the kernel matrices of teacher and student.

        K[i, j] = exp(-2 gamma) * sum over p = 0 ... order of (2 gamma)^p / p! * (f_i . f_j)^p,  |f| = 1
        row i: (1 / b) sum_j (K_teacher[i, j] - K_student[i, j])^2

    K is the Taylor expansion of `exp(-gamma |f_i - f_j|^2)`, for features of length 1. The mean over the batch is the
    paper's `||K_teacher - K_student||^2 / b^2`. A zero row stays zero, with a small gradient.

    Source: Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019, section 3.

    Args:
        teacher_features: `[batch, ...]`, flattened after the batch axis and normalized to length 1.
        student_features: `[batch, ...]`, of any size.
        gamma: the kernel's parameter, above 0.
        order: the last power of the expansion, at least 1.
        present: `[batch]`, the rows to include; None includes all. The others are 0, and b is the number included.

    Returns:
        `[batch]`.
    """
    teacher, student, pairs = paired_rows(teacher_features, student_features, present)
    difference = _kernel(teacher, gamma, order) - _kernel(student, gamma, order)
    return ops.sum(ops.square(difference) * pairs, axis=-1) / num_present_rows(pairs)


def _kernel(features: Any, gamma: float, order: int) -> Any:
    """The expanded kernel between all pairs of rows, `[batch, batch]`."""
    features = l2_normalize(features)
    cosine = ops.matmul(features, ops.transpose(features))
    total = ops.ones_like(cosine)
    for power in range(order, 0, -1):  # Horner's scheme
        total = 1.0 + 2.0 * gamma * cosine / power * total
    return math.exp(-2.0 * gamma) * total


@registry.register
class CorrelationCongruence(PairwiseLoss):
    """Matches a Gaussian kernel between the examples of a batch, see `correlation_congruence`.

    Any two layers can be compared, since only `[batch, batch]` matrices are. The paper maps the features of BOTH models
    by learned linear layers to vectors of one size, 128 in published code: `embedding_size=128`. Constant embeddings of
    both make this loss 0 whatever the student is, so the default compares the features themselves.

    Args:
        gamma: the kernel's parameter, above 0.
        order: the last power of the kernel's expansion, the paper's P.
        embedding_size: the output size of the two linear layers; None compares the features themselves.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = CorrelationCongruence(teacher="pool", student="pool")
    >>> round(float(loss([[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]])), 4)
    0.1266
    """

    def __init__(self, *, gamma: float = 0.4, order: int = 2, embedding_size: int | None = None, **options: Any):
        super().__init__(**options)
        self.gamma = check_number("gamma", gamma, at_least=1e-6)
        self.order = check_integer("order", order, at_least=1)
        if embedding_size is not None:
            check_integer("embedding_size", embedding_size, at_least=1)
        self.embedding_size = embedding_size
        self._embed_teacher: layers.Dense | None = None
        self._embed_student: layers.Dense | None = None

    def build(self, teacher_shape, student_shape):
        if self.embedding_size is not None:
            self._embed_teacher = linear_embedding("embed_teacher", self.embedding_size, teacher_shape)
            self._embed_student = linear_embedding("embed_student", self.embedding_size, student_shape)

    def validate_outputs(self, teacher_outputs, student_outputs):
        if self.embedding_size is not None:
            check_known_sizes(self.name, teacher_outputs.shape, student_outputs.shape)

    def compare(self, teacher, student, *, present):
        if self.embedding_size is not None:
            teacher, student = map(flatten, upcast(teacher, student))
            teacher, student = self._embed_teacher(teacher), self._embed_student(student)
        return correlation_congruence(teacher, student, gamma=self.gamma, order=self.order, present=present)

    def get_config(self):
        settings = {"gamma": self.gamma, "order": self.order, "embedding_size": self.embedding_size}
        return {**super().get_config(), **settings}
