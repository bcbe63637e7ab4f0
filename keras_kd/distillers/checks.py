"""What a distillation cannot be made of: another backend, no terms, a student that cannot learn or is the teacher."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.keras_private import all_layers, holds_layers
from keras_kd.teachers import Teacher

BACKENDS = ("tensorflow", "jax")


def training_step() -> type:
    """The base class with the training step for the Keras backend in use; an empty one where there is none."""
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
                fix="Set KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax before the first import of keras.",
            )
        )


def check_function(name: str, function: Any) -> None:
    """Raises `ConfigurationError` where an argument is neither None nor a function."""
    if function is not None and not callable(function):
        raise ConfigurationError(
            explain(
                f"{name!r} is not usable.", received=repr(function), expected="a function of the batch's x, or None"
            )
        )


def check_student(student: Any) -> None:
    """Raises `ConfigurationError` where the student is not a Keras model."""
    if not isinstance(student, keras.Model):
        raise ConfigurationError(
            explain(
                "This is no student.",
                received=f"{type(student).__module__}.{type(student).__name__}",
                expected="a keras.Model: Distiller(teacher, student)",
            )
        )
    if isinstance(student, keras.Sequential) and not student.layers:
        raise ConfigurationError(
            explain("The student has no layers.", received=student.name, expected="a model to train")
        )


def check_losses(losses: Any) -> None:
    """Raises `ConfigurationError` where a list of terms is there and empty."""
    if isinstance(losses, (list, tuple)) and not losses:
        raise ConfigurationError(
            explain(
                "Without a term the teacher has no part in the training.",
                received="losses=[]",
                expected="at least one loss, or None for the default",
                fix="To train the student alone, call its own fit.",
            )
        )


def checked_outputs(teacher: Teacher, outputs: Any) -> ModelOutputs:
    """What a teacher returned; raises `ConfigurationError` if it is not a `ModelOutputs`."""
    if isinstance(outputs, ModelOutputs):
        return outputs
    raise ConfigurationError(
        explain(
            f"{type(teacher).__name__} does not return its outputs and taps apart.",
            received=f"a {type(outputs).__name__}",
            expected="keras_kd.teachers.ModelOutputs",
            fix="Return ModelOutputs({'output': logits}, {path: features}).",
        )
    )


def check_can_learn(student: keras.Model, teacher: Teacher) -> None:
    """Raises `ConfigurationError` where training would leave the student as it is, or change the teacher."""
    if not student.built:
        return
    if not student.trainable_variables:
        raise ConfigurationError(
            explain(
                "The student has nothing to train.",
                received=f"{student.name!r} with {len(student.weights)} weights, none of them trainable",
                expected="a student with trainable weights",
                fix="Set trainable = True on it, or on the layers that are to learn, before compile.",
            )
        )
    of_teacher = {id(variable) for variable in teacher.variables}
    shared = [variable.path for variable in _changed_by_training(student) if id(variable) in of_teacher]
    if shared:
        raise ConfigurationError(
            explain(
                "Teacher and student share weights, so that training the student would change the teacher.",
                received=f"{len(shared)} shared: {', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}",
                expected="weights of their own, or shared layers with trainable = False",
                fix="Make a copy: other = keras.models.clone_model(model); other.set_weights(model.get_weights()).",
            )
        )


def _changed_by_training(student: keras.Model) -> list[Any]:
    """The trainable variables, and the running means of the layers that are not frozen."""
    changed = {id(variable): variable for variable in student.trainable_variables}
    for layer in all_layers(student):
        if layer.trainable and not holds_layers(layer):
            changed |= {id(variable): variable for variable in layer.non_trainable_weights}
    return list(changed.values())


def policy_of(student: keras.Model) -> Any:
    """The policy by which `compile` decides on loss scaling: mixed_float16 where any part of the student is."""
    policies = [layer.dtype_policy for layer in all_layers(student)]
    return next((policy for policy in policies if policy.name == "mixed_float16"), student.dtype_policy)
