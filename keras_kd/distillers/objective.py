"""From terms to one number: the weighted sum that the student descends, and its named parts."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.losses import Context, DistillationLoss, SoftTargets
from keras_kd.serialization import nearest

RESERVED = ("loss", "student_loss", "distillation_loss", "alpha")


def combine(supervised: Any, distillation: Any, regularization: Any, alpha: Any) -> Any:
    """`(1 - alpha) * supervised + alpha * distillation + regularization`: alpha weighs the TEACHER.

    >>> float(combine(supervised=1.0, distillation=3.0, regularization=0.5, alpha=0.25))
    2.0
    """
    return (1.0 - alpha) * supervised + alpha * distillation + regularization


def distillation_terms(
    terms: list[DistillationLoss],
    teacher_outputs: dict[str, Any],
    student_outputs: dict[str, Any],
    *,
    labels: Any = None,
    sample_weight: Any = None,
    step: Any = 0,
    temperature: Any = None,
) -> dict[str, Any]:
    """The value of each term by its name, scalars.

    Args:
        terms: the losses; each names the outputs it reads.
        teacher_outputs, student_outputs: logits by output name, `[batch, ...]`.
        labels, sample_weight: as in the batch: one tensor, or a dict by output name.
        step: the optimizer's step.
        temperature: for the terms without one of their own.
    """
    values = {}
    for term in terms:
        teacher = select(teacher_outputs, term.teacher, term, "teacher")
        student = select(student_outputs, term.student, term, "student")
        context = Context(labels=_of_output(labels, term.student), step=step, temperature=temperature)
        values[term.name] = term(
            teacher, student, sample_weight=_of_output(sample_weight, term.student), context=context
        )
    return values


def total(values: dict[str, Any]) -> Any:
    """The sum of the terms, 0 where there are none."""
    return sum(values.values(), start=ops.zeros(()))


def select(outputs: dict[str, Any], name: str | None, term: DistillationLoss, role: str) -> Any:
    """The output that a term reads.

    Raises:
        ConfigurationError: no output of that name, or no name where there are several.
    """
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if name in outputs:
        return outputs[name]
    raise ConfigurationError(
        explain(
            f"The loss {term.name!r} does not say which {role} output it reads."
            if name is None
            else f"The loss {term.name!r} reads a {role} output that does not exist.",
            received=repr(name),
            expected="one of " + ", ".join(map(repr, outputs)),
            fix=(nearest(name, outputs) if name else "") or f"Pass {role}=... to the loss.",
        )
    )


def default_terms(teacher_shapes: Any, student_shapes: Any, activations: dict[str, str]) -> list[DistillationLoss]:
    """Soft targets for every output that teacher and student have in common by name and number of classes.

    Args:
        teacher_shapes, student_shapes: shape by output name, or None where unknown.
        activations: of the student's outputs, by name.

    Raises:
        ConfigurationError: they have none in common.
    """
    if teacher_shapes is None or student_shapes is None:
        return [SoftTargets()]
    if len(teacher_shapes) == len(student_shapes) == 1:
        pairs = [(None, None, *student_shapes)]
    else:
        common = [name for name in student_shapes if name in teacher_shapes]
        same = [name for name in common if teacher_shapes[name][-1] == student_shapes[name][-1]]
        pairs = [(name, name, name) for name in same]
    if not pairs:
        raise ConfigurationError(
            explain(
                "Teacher and student have no output in common.",
                received=f"teacher {teacher_shapes}, student {student_shapes}",
                fix="Name the pairs: losses=[SoftTargets(teacher='...', student='...')].",
            )
        )
    return [
        SoftTargets(
            teacher=teacher,
            student=student,
            activation="sigmoid" if activations[key] == "sigmoid" or student_shapes[key][-1] == 1 else "softmax",
        )
        for teacher, student, key in pairs
    ]


def check_terms(terms: list[DistillationLoss], teacher_shapes: Any, student_shapes: Any) -> None:
    """Raises `ConfigurationError` where names collide, or where outputs do not fit a term."""
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
    if teacher_shapes is None or student_shapes is None:
        return
    for term in terms:
        teacher = select(teacher_shapes, term.teacher, term, "teacher")
        student = select(student_shapes, term.student, term, "student")
        term.validate_outputs(_Shaped(teacher), _Shaped(student))


class _Shaped:
    """A shape where a tensor is expected."""

    def __init__(self, shape):
        self.shape = shape


def _of_output(value: Any, name: str | None) -> Any:
    return value.get(name) if isinstance(value, dict) else value
