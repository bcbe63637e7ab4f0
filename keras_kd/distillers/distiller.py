"""`Distiller`: a Keras model that trains a student to be like its teacher."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.data.carried import inputs_of
from keras_kd.distillers import objective
from keras_kd.distillers.supervision import check_default_terms, check_supervised_loss
from keras_kd.distillers.trackers import Trackers
from keras_kd.distillers.unlabelled import Unlabelled
from keras_kd.errors import ConfigurationError, Notice, explain
from keras_kd.features import find_heads, find_place, forward, inner_taps, output_shapes
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.losses import get as get_loss
from keras_kd.losses.base import DEFAULT_TEMPERATURE
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import AbsentTeacher, Batch, as_teacher, check_fingerprint

_ALPHA_HINT = "Alpha is the weight of the TEACHER; student_loss_weight of keras.distillation is 1 - alpha."


@register
class Distiller(keras.Model):
    """Trains a student on its labels and on what a teacher says of the same inputs.

    `loss = (1 - alpha) * supervised + alpha * sum(weight * term) + sum(student.losses)`, with an alpha of 1 for the
    examples without a label.

    The supervised part is the compiled loss; the default term is the soft-target loss `T^2 * KL(teacher || student)`.
    Compile and fit it like any Keras model; `evaluate`, `predict` and `validation_data` are about the student alone.
    Batches without labels, `(x,)`, train on the teacher only, with an alpha of 1. Among labelled examples, those
    without a label are of the class that the compiled loss ignores (`SparseCategoricalCrossentropy(ignore_class=-1)`),
    or have a row of zeros for class probabilities (`CategoricalCrossentropy`). Logs carry `loss`, `student_loss` (the
    supervised part), `distillation_loss` (the sum of the terms over all examples, before alpha), each term by name, and
    `alpha`.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Args:
        teacher: a Keras model, the path of a `.keras` file, or a `keras_kd.teachers` teacher. It is left as it is, and
            never saved with the distiller: a saved one names it by path and fingerprint.
        student: the Keras model to train.
        alpha: the weight of the TEACHER, 0 to 1, a number or a schedule. It may be set at any time.
        temperature: softens both sides of the default term, above 0, a number or a schedule.
        losses: the distillation terms, one or a list: losses of `keras_kd.losses` (objects, names, or mappings with
            name, settings and weight), of `keras.distillation`, or functions `(teacher, student) -> [batch]`. They may
            read inner layers of both models by path. None compares the logits of every output that both models have.
        teacher_inputs, student_inputs: functions that turn the batch's `x` into each model's input, where these differ.
        student_outputs: `"logits"` or `"probabilities"`, where the student's last layer does not tell.

    Raises:
        ConfigurationError: models or settings that do not fit together.
        TeacherError: the teacher's file is missing.
    """

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        *,
        alpha: Any = 0.5,
        temperature: Any = DEFAULT_TEMPERATURE,
        losses: Any = None,
        teacher_inputs: Callable[[Any], Any] | None = None,
        student_inputs: Callable[[Any], Any] | None = None,
        student_outputs: str | None = None,
        name: str = "distiller",
    ):
        step = _step_of_backend()
        _check_student(student)
        super().__init__(name=name, dtype=_policy_of(student), autocast=False)
        self._step = step
        self.student = student
        self.teacher_inputs = teacher_inputs
        self.student_inputs = student_inputs
        self.student_outputs = student_outputs
        self._alpha = Hyperparameter("alpha", alpha, at_least=0.0, at_most=1.0, fix=_ALPHA_HINT)
        self._temperature = Hyperparameter("temperature", temperature, at_least=1e-3)
        self._heads = find_heads(student, student_outputs, role="student")
        self._teacher = as_teacher(teacher)
        self.terms = self._make_terms(losses)
        self._teacher_taps, self._student_places = self._find_taps()
        self._terms_are_chosen = losses is not None
        self.trackers = Trackers(["loss", "student_loss", "distillation_loss", *(term.name for term in self.terms)])
        self._say_where_logits_come_from()
        self._say_what_was_projected()
        if student.built:
            self.built = True

    # What the user may change.

    @property
    def alpha(self):
        """The weight of the teacher: a number or a schedule. A new number counts from the next step on."""
        return self._alpha.value

    @alpha.setter
    def alpha(self, value):
        self._set(self._alpha, value)

    @property
    def temperature(self):
        """The temperature of the terms without one of their own: a number or a schedule."""
        return self._temperature.value

    @temperature.setter
    def temperature(self, value):
        self._set(self._temperature, value)

    @property
    def teacher(self):
        """The teacher. One that was missing after loading can be set again; it has to be the same one."""
        return self._teacher

    @teacher.setter
    def teacher(self, value):
        if isinstance(self.teacher, AbsentTeacher):
            check_fingerprint(value, self.teacher.fingerprint)
        previous, self._teacher = self._teacher, value
        try:
            self._teacher_taps, self._student_places = self._find_taps()
        except ConfigurationError:
            self._teacher = previous
            raise
        self._retrace()

    def __setattr__(self, name, value):
        if name == "teacher":  # Keras would track a model before the property above sees it
            value = as_teacher(value)
        super().__setattr__(name, value)

    # What Keras calls.

    def build(self, input_shape):
        """Nothing: the student builds itself in its first call, the losses when they know the shapes."""

    def call(self, inputs, training=None):
        """The student's outputs."""
        inputs = inputs_of(inputs)
        return self.student(inputs if self.student_inputs is None else self.student_inputs(inputs))

    def compile(self, optimizer="rmsprop", loss=None, **settings):
        """As `keras.Model.compile`, for the student; without a `loss` the teacher alone is followed.

        Raises:
            ConfigurationError: a cross-entropy that takes the student's logits for probabilities, or the reverse; a
                binary cross-entropy where the default term takes the outputs for exclusive classes.
        """
        if loss is not None:
            check_supervised_loss(loss, self._heads)
            if not self._terms_are_chosen:
                check_default_terms(loss, self.terms, self._heads)
        if settings.get("jit_compile") is True and not self.teacher.supports_jit:
            raise ConfigurationError("jit_compile=True, but the teacher has layers that XLA cannot compile.")
        self._find_unlabelled = functools.partial(Unlabelled, loss, names=list(self._heads))
        super().compile(optimizer=optimizer, loss=loss, **settings)

    def compile_from_config(self, config):
        self.compile(**deserialize(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data):
        return self._step.train_step(self, Batch.of(data))

    def test_step(self, data):
        batch = Batch.of(data)
        if self._compile_loss is not None:
            return super().test_step((batch.x, batch.y, batch.sample_weight))
        logs = self.compute_metrics(batch.x, batch.y, self(batch.x, training=False), batch.sample_weight)
        logs.pop("loss")  # nothing was compiled that could be measured
        return logs

    def get_metrics_result(self):
        if self._compile_metrics is not None and not self._compile_metrics.built:
            return {}  # no batch had labels so far
        return super().get_metrics_result()

    def reset_metrics(self):
        super().reset_metrics()
        self.trackers.reset()

    def get_config(self):
        return {
            "name": self.name,
            "teacher": serialize(self.teacher),
            "student": serialize(self.student),
            "alpha": self._alpha.get_config(),
            "temperature": self._temperature.get_config(),
            "losses": [serialize(term) for term in self.terms],
            "teacher_inputs": serialize(self.teacher_inputs),
            "student_inputs": serialize(self.student_inputs),
            "student_outputs": self.student_outputs,
        }

    @classmethod
    def from_config(cls, config):
        settings = {name: deserialize(value) for name, value in config.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)  # it was said when the distiller was made
            return cls(**settings)

    # What the step of the backend asks for.

    def teach(self, batch: Batch) -> objective.Said:
        """What the teacher says of a batch, logits and taps, without a gradient."""
        if self.teacher_inputs is not None:
            batch = batch._replace(x=self.teacher_inputs(batch.x))
        named = self.teacher(batch, self._teacher_taps) if self._teacher_taps else self.teacher(batch)
        taps = {path: named.pop(path) for path in self._teacher_taps}
        return objective.Said(named, taps)

    def study(self, x: Any) -> tuple[Any, objective.Said]:
        """One forward pass of the student in training mode: its outputs as they are, and its logits and taps."""
        outputs, logits, taps = forward(self, self._heads, x, places=self._student_places, training=True)
        return outputs, objective.Said(logits, taps)

    def unlabelled(self, batch: Batch) -> Unlabelled:
        """Which examples of a batch have no label, by what the compiled loss declares."""
        return self._find_unlabelled(batch.y)

    def supervised_loss(self, batch: Batch, outputs: Any, unlabelled: Unlabelled) -> Any:
        """The compiled loss alone, or None where the batch has no labels or nothing was compiled."""
        if batch.y is None or self._compile_loss is None:
            return None
        return self._compile_loss(batch.y, outputs, unlabelled.loss_weights(batch.sample_weight))

    def hyperparameters_at(self, step: Any) -> tuple[Any, Any]:
        """Alpha and temperature at an optimizer step."""
        return self._alpha.at(step), self._temperature.at(step)

    # Parts of the construction.

    def _make_terms(self, losses):
        student_shapes = output_shapes(self.student)
        if losses is None:
            activations = {name: head.activation for name, head in self._heads.items()}
            terms = objective.default_terms(self.teacher.output_shapes, student_shapes, activations)
        else:
            losses = losses if isinstance(losses, (list, tuple)) else [losses]
            terms = [get_loss(loss) for loss in losses]
        objective.check_names(terms)
        return terms

    def _find_taps(self):
        """The paths that the terms read inside the teacher, and the places inside the student; builds the terms."""
        teacher_taps = self.teacher.inner_taps(objective.names_read(self.terms, "teacher"))
        student_taps = inner_taps(self.student, objective.names_read(self.terms, "student"), role="student")
        objective.build_terms(
            self.terms,
            objective.Said(self.teacher.output_shapes, teacher_taps),
            objective.Said(output_shapes(self.student), student_taps),
        )
        return tuple(teacher_taps), tuple(find_place(self.student, path) for path in student_taps)

    def _say_where_logits_come_from(self):
        student = {name: head.activation for name, head in self._heads.items()}
        ends = [
            f"the {role}'s {name!r} ends in {activation}"
            for role, activations in (("teacher", self.teacher.activations), ("student", student))
            for name, activation in activations.items()
            if activation != "linear"
        ]
        if ends:
            message = "Distillation works on logits, read from before the last activation: " + ", ".join(ends) + "."
            warnings.warn(message, Notice, stacklevel=3)

    def _say_what_was_projected(self):
        picked = [f"{term.name}: {term.projection}" for term in self.terms if term.projection]
        if picked:
            message = "Projectors from the student's features to the teacher's shape: " + "; ".join(picked) + "."
            warnings.warn(message, Notice, stacklevel=3)

    def _set(self, hyperparameter, value):
        if hyperparameter.set(value):
            self._retrace()

    def _retrace(self):
        if getattr(self, "train_function", None) is not None:
            self.make_train_function(force=True)


def _step_of_backend() -> Any:
    """The module with the training step for the Keras backend in use."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigurationError(
            explain(
                "The Distiller has no training step for this backend.",
                received=f"keras.backend.backend() == {keras.backend.backend()!r}",
                expected="'tensorflow'",
                fix="Set KERAS_BACKEND=tensorflow before the first import of keras.",
            )
        )
    from keras_kd.distillers import _tensorflow

    return _tensorflow


def _check_student(student: Any) -> None:
    if not isinstance(student, keras.Model):
        raise ConfigurationError(
            explain(
                "This is no student.",
                received=f"{type(student).__module__}.{type(student).__name__}",
                expected="a keras.Model: Distiller(teacher, student)",
            )
        )


def _policy_of(student: keras.Model) -> Any:
    """The policy by which `compile` decides on loss scaling: mixed_float16 where any part of the student is."""
    policies = [layer.dtype_policy for layer in student._flatten_layers()]
    return next((policy for policy in policies if policy.name == "mixed_float16"), student.dtype_policy)
