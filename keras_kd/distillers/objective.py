"""From terms to one number: the weighted sum that the student descends, and its named parts."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.distillers.unlabelled import Unlabelled, multiply
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.features.shapes import same_shape
from keras_kd.losses import Context, DistillationLoss
from keras_kd.losses.keras_distiller import ShapeOnly
from keras_kd.serialization import nearest

RESERVED = ("loss", "student_loss", "distillation_loss", "alpha")


def combine(supervised: Any, distillation: Any, regularization: Any, alpha: Any, unlabelled: Any = 0.0) -> Any:
    """`(1 - alpha) * (supervised + unlabelled) + alpha * distillation + regularization`: alpha weighs the TEACHER.

    `unlabelled` is the part of `distillation` that examples without a label have in it: the teacher stands in for their
    labels, so that it weighs 1 there.

    >>> float(combine(supervised=1.0, distillation=3.0, regularization=0.5, alpha=0.25))
    2.0
    >>> float(combine(supervised=0.0, distillation=3.0, regularization=0.5, alpha=0.25, unlabelled=3.0))
    3.5
    """
    return (1.0 - alpha) * (supervised + unlabelled) + alpha * distillation + regularization


def distillation_terms(
    terms: list[DistillationLoss],
    teacher: ModelOutputs,
    student: ModelOutputs,
    *,
    labels: Any = None,
    sample_weight: Any = None,
    step: Any = 0,
    temperature: Any = None,
    unlabelled: Unlabelled | None = None,
    extra: Any = 0.0,
) -> dict[str, Any]:
    """The value of each term by its name, scalars.

    A term is linear in the weights of the examples. So its slope in `extra`, at 0, is what the unlabelled examples
    contribute to it, found without computing it twice.

    Args:
        terms: the losses; each names what it reads.
        teacher, student: what the two say, `[batch, ...]`.
        labels, sample_weight: as in the batch: one tensor, or a dict by output name.
        step: the optimizer's step.
        temperature: for the terms without one of their own.
        unlabelled: which examples have no label; None where all have one.
        extra: a scalar; an example without a label counts `1 + extra` times.
    """
    values = {}
    for term in terms:
        context = Context(
            labels=_of_output(labels, term.student),
            step=step,
            temperature=temperature,
            teacher_logits=_logits_beside(term, teacher.outputs),
            are_given=_of_output(sample_weight, term.student) is not None,
        )
        values[term.name] = term(
            select(teacher, term.teacher, term, "teacher"),
            select(student, term.student, term, "student"),
            sample_weight=_weights(term, _of_output(sample_weight, term.student), unlabelled, extra),
            context=context,
        )
    return values


def total(values: dict[str, Any]) -> Any:
    """The sum of the terms, 0 where there are none."""
    return sum(values.values(), start=ops.zeros(()))


def select(read: ModelOutputs, name: str | tuple[str, ...] | None, term: DistillationLoss, role: str) -> Any:
    """What a term reads: a tensor, or a list of them; None where it is the shape of an output that is not known yet.

    Raises:
        ConfigurationError: nothing of that name, or no name where there are several outputs.
    """
    if isinstance(name, tuple):
        return [select(read, item, term, role) for item in name]
    outputs, taps = read
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
            f"The loss {term.name!r} does not say which {role} output it reads."
            if name is None
            else f"The loss {term.name!r} reads something of the {role} that does not exist.",
            received=repr(name),
            expected="one of " + ", ".join(map(repr, outputs)),
            fix=(nearest(name, outputs) if name else "") or f"Pass {role}=... to the loss.",
        )
    )


def names_read(terms: list[DistillationLoss], role: str) -> list[str]:
    """The outputs and layers that the terms name of the `"teacher"` or the `"student"`, each once."""
    read = [getattr(term, role) for term in terms]
    flat = [name for item in read for name in (item if isinstance(item, tuple) else (item,))]
    return [name for name in dict.fromkeys(flat) if name is not None]


def check_names(terms: list[DistillationLoss]) -> None:
    """Raises `ConfigurationError` where names collide."""
    names = [term.name for term in terms]
    taken = sorted({name for name in names if names.count(name) > 1 or name in RESERVED})
    if taken:
        raise ConfigurationError(
            explain(
                "Each loss needs a name of its own in the logs.",
                received=f"{names}",
                expected=f"other names for {taken}",
                fix="Pass name=... to the losses.",
            )
        )


def build_terms(terms: list[DistillationLoss], teacher: ModelOutputs, student: ModelOutputs) -> None:
    """Checks each term against the shapes that it will read, and builds what it learns; skips what is not known yet.

    Raises:
        ConfigurationError: shapes that do not fit a term.
    """
    for term in terms:
        shapes = [
            select(model, getattr(term, role), term, role)
            for model, role in ((teacher, "teacher"), (student, "student"))
        ]
        if any(shape is None or None in (shape if isinstance(shape, list) else ()) for shape in shapes):
            continue
        term.validate_outputs(*map(_shaped, shapes))
        if not term.built:
            term.build(*shapes)
        elif term.weights:
            _check_learned_for(term, shapes)


def _check_learned_for(term: DistillationLoss, shapes: list[Any]) -> None:
    """Raises `ConfigurationError` where what a term has learned is for features of other shapes."""
    learned_for = list(term.get_build_config()["shapes_dict"].values())
    sizes = [
        [tuple(shape) for shape in (side if isinstance(side[0], (list, tuple)) else [side])] for side in learned_for
    ]
    given = [side if isinstance(side, list) else [side] for side in shapes]
    if all(_agree(a, b) for a, b in zip(sizes, given, strict=True)):
        return
    raise ConfigurationError(
        explain(
            f"The loss {term.name!r} has learned to compare other features.",
            received=f"teacher {shapes[0]}, student {shapes[1]}",
            expected=f"teacher {learned_for[0]}, student {learned_for[1]}",
            fix="Make a new loss, and a new Distiller, for other models.",
        )
    )


def _agree(one: list[tuple], other: list[tuple]) -> bool:
    """Whether shapes are the same where both are known."""
    return len(one) == len(other) and all(map(same_shape, one, other))


def _shaped(shape: Any) -> Any:
    """Shapes as things that have a `shape`."""
    return [ShapeOnly(item) for item in shape] if isinstance(shape, list) else ShapeOnly(shape)


def _of_output(value: Any, name: Any) -> Any:
    """What a batch says of one output; what a loss on inner layers reads is that of the only one."""
    if not isinstance(value, dict):
        return value
    return next(iter(value.values())) if len(value) == 1 else value.get(name if isinstance(name, str) else None)


def _weights(term: DistillationLoss, sample_weight: Any, unlabelled: Unlabelled | None, extra: Any) -> Any:
    """The weights of the examples in a term, the unlabelled ones `1 + extra` times."""
    rows = unlabelled.rows(term) if unlabelled else None
    if rows is None:
        return sample_weight
    weights = 1.0 + extra * rows
    return weights if sample_weight is None else multiply(sample_weight, weights)


def _logits_beside(term: DistillationLoss, outputs: dict[str, Any]) -> Any:
    """The teacher's logits that go with what a term compares; None where it has several outputs and none is named."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return next((outputs[name] for name in (term.teacher, term.student) if name in outputs), None)
