"""Computes the loss of a step from the terms. Pure: no assignments, no gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from keras_kd.distillers.unlabeled import Unlabeled
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.losses import Context, DistillationLoss
from keras_kd.losses.reduction import PerExample
from keras_kd.serialization import nearest
from keras_kd.teachers import Teacher


def combine(
    supervised: Any, distillation: Any, regularization: Any, alpha: Any, *, label_weight: float | None = None
) -> Any:
    """`(1 - alpha) * supervised + distillation + regularization`, with `distillation` already weighted by alpha.

    A regime in which labels and terms are not shares of one another gives the `label_weight` in place of `1 - alpha`.

    Alpha is the weight of the TEACHER. It is applied to the terms per row (in `distill`), since it is 1 for a row
    without a label.

    >>> float(combine(supervised=1.0, distillation=0.25 * 3.0, regularization=0.5, alpha=0.25))
    2.0
    """
    weight = 1.0 - alpha if label_weight is None else label_weight
    return weight * supervised + distillation + regularization


def distill(
    terms: list[DistillationLoss], losses: dict[str, PerExample], alpha: Any, unlabeled: Unlabeled
) -> tuple[dict[str, Any], Any]:
    """The value of each term by name, before alpha; and the sum of the terms, with every row weighted by its alpha.

    A row without a label has an alpha of 1. A term that is a single number for the batch is weighted by the scalar
    alpha. Alpha multiplies the values, not the sample weights: a row with alpha 0 still counts as present.

    Args:
        terms: the losses.
        losses: the result of `losses_per_example`.
        alpha: the weight of the teacher, a scalar.
        unlabeled: which rows have no label.
    """
    values, total = {}, ops.zeros(())
    for term in terms:
        own = losses[term.name]
        values[term.name] = term.reduce(own)
        total += term.reduce(own.scaled(alpha if own.is_scalar else unlabeled.alpha_of_rows(term, alpha)))
    return values, total


def losses_per_example(
    terms: list[DistillationLoss],
    teacher: ModelOutputs,
    student: ModelOutputs,
    *,
    labels: Any = None,
    sample_weight: Any = None,
    context: Context,
) -> dict[str, PerExample]:
    """The values of each term before its reduction, by name.

    Args:
        terms: the losses; each names what it reads.
        teacher, student: the outputs and taps of both models, each `[batch, ...]`.
        labels, sample_weight: as in the batch: one tensor, or a dict by output name.
        context: shared by all terms: the optimizer step, the temperature, example ids and view.
    """
    losses = {}
    for term in terms:
        logits = _logits_beside(term, teacher.outputs)
        own = dataclasses.replace(context, labels=_of_output(labels, term.student), teacher_logits=logits)
        losses[term.name] = term.per_example(
            select(teacher, term.teacher, term, "teacher"),
            select(student, term.student, term, "student"),
            sample_weight=_of_output(sample_weight, term.student),
            context=own,
        )
    return losses


def checked_outputs(teacher: Teacher, outputs: Any) -> ModelOutputs:
    """A teacher's return value; raises `ConfigurationError` if it is not a `ModelOutputs`."""
    if isinstance(outputs, ModelOutputs):
        return outputs
    raise ConfigurationError(
        explain(
            f"{type(teacher).__name__} must return its outputs and taps in a ModelOutputs.",
            received=f"a {type(outputs).__name__}",
            expected="keras_kd.teachers.ModelOutputs",
            fix="Return ModelOutputs({'output': logits}, {path: features}).",
        )
    )


def select(model: ModelOutputs, name: str | tuple[str, ...] | None, term: DistillationLoss, role: str) -> Any:
    """The tensor, or the list of tensors, that a term reads; None for the shape of an output not yet known.

    Raises:
        ConfigurationError: the model has no output or layer of that name; or no name, but several outputs.
    """
    if isinstance(name, tuple):
        return [select(model, item, term, role) for item in name]
    outputs, taps = model
    if name in taps:
        return taps[name]
    if outputs is None:
        return None
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    raise ConfigurationError(
        explain(
            f"The {role} has several outputs, and the loss {term.name!r} does not name the one to read."
            if name is None
            else f"The loss {term.name!r} reads an output or layer that the {role} does not have.",
            received=repr(name),
            expected="one of " + ", ".join(map(repr, outputs)),
            fix=(nearest(name, outputs) if name else "") or f"Pass {role}=... to the loss.",
        )
    )


def _of_output(value: Any, name: Any) -> Any:
    """The part of a batch for one output; for a loss on inner layers, the part for the only output."""
    if not isinstance(value, dict):
        return value
    return next(iter(value.values())) if len(value) == 1 else value.get(name if isinstance(name, str) else None)


def _logits_beside(term: DistillationLoss, outputs: dict[str, Any]) -> Any:
    """The teacher's logits for the output that a term compares; None if there are several and the term names none."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return next((outputs[name] for name in (term.teacher, term.student) if name in outputs), None)
