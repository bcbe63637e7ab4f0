"""The default terms of a distiller, derived from the compiled loss and the final layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.distillers.supervision import known_name, losses_by_output
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import Head
from keras_kd.keras_private import loss_settings
from keras_kd.losses import DistillationLoss, OutputRegression, SoftTargets
from keras_kd.teachers import Teacher

_REGRESSION = {"mean_squared_error": "squared", "mean_absolute_error": "absolute", "huber": "huber"}
_EXCLUSIVE = {
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "sparse_categorical_crossentropy",
}
_INDEPENDENT = {"binary_crossentropy", "binary_focal_crossentropy"}
_CHOICES = (
    "OutputRegression() for numbers, SoftTargets() for exclusive classes, SoftTargets(activation='sigmoid') for "
    "independent labels: Distiller(..., losses=[...])."
)

Shapes = dict[str, tuple[int | None, ...]] | None


def provisional_terms(teacher_shapes: Shapes, student_shapes: Shapes, heads: dict[str, Head] | None) -> list[Any]:
    """Soft targets for every output that teacher and student share by name and size of the last axis.

    `terms_that_follow` replaces them by the terms for the compiled loss.

    Args:
        teacher_shapes, student_shapes: shape by output name, or None if unknown.
        heads: of the student's outputs, by name; None if unknown.

    Raises:
        ConfigurationError: the models have no such output in common.
    """
    if teacher_shapes is None or student_shapes is None or heads is None:
        return [SoftTargets()]
    if len(teacher_shapes) == len(student_shapes) == 1:
        pairs = [(None, *student_shapes)]
    else:
        common = [name for name in student_shapes if name in teacher_shapes]
        pairs = [(name, name) for name in common if teacher_shapes[name][-1:] == student_shapes[name][-1:]]
    if not pairs:
        raise ConfigurationError(
            explain(
                "Teacher and student have no output in common.",
                received=f"teacher {teacher_shapes}, student {student_shapes}",
                fix="Name the pairs: losses=[SoftTargets(teacher='...', student='...')].",
            )
        )
    return [provisional_term(name, name, heads[key], student_shapes[key]) for name, key in pairs]


def provisional_term(
    teacher: str | None, student: str | None, head: Head, shape: tuple[int | None, ...]
) -> DistillationLoss:
    """Soft targets for an output of the student with this head and shape."""
    activation = _activation(head, size=shape[-1:], unless="softmax")
    return SoftTargets(teacher=teacher, student=student, activation=activation)


def terms_that_follow(
    loss: Any, terms: list[Any], heads: dict[str, Head], student_shapes: Shapes, teacher_activations: dict[str, str]
) -> list[DistillationLoss]:
    """Replaces each default term by the one that follows from the compiled loss of its output.

    | compiled loss | term |
    |---|---|
    | `MeanSquaredError`, `MeanAbsoluteError`, `Huber` | `OutputRegression` with the same difference |
    | a categorical cross-entropy | `SoftTargets` |
    | a binary cross-entropy | `SoftTargets(activation="sigmoid")` |
    | none, or any other | soft targets, if the final layer of either model determines their kind |

    A softmax at the end of the student means exclusive classes, whatever the loss. Without a compiled loss, several
    linear outputs are taken as logits of exclusive classes.

    Args:
        loss: as given to `compile`.
        terms: the default terms so far, which determine the pairs of outputs.
        heads: of the student's outputs, by name.
        student_shapes: shape by output name, or None if unknown.
        teacher_activations: of the teacher's outputs, by name; those that are known.

    Raises:
        ConfigurationError: no term follows, or the loss and the final layers contradict each other.
    """
    losses = losses_by_output(loss, list(heads))
    made = []
    for term in terms:
        name = term.student if term.student in heads else next(iter(heads))
        ends = list(teacher_activations.values())
        end = teacher_activations.get(term.teacher, ends[0] if len(ends) == 1 else None)
        size = (student_shapes or {}).get(name, ())[-1:]
        settings = _Output(name, losses[name], heads[name], size, end).settings()
        kind = OutputRegression if "difference" in settings else SoftTargets
        made.append(kind(teacher=term.teacher, student=term.student, **settings))
    return made


class DefaultTerms:
    """The terms of a distiller that was given none: they follow from the compiled loss.

    Attributes:
        kept: terms beside them that stay as they are.
    """

    kept: Sequence[DistillationLoss] = ()

    def provisional(self, teacher_shapes: Shapes, student_shapes: Shapes, heads: dict[str, Head] | None) -> list[Any]:
        """The terms until a loss is compiled, see `provisional_terms`."""
        return provisional_terms(teacher_shapes, student_shapes, heads)

    def that_follow(
        self, loss: Any, terms: list[Any], heads: dict[str, Head], student_shapes: Shapes, ends: dict[str, str]
    ) -> list[DistillationLoss]:
        """The terms for a compiled loss, see `terms_that_follow`."""
        return terms_that_follow(loss, terms, heads, student_shapes, ends)


class TermsBeside(DefaultTerms):
    """The default terms, and others beside them.

    Args:
        kept: the others.
    """

    def __init__(self, kept: Sequence[DistillationLoss]):
        self.kept = tuple(kept)

    def provisional(self, teacher_shapes, student_shapes, heads):
        return [*super().provisional(teacher_shapes, student_shapes, heads), *self.kept]

    def that_follow(self, loss, terms, heads, student_shapes, ends):
        own = terms[: len(terms) - len(self.kept)]
        return [*super().that_follow(loss, own, heads, student_shapes, ends), *self.kept]


def compares_numbers(loss: Any) -> bool:
    """Whether a compiled loss is a regression loss.

    >>> compares_numbers("mse"), compares_numbers("sparse_categorical_crossentropy")
    (True, False)
    """
    return known_name(loss) in _REGRESSION


def check_targets(terms: list[Any], teacher: Teacher) -> None:
    """Raises `ConfigurationError` if a term would treat class logits as regression values."""
    if teacher.only_of_classes and any(isinstance(term, OutputRegression) for term in terms):
        raise ConfigurationError(
            explain(
                "The compiled loss compares numbers, but the teacher returns logits of classes.",
                received=type(teacher).__name__,
                expected="a teacher whose targets are the outputs of its model",
                fix=teacher.only_of_classes,
            )
        )


class _Output:
    """One output of the student: its compiled loss, its final layer, and the teacher's final layer."""

    def __init__(self, name: str, loss: Any, head: Head, size: tuple[int | None, ...], teacher_end: str | None):
        self.name, self.loss, self.head, self.size, self.teacher_end = name, loss, head, size, teacher_end

    def settings(self) -> dict[str, Any]:
        """The settings of the term: an `OutputRegression` if they contain a difference, else `SoftTargets`."""
        name = known_name(self.loss)
        if name == "crossentropy":  # Keras chooses by the shape
            name = "binary_crossentropy" if self.size == (1,) else "categorical_crossentropy"
        own = _activation(self.head, self.size)
        if own == "softmax":
            if name in _INDEPENDENT:
                raise self._refusal(
                    "The compiled loss treats the student's outputs as independent labels, its final layer as "
                    "exclusive classes.",
                    "Choose one: Distiller(..., losses=[SoftTargets(activation='sigmoid')]), or 'softmax'; where the "
                    "outputs are probabilities of independent labels, student_outputs='sigmoid'.",
                )
            return {"activation": "softmax"}
        if name in _REGRESSION:
            return self._regression(_REGRESSION[name], own)
        if name in _INDEPENDENT:
            return {"activation": "sigmoid"}
        if name in _EXCLUSIVE:
            return {"activation": own or "softmax"}
        return {"activation": own or self._from_the_teacher()}

    def _regression(self, difference: str, own: str | None) -> dict[str, Any]:
        teachers = None if self.teacher_end in (None, "linear") else self.teacher_end
        if own != ("sigmoid" if teachers == "probabilities" and self.size == (1,) else teachers):
            raise self._refusal(
                f"The compiled loss compares numbers; the student's {self.name!r} ends in {own or 'linear'}, the "
                f"teacher's in {teachers or 'linear'}, so their numbers do not compare.",
                f"Choose the term: {_CHOICES}",
            )
        settings = {"difference": difference, "activation": own}
        return settings | ({"delta": _delta(self.loss)} if difference == "huber" else {})

    def _from_the_teacher(self) -> str:
        """The activation when neither the loss nor the student's final layer determines it."""
        if self.teacher_end not in (None, "linear"):
            return _activation(Head(self.teacher_end), self.size)
        if self.loss is None and self.size != (1,):
            return "softmax"
        problem = (
            f"No term follows from the compiled loss for the student's {self.name!r}."
            if self.loss is not None
            else f"The student's {self.name!r} is one number without a compiled loss, which may be a logit or a value."
        )
        raise self._refusal(problem, f"Choose the term: {_CHOICES}")

    def _refusal(self, problem: str, fix: str) -> ConfigurationError:
        return ConfigurationError(
            explain(
                problem,
                received=f"loss={self.loss!r} and no distillation losses",
                expected="MeanSquaredError, MeanAbsoluteError, Huber or a cross-entropy that fits the final layers",
                fix=fix,
            )
        )


def _activation(head: Head, size: tuple[int | None, ...], unless: str | None = None) -> str | None:
    """The final activation, `"softmax"` or `"sigmoid"`; for linear outputs `unless`, or a sigmoid for a single one."""
    if head.activation == "probabilities":
        return "sigmoid" if size == (1,) else "softmax"
    if head.is_logits:
        return "sigmoid" if unless and size == (1,) else unless
    return head.activation


def _delta(loss: Any) -> float:
    """The delta of a Huber loss, which is missing from its config in some versions of Keras."""
    if not isinstance(loss, keras.losses.Loss):
        return 1.0
    config = loss.get_config()
    return config["delta"] if "delta" in config else loss_settings(loss)["delta"]
