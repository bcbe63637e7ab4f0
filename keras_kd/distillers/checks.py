"""Checks of a Distiller's arguments: the backend, the losses, and a trainable student other than the teacher."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.keras_private import all_layers, holds_layers
from keras_kd.serialization import nearest
from keras_kd.teachers import Teacher

BACKENDS = ("tensorflow", "jax")


def training_step() -> type:
    """The base class with the training step for the current Keras backend; an empty class if there is none."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from keras_kd.distillers._tensorflow import TrainingStep
    elif backend == "jax":
        from keras_kd.distillers._jax import TrainingStep
    else:
        TrainingStep = object
    return TrainingStep


def check_backend() -> None:
    """Raises `ConfigurationError` on a Keras backend without a training step."""
    if keras.backend.backend() not in BACKENDS:
        raise ConfigurationError(
            explain(
                "The Distiller has no training step for this backend.",
                received=f"keras.backend.backend() == {keras.backend.backend()!r}",
                expected=" or ".join(map(repr, BACKENDS)),
                fix="Before the first import of keras, set KERAS_BACKEND=tensorflow, or KERAS_BACKEND=jax after "
                "pip install 'keras_kd[jax]'.",
            )
        )


def refuse_arguments(unknown: dict[str, Any]) -> None:
    """Raises `ConfigurationError` for arguments that the Distiller does not have.

    For those of `keras.distillation.Distiller`, the message gives the equivalent, with the user's values.
    """
    if not unknown:
        return
    translated = [_TRANSLATED[name](value) for name, value in unknown.items() if name in _TRANSLATED]
    raise ConfigurationError(
        explain(
            "These are arguments of keras.distillation.Distiller."
            if translated
            else "The Distiller does not have these arguments.",
            received=", ".join(f"{name}={value!r}" for name, value in unknown.items()),
            expected=", ".join(translated) or f"{', '.join(_ARGUMENTS)}, as keywords",
            fix="Alpha weighs the TEACHER: alpha = 1 - student_loss_weight. The strategies and their weights are "
            "'losses', for example losses=[Weighted(SoftTargets(), 2.0)], or the same objects of keras.distillation."
            if translated
            else " ".join(filter(None, (nearest(name, _ARGUMENTS) for name in unknown))) or None,
        )
    )


def _as_alpha(student_loss_weight: Any) -> str:
    is_number = isinstance(student_loss_weight, (int, float)) and not isinstance(student_loss_weight, bool)
    return f"alpha={1 - student_loss_weight:g}" if is_number else "alpha=1 - student_loss_weight"


def _as_losses(losses: Any) -> str:
    given = losses if isinstance(losses, (list, tuple)) else [losses]
    return f"losses=[{', '.join(f'{type(loss).__name__}(...)' for loss in given)}]"


def _as_weights(weights: Any) -> str:
    given = weights if isinstance(weights, (list, tuple)) else [weights]
    return f"losses=[{', '.join(f'Weighted(..., {weight!r})' for weight in given)}]"


_TRANSLATED = {
    "student_loss_weight": _as_alpha,
    "distillation_losses": _as_losses,
    "distillation_loss_weights": _as_weights,
}
_ARGUMENTS = (
    *("alpha", "temperature", "losses", "teacher_inputs", "student_inputs", "student_outputs"),
    *("adversary", "supervise", "name"),
)


def check_student(student: Any) -> None:
    """Raises `ConfigurationError` if the student is not a Keras model, or has no layers."""
    if not isinstance(student, keras.Model):
        raise ConfigurationError(
            explain(
                "`student` must be a keras.Model.",
                received=f"{type(student).__module__}.{type(student).__name__}",
                expected="Distiller(teacher, student) with a keras.Model as the student",
            )
        )
    if isinstance(student, keras.Sequential) and not student.layers:
        raise ConfigurationError(
            explain("The student has no layers.", received=student.name, expected="a model to train")
        )


def check_losses(losses: Any) -> None:
    """Raises `ConfigurationError` if the list of losses is empty."""
    if isinstance(losses, (list, tuple)) and not losses:
        raise ConfigurationError(
            explain(
                "Without losses the teacher does not influence the training.",
                received="losses=[]",
                expected="at least one loss, or None for the default",
                fix="To train the student alone, call its own fit.",
            )
        )


def check_can_learn(student: keras.Model, teacher: Teacher) -> None:
    """Raises `ConfigurationError` if training could not change the student, or would change the teacher."""
    if not student.built:
        return
    if not student.trainable_variables:
        raise ConfigurationError(
            explain(
                "The student has nothing to train.",
                received=f"{student.name!r} with {len(student.weights)} weights, none of them trainable",
                expected="a student with trainable weights",
                fix="Set trainable = True on the model, or on some of its layers, before compile.",
            )
        )
    of_teacher = {id(variable) for variable in teacher.variables}
    shared = [variable.path for variable in _changed_by_training(student) if id(variable) in of_teacher]
    if shared:
        raise ConfigurationError(
            explain(
                "Teacher and student share weights: training the student would change the teacher.",
                received=f"{len(shared)} shared: {', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}",
                expected="separate weights, or shared layers with trainable = False",
                fix="Copy the model: other = keras.models.clone_model(model); other.set_weights(model.get_weights()).",
            )
        )


def _changed_by_training(student: keras.Model) -> list[Any]:
    """The trainable variables, and the moving statistics of the layers that are not frozen."""
    changed = {id(variable): variable for variable in student.trainable_variables}
    for layer in all_layers(student):
        if layer.trainable and not holds_layers(layer):
            changed |= {id(variable): variable for variable in layer.non_trainable_weights}
    return list(changed.values())


def policy_of(student: keras.Model) -> Any:
    """The dtype policy that decides on loss scaling in `compile`: mixed_float16 if any part of the student uses it."""
    policies = [layer.dtype_policy for layer in all_layers(student)]
    return next((policy for policy in policies if policy.name == "mixed_float16"), student.dtype_policy)
