"""Checks of an adversary: the models, the losses and the inputs that it can work with."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_kd.adversaries import Adversary
from keras_kd.distillers.supervision import known_name
from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features.shapes import same_shape

ADVERSARIAL = "adversarial"
OUTSIDE = "outside_value_range"
_UNSUITABLE = ("mean_squared_error", "mean_absolute_error", "huber", "binary_crossentropy", "binary_focal_crossentropy")


def check_adversary(adversary: Any, supervise: Any) -> None:
    """Raises `ConfigurationError` if this is neither an adversary nor None, or `supervise` has no effect."""
    check_choice("supervise", supervise, ("clean", ADVERSARIAL))
    if adversary is not None and not isinstance(adversary, Adversary):
        raise ConfigurationError(
            explain(
                "`adversary` must be one of keras_kd.adversaries.",
                received=repr(adversary),
                expected="for example PGD(8 / 255, steps=10), or None",
            )
        )
    if adversary is None and supervise != "clean":
        raise ConfigurationError(
            explain(
                "Without an adversary there are no adversarial examples for the labels.",
                received=f"supervise={supervise!r} and adversary=None",
                fix="Pass adversary=keras_kd.adversaries.PGD(8 / 255, steps=10).",
            )
        )


def check_attackable(distiller: Any, heads: Any, shapes: Any) -> None:
    """Raises `ConfigurationError` if the adversary of a distiller does not fit its models and losses.

    Args:
        heads, shapes: of the student's outputs, see `check_inputs_and_classes`.
    """
    check_inputs_and_classes(distiller.student, heads, shapes, role="student")
    reads = {role: [name for term in distiller.terms for name in _names(getattr(term, role))] for role in _ROLES}
    if ADVERSARIAL not in reads["student"] and distiller.supervise == "clean":
        raise ConfigurationError(
            explain(
                "The adversary has no effect: nothing is trained on the perturbed inputs.",
                received=f"losses that read {reads['student']} of the student, and supervise='clean'",
                expected="a loss with student='adversarial', or supervise='adversarial'",
                fix="For example losses=[SoftTargets(student='adversarial')].",
            )
        )
    teacher, adaptive = distiller.teacher, distiller.adversary.objective == "adaptive_kl"
    if teacher.runs_outside_step and (adaptive or ADVERSARIAL in reads["teacher"]):
        raise ConfigurationError(
            explain(
                "This teacher runs outside the training step, so it has no outputs for perturbed inputs.",
                received=type(teacher).__name__,
                expected="a Keras model as the teacher, or losses that read its output for the clean inputs",
            )
        )
    if adaptive and not teacher.is_differentiable:
        raise ConfigurationError(
            explain(
                "objective='adaptive_kl' follows the teacher's gradient to its inputs.",
                received=type(teacher).__name__,
                expected="a Keras model as the teacher",
                fix="Use objective='kl', for which the teacher's outputs for the clean inputs suffice.",
            )
        )


def check_compiled(losses: dict[str, Any]) -> None:
    """Raises `ConfigurationError` if a compiled loss, by output name, does not compare exclusive classes."""
    for loss in losses.values():
        if known_name(loss) in _UNSUITABLE:
            raise ConfigurationError(
                explain(
                    "An adversary attacks the decision among exclusive classes.",
                    received=f"loss={loss!r}",
                    expected="a categorical cross-entropy",
                )
            )


def check_replacement(present: Adversary | None, other: Any) -> None:
    """Raises `ConfigurationError` if an adversary would appear or disappear, since the losses depend on it."""
    if not (isinstance(present, Adversary) and isinstance(other, Adversary)):
        raise ConfigurationError(
            explain(
                "An adversary can only be replaced by another one.",
                received=f"{other!r} in place of {present!r}",
                fix="Create a new Distiller with adversary=..., or without it.",
            )
        )


def checked_inputs(x: Any) -> Any:
    """The inputs; raises `ConfigurationError` if they are not one tensor of floating-point numbers."""
    if keras.tree.is_nested(x):
        raise ConfigurationError(
            explain(
                "An adversary perturbs a single input.",
                received=f"{len(keras.tree.flatten(x))} inputs",
                expected="one tensor",
                fix="If teacher and student read different parts, perturb the raw input and derive the parts with "
                "teacher_inputs=... and student_inputs=....",
            )
        )
    dtype = keras.backend.standardize_dtype(x.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ConfigurationError(
            explain(
                "An adversary perturbs real numbers.",
                received=f"inputs of type {dtype}",
                expected="floating-point inputs",
                fix="Convert them first: x.astype('float32') / 255 for images.",
            )
        )
    return x


def check_arrays(adversary: Adversary, x: Any) -> None:
    """Raises `ConfigurationError` if inputs given as an array are not floats in the adversary's value range."""
    if not isinstance(x, np.ndarray):
        return
    checked_inputs(x)
    low, high = adversary.value_range
    if x.size and not (low - 1e-5 * (high - low) <= x.min() and x.max() <= high + 1e-5 * (high - low)):  # also for NaN
        raise ConfigurationError(
            explain(
                "The inputs lie outside the adversary's value range.",
                received=f"values from {x.min():g} to {x.max():g}",
                expected=f"{low:g} to {high:g}",
                fix="Scale the inputs, or pass value_range=(low, high) to the adversary. A normalization by mean and "
                "deviation belongs into the model, as a keras.layers.Normalization, so that epsilon has the unit of "
                "the images.",
            )
        )


def only_logits(outputs: dict[str, Any], role: str = "student") -> Any:
    """The logits of a model's only output; raises `ConfigurationError` if it has several."""
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    raise ConfigurationError(
        explain(
            f"An adversary needs a {role} with one output.",
            received=", ".join(map(repr, outputs)) or "none",
            fix="Wrap the model: keras.Model(model.input, one_output).",
        )
    )


def check_same_classes(target: Any, logits: Any) -> Any:
    """The attack's target; raises `ConfigurationError` if it has not the shape of the student's logits."""
    if same_shape(tuple(target.shape), tuple(logits.shape)):
        return target
    raise ConfigurationError(
        explain(
            "The adversary compares outputs of different shapes.",
            received=f"teacher {tuple(target.shape)}, student {tuple(logits.shape)}",
            expected="the same classes",
            fix="Use objective='cross_entropy', which needs no teacher.",
        )
    )


_ROLES = ("teacher", "student")


def check_inputs_and_classes(model: keras.Model, heads: Any, shapes: Any, role: str = "model") -> None:
    """Raises `ConfigurationError` if a model has several inputs or outputs, or no exclusive classes.

    Args:
        heads: by output name; None if unknown.
        shapes: of the outputs by name; None if unknown.
    """
    for kind in ("inputs", "outputs"):
        number = len(getattr(model, kind, None) or [model])
        if number != 1:
            problem = f"An adversary needs a {role} with one input and one output."
            raise ConfigurationError(explain(problem, received=f"{number} {kind}", expected="1"))
    head = None if heads is None else next(iter(heads.values()))
    size = None if shapes is None else next(iter(shapes.values()))[-1]
    if size == 1 or (head is not None and head.activation == "sigmoid"):
        raise ConfigurationError(
            explain(
                "An adversary attacks the decision among exclusive classes.",
                received=f"a {role} with {size} outputs" + (f", final activation {head.activation}" if head else ""),
                expected="two or more logits, or a softmax",
                fix="For two classes, build the model with two outputs.",
            )
        )


def _names(read: Any) -> tuple[Any, ...]:
    return read if isinstance(read, tuple) else (read,)
