"""TinyBERT (Jiao et al., 2020): matches attention scores, hidden states and embeddings layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features.shapes import same_size
from keras_kd.keras_private import keras_mask
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.numerics import upcast
from keras_kd.losses.reduction import included_entries

MASKED_SCORE = -1e2
LAYER_MAPS = ("uniform", "last")
PROJECTORS = ("auto", "linear", None)

Paths = str | Sequence[str]


def attention_scores(teacher_scores: Any, student_scores: Any, mask: Any = None) -> Any:
    """`mean((A_S - A_T)^2)` over heads, queries and keys, for the scores before the softmax.

    Scores of -100 and below come from an additive mask; they are set to 0 in both models, as in the published code
    (huawei-noah/Pretrained-Language-Model).

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020, section 3.1.

    Args:
        teacher_scores, student_scores: `[batch, heads, queries, keys]`, of equal shape.
        mask: `[batch, tokens]`, False for padding, which is excluded from queries and keys (self-attention).

    Returns:
        `[batch]`.
    """
    teacher, student = (
        ops.where(scores > MASKED_SCORE, scores, 0.0) for scores in upcast(teacher_scores, student_scores)
    )
    if mask is None:
        return _mean_square(student - teacher)
    mask = ops.cast(mask, "bool")
    return _mean_square(student - teacher, ops.logical_and(mask[:, None, :, None], mask[:, None, None, :]))


def hidden_states(teacher_states: Any, student_states: Any, mask: Any = None) -> Any:
    """`mean((H_S - H_T)^2)` over tokens and channels; `student_states` are the paper's `H_S W_h`.

    Source: Jiao et al., 2020, section 3.1. The published code includes padding; so does this function without a mask.

    Args:
        teacher_states, student_states: `[batch, tokens, channels]`, of equal shape.
        mask: `[batch, tokens]`, False for padding.

    Returns:
        `[batch]`.
    """
    teacher, student = upcast(teacher_states, student_states)
    return _mean_square(student - teacher, None if mask is None else ops.cast(mask, "bool")[:, :, None])


def embeddings(teacher_embeddings: Any, student_embeddings: Any, mask: Any = None) -> Any:
    """`mean((E_S - E_T)^2)`: `hidden_states` of the inputs of the first block.

    Source: Jiao et al., 2020, section 3.1.
    """
    return hidden_states(teacher_embeddings, student_embeddings, mask)


def _mean_square(difference: Any, included: Any = None) -> Any:
    """The mean square over the included entries, `[batch]`; 0 for a row without any."""
    axes = tuple(range(1, len(difference.shape)))
    if included is None:
        return ops.mean(ops.square(difference), axis=axes)
    squares = ops.square(ops.where(included, difference, 0.0))
    included = ops.cast(included, difference.dtype) * ops.ones_like(difference)
    return ops.sum(squares, axis=axes) / ops.maximum(ops.sum(included, axis=axes), 1.0)


def layer_map(kind: str | Sequence[int], num_teacher: int, num_student: int) -> list[int]:
    """The index of the teacher layer that is paired with each student layer, counted from 0.

    Args:
        kind: `"uniform"`, the last layer of each of `num_student` equal parts, TinyBERT's `g(m) = m * M / N`; `"last"`,
            the last `num_student` layers; or a list of indices.
        num_teacher, num_student: the numbers of layers.

    Raises:
        ConfigurationError: if the student has more layers than the teacher, or an index does not exist.

    >>> layer_map("uniform", 12, 4), layer_map("last", 12, 4)
    ([2, 5, 8, 11], [8, 9, 10, 11])
    """
    if isinstance(kind, str):
        check_choice("layer_map", kind, LAYER_MAPS)
        if num_student <= num_teacher:
            first = num_teacher - num_student
            last = [(layer + 1) * num_teacher // num_student - 1 for layer in range(num_student)]
            return last if kind == "uniform" else list(range(first, num_teacher))
    elif len(kind) == num_student and all(isinstance(i, Integral) and 0 <= i < num_teacher for i in kind):
        return [int(layer) for layer in kind]
    raise ConfigurationError(
        explain(
            "The layers cannot be paired.",
            received=f"layer_map={kind!r} for {num_teacher} layers of the teacher and {num_student} of the student",
            expected="at most as many student layers as teacher layers"
            if isinstance(kind, str)
            else f"{num_student} indices from 0 to {num_teacher - 1}",
        )
    )


@registry.register
class TransformerLayers(DistillationLoss):
    """Matches attention scores, hidden states and embeddings to the teacher's, summed with equal weights.

        loss = sum_m attention_scores(A_T[g(m)], A_S[m]) + sum_m hidden_states(H_T[g(m)], H_S[m] W)
               + embeddings(E_T, E_S W)

    W is a linear layer with bias; layers with the same pair of widths share one. It is trained with the student, saved
    with the distiller, and never part of the student.

    Padding is excluded if one of the student's taps carries a Keras mask. Keras removes the mask from the inputs of a
    `MultiHeadAttention`, so the output of the last block may be the only tap that has one; `token_ids` does not depend
    on this.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", 2020, section 3.1, with the
    sums and the initialization of W of the published code.

    Args:
        attention: `(teacher_paths, student_paths)` of the attention scores of all layers from first to last, such as
            `"block_1/attention:raw_scores"`, `[batch, heads, queries, keys]`.
        hidden: `(teacher_paths, student_paths)` of the outputs of all blocks, `[batch, tokens, channels]`.
        embeddings: `(teacher_path, student_path)` of the inputs of the first block.
        layer_map: the teacher layers to read, see the function `layer_map`.
        projector: `"auto"` learns W if the widths differ, `"linear"` always does (as the published code), None never.
        token_ids: the path of the student's token ids, such as `"embedding:input"`, `[batch, tokens]`; 0 is padding.
        name: the name in the logs; by default `"transformer_layers"`.
        reduction: as in `keras.losses.Loss`.

    >>> loss = TransformerLayers(hidden=(["block_1", "block_2", "block_3", "block_4"], ["block_1", "block_2"]))
    >>> loss.teacher
    ('block_2', 'block_4')
    >>> float(loss([[[[1.0]]], [[[1.0]]]], [[[[3.0]]], [[[2.0]]]]))
    5.0
    """

    several_taps = True
    excludes_padding = True

    def __init__(
        self,
        *,
        attention: tuple[Paths, Paths] | None = None,
        hidden: tuple[Paths, Paths] | None = None,
        embeddings: tuple[str, str] | None = None,
        layer_map: str | Sequence[int] = "uniform",
        projector: str | None = "auto",
        token_ids: str | None = None,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ):
        roles = {"attention": attention, "hidden": hidden, "embeddings": embeddings}
        chosen = {role: _checked_paths(role, paths) for role, paths in roles.items() if paths is not None}
        if not chosen:
            raise ConfigurationError(
                explain(
                    "TransformerLayers needs something to compare.",
                    expected="at least one of attention=, hidden= and embeddings=",
                )
            )
        maps = {role: "uniform" if role == "embeddings" else layer_map for role in chosen}
        taps = {role: _paired(*paths, maps[role]) for role, paths in chosen.items()}
        super().__init__(
            teacher=[path for teacher, _ in taps.values() for path in teacher],
            student=[path for _, student in taps.values() for path in student] + ([token_ids] if token_ids else []),
            name=name or "transformer_layers",
            reduction=reduction,
        )
        self.attention, self.hidden, self.embeddings = (chosen.get(role) for role in roles)
        self.layer_map = layer_map if isinstance(layer_map, str) else tuple(layer_map)
        self.projector = check_choice("projector", projector, PROJECTORS)
        self.token_ids = token_ids
        self.roles = tuple(role for role, (_, student) in taps.items() for _ in student)
        self._widths: list[tuple[int, int]] = []
        self._projections: list[keras.layers.Layer] = []

    def build(self, teacher_shape, student_shape):
        self._check(teacher_shape, student_shape)
        pairs = zip(self.roles, student_shape, teacher_shape, strict=False)
        widths = dict.fromkeys((s[-1], t[-1]) for role, s, t in pairs if role != "attention")
        self._widths = [pair for pair in widths if self._needs_projection(*pair)]
        self._projections = [
            layers.Dense(
                teacher_width,
                kernel_initializer=initializers.RandomNormal(stddev=0.02),
                dtype="float32",
                name=f"from_{student_width}_to_{teacher_width}",
            )
            for student_width, teacher_width in self._widths
        ]
        for layer, (student_width, _) in zip(self._projections, self._widths, strict=True):
            layer.build((None, None, student_width))

    def validate_outputs(self, teacher_outputs, student_outputs):
        self._check(*([item.shape for item in outputs] for outputs in (teacher_outputs, student_outputs)))

    @property
    def projection(self):
        steps = [f"linear from {student} to {teacher} channels" for student, teacher in self._widths]
        return ", ".join(steps) or None

    def call(self, teacher, student, context):
        mask = self._counts(student, context)
        terms = [
            attention_scores(t, s, mask)
            if role == "attention"
            else hidden_states(t, self._project(s, t.shape[-1]), mask)
            for role, t, s in zip(self.roles, teacher, student, strict=False)
        ]
        return sum(terms[1:], start=terms[0])

    def _counts(self, student, context):
        """The tokens to include, `[batch, tokens]`: neither padding nor of weight 0; None includes all."""
        mask = self._mask(student, context)
        states = next((tensor for role, tensor in zip(self.roles, student, strict=False) if role != "attention"), None)
        if states is None:  # attention scores alone: their query axis is the token axis
            states = student[0][:, 0]
        included = included_entries(states, mask, context.weighted)
        if included is None:
            return None
        return ops.logical_and(included[..., 0], ops.ones_like(states[..., 0], dtype="bool"))

    def _mask(self, student, context):
        if self.token_ids is not None:
            return ops.not_equal(student[-1], 0)
        masks = map(keras_mask, student)
        return next((mask for mask in (context.mask, *masks) if mask is not None), None)

    def _project(self, states, teacher_width):
        pair = (states.shape[-1], teacher_width)
        return self._projections[self._widths.index(pair)](states) if pair in self._widths else states

    def _needs_projection(self, student_width, teacher_width):
        return self.projector == "linear" or (self.projector == "auto" and student_width != teacher_width)

    def _check(self, teacher_shapes, student_shapes):
        """Raises `ConfigurationError` if the shapes do not fit their roles."""
        expected = (len(self.teacher), len(self.student))
        if (len(teacher_shapes), len(student_shapes)) != expected:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} received the wrong number of tensors.",
                    received=f"{len(teacher_shapes)} of the teacher, {len(student_shapes)} of the student",
                    expected=f"teacher {self.teacher}, student {self.student}",
                )
            )
        taps = zip(self.roles, teacher_shapes, student_shapes, self.teacher, self.student, strict=False)
        for role, teacher_shape, student_shape, *paths in taps:
            check = _check_scores if role == "attention" else self._check_states
            check(tuple(teacher_shape), tuple(student_shape), " and ".join(map(repr, paths)))

    def _check_states(self, teacher_shape, student_shape, paths):
        are_states = len(teacher_shape) == len(student_shape) == 3 and same_size(teacher_shape[1], student_shape[1])
        if not are_states or (self.projector is None and teacher_shape[-1] != student_shape[-1]):
            raise ConfigurationError(
                explain(
                    f"{paths} are not hidden states that can be compared.",
                    received=f"teacher {teacher_shape}, student {student_shape}",
                    expected="(batch, tokens, channels) with the same tokens"
                    + (" and, without a projector, the same channels" if self.projector is None else ""),
                )
            )

    def get_config(self):
        return {
            "attention": self.attention,
            "hidden": self.hidden,
            "embeddings": self.embeddings,
            "layer_map": self.layer_map,
            "projector": self.projector,
            "token_ids": self.token_ids,
            "name": self.name,
            "reduction": self.reduction,
        }


def _check_scores(teacher_shape: tuple, student_shape: tuple, paths: str) -> None:
    are_scores = len(teacher_shape) == len(student_shape) == 4
    if are_scores and all(map(same_size, teacher_shape[1:], student_shape[1:])):
        return
    raise ConfigurationError(
        explain(
            f"{paths} are not attention scores that can be compared.",
            received=f"teacher {teacher_shape}, student {student_shape}",
            expected="(batch, heads, queries, keys), the same for both models",
            fix="If the numbers of heads differ, omit attention= and compare hidden= alone."
            if are_scores
            else "Name the scores of an attention layer: 'attention:raw_scores'.",
        )
    )


def _checked_paths(role: str, paths: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Validates `(teacher_paths, student_paths)` and returns it as two tuples."""
    is_pair = isinstance(paths, (list, tuple)) and len(paths) == 2
    sides = [(side,) if isinstance(side, str) else tuple(side) for side in paths] if is_pair else []
    is_one = all(len(side) == 1 for side in sides)
    if not is_pair or not all(sides) or (role == "embeddings" and not is_one):
        raise ConfigurationError(
            explain(
                f"{role!r} is not a pair of teacher and student paths.",
                received=repr(paths),
                expected="(teacher_path, student_path)" if role == "embeddings" else "(teacher_paths, student_paths)",
            )
        )
    return sides[0], sides[1]


def _paired(teacher: tuple[str, ...], student: tuple[str, ...], kind: Any) -> tuple[list[str], tuple[str, ...]]:
    return [teacher[layer] for layer in layer_map(kind, len(teacher), len(student))], student
