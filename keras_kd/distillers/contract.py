"""The contract of a step: what a batch contributes to the loss and the logs, on every backend.

A step file calls these methods and adds the gradient, the loss scale, the update and the replicas.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_kd.data.pairs.selection import selected, selected_or_own
from keras_kd.distillers import objective
from keras_kd.distillers.unlabeled import Unlabeled
from keras_kd.features import ModelOutputs, forward
from keras_kd.keras_private import compiled_loss, compiled_metrics
from keras_kd.losses import Context, DistillationLoss
from keras_kd.losses.reduction import PerExample, Reduction
from keras_kd.teachers import Batch, Teacher


class LogValue(NamedTuple):
    """A value for the logs, and the number of examples over which it is the mean."""

    value: Any
    size: Any


class Parts(NamedTuple):
    """The contribution of one batch to a step, computed by `Distiller.loss_and_parts`.

    Attributes:
        loss: the scalar to minimize.
        outputs: the student's outputs as its model returns them, for the compiled metrics.
        logs: scalars by name, each with the number of examples over which it is the mean. Terms are logged before
            alpha.
        alpha: the weight of the teacher at this step, a scalar.
    """

    loss: Any
    outputs: Any
    logs: dict[str, LogValue]
    alpha: Any


class Trackers:
    """One running mean per name, over the examples since the last reset."""

    def __init__(self, names: list[str]):
        self._means = {name: keras.metrics.Mean(name=name.replace("/", "_")) for name in names}

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of the means."""
        return [variable for mean in self._means.values() for variable in mean.variables]

    def update(self, name: str, value: Any, size: Any) -> Any:
        """Adds the mean `value` of a batch of `size` examples; returns the running mean of that name."""
        self._means[name].update_state(value, sample_weight=size)
        return self._means[name].result()

    def reset(self) -> None:
        for mean in self._means.values():
            mean.reset_state()


class StepContract:
    """The methods of a `Distiller` through which a batch passes.

    None takes a gradient or handles replicas; only `prepare_batch`, `after_update` and `update_logs` change state. The
    `Distiller` sets the attributes.
    """

    student: keras.Model
    teacher: Teacher
    terms: list[DistillationLoss]
    trackers: Trackers
    _label_weight: float | None = None  # None is 1 - alpha

    def call(self, inputs, training=None):
        """The student's outputs."""
        inputs = Batch.of((inputs,)).x  # `predict` passes the inputs of a Pipeline unchanged
        if training:
            return self.student(selected(self.student_inputs, inputs))
        return self.student(selected_or_own(self.student_inputs, inputs, self.student))

    @property
    def frozen_state(self) -> list[Any]:
        """The variables that a step reads but never changes: the teacher's, alpha, temperature, weights of the terms.

        They are not among the trainable, non-trainable, optimizer or metrics variables of the distiller, and are not
        saved with it. A backend without mutable variables passes their values into the step (`keras.StatelessScope`).
        """
        variables = [*self.teacher.variables, *(hyperparameter.variable for hyperparameter in self._hyperparameters)]
        own = {id(variable) for variable in self.variables}
        return list({id(variable): variable for variable in variables if id(variable) not in own}.values())

    @property
    def _student_is_known(self) -> bool:
        return self._heads is not None and self._student_shapes is not None

    @property
    def traced_settings(self) -> list[Any]:
        """What is a constant in a compiled step, to be compared with what it was when the step was traced."""
        schedules = [hyperparameter.schedule for hyperparameter in self._hyperparameters]
        inputs = [self.teacher_inputs, self.student_inputs]
        return [self.teacher, self.teacher.traced_settings, *inputs, self.adversary, *schedules]

    @property
    def _hyperparameters(self):
        return [self._alpha, self._temperature, *(own for term in self.terms for own in term.hyperparameters)]

    def batch_of(self, data: Any) -> Batch:
        """The batch in an item of a Keras iterator."""
        return Batch.of(data)

    def prepare_batch(self, data: Any) -> Batch:
        """The batch from an item of a Keras iterator; the first one shows what a student without a graph returns."""
        batch = self.batch_of(data)
        if not self._student_is_known:
            self._inspect_student(batch.x)
        return batch

    def teach(self, batch: Batch) -> ModelOutputs:
        """The teacher's logits and the inner layers that the terms read, without a gradient.

        Empty for a teacher that reads the student: its targets follow from `study`.
        """
        if not self.teacher.runs_outside_step:
            batch = batch._replace(x=selected(self.teacher_inputs, batch.x))
        return objective.checked_outputs(self.teacher, self.teacher(batch, self._teacher_taps))

    def study(self, x: Any) -> tuple[Any, ModelOutputs]:
        """One forward pass of the student in training mode: its raw outputs, and its logits and taps."""
        outputs, logits, taps = forward(self, self._heads, x, places=self._student_places, training=True)
        return outputs, ModelOutputs(logits, taps)

    def loss_and_parts(
        self, batch: Batch, targets: ModelOutputs, *, step: Any, studied: tuple[Any, ModelOutputs] | None = None
    ) -> Parts:
        """The loss of a batch and its named parts, without a gradient; changes no state of its own.

        State that the layers of student and terms update in their forward pass (moving statistics, seeds, memories) is
        in non-trainable variables of the distiller; `keras.StatelessScope(collect_losses=True)` carries it.

        Args:
            batch: from `prepare_batch`, with the perturbed inputs from `attack` if there is an adversary.
            targets: from `teach` and `attack`, or the outputs of any other model in the same form.
            step: the optimizer step at which schedules are evaluated.
            studied: the result of `study_batch` for the same batch, if already computed; None computes it.
        """
        outputs, student = self.study_batch(batch) if studied is None else studied
        alpha, temperature = self._alpha.at(step), self._temperature.at(step)
        readiness = self.teacher.readiness
        unlabeled = self._unlabeled(batch)
        labels = unlabeled.labels_for_terms(batch.y)
        if self.teacher.reads_student:
            targets = self.teacher.targets(student, labels)
        losses = objective.losses_per_example(
            self.terms,
            targets,
            student,
            labels=labels,
            sample_weight=batch.sample_weight,
            context=Context(step=step, temperature=temperature, ids=batch.ids, view=batch.view),
        )
        values, distillation = objective.distill(self.terms, losses, 1.0 if batch.y is None else alpha, unlabeled)
        alpha, distillation = alpha * readiness, distillation * readiness
        supervised = self._supervised_loss(batch, outputs, unlabeled)
        size = ops.cast(ops.shape(keras.tree.flatten(batch.x)[0])[0], "float32")
        loss = objective.combine(
            0.0 if supervised is None else supervised,
            distillation,
            self._regularization(),
            alpha,
            label_weight=self._label_weight,
        )
        logs = _log_values(loss, supervised, values, size, unlabeled) | self.attack_logs(batch, size)
        return Parts(loss, outputs, logs, alpha)

    def after_update(self) -> None:
        """Changes what follows the student's weights: a step file calls it once the student has been updated."""
        if self.teacher.follows_student:
            self.teacher.after_update(self.optimizer.iterations)

    def update_logs(self, batch: Batch, parts: Parts, *, num_replicas: int = 1) -> dict[str, Any]:
        """Updates compiled metrics and running means with a batch; returns the logs so far.

        Args:
            batch: from `prepare_batch`.
            parts: of that batch.
            num_replicas: the number by which the losses were divided; the logs undo the division.
        """
        logs = {}
        if batch.y is not None:
            weights = self._unlabeled(batch).metric_weights(batch.sample_weight)
            logs = self.compute_metrics(batch.x, batch.y, parts.outputs, sample_weight=weights)
        for name, (value, size) in parts.logs.items():
            logs[name] = self.trackers.update(name, value * num_replicas, size)
        return logs | {"alpha": parts.alpha}

    def _unlabeled(self, batch: Batch) -> Unlabeled:
        """Which examples of a batch have no label, as declared by the compiled loss."""
        return self._label_declarations.find(batch.y)

    def _supervised_loss(self, batch: Batch, outputs: Any, unlabeled: Unlabeled) -> Any:
        """The compiled loss, or None if the batch has no labels or no loss was compiled."""
        if batch.y is None or compiled_loss(self) is None:
            return None
        return compiled_loss(self)(batch.y, outputs, unlabeled.loss_weights(batch.sample_weight))

    def _regularization(self) -> Any:
        """The sum of the losses added by layers, divided among replicas as Keras does with other losses."""
        total = sum((ops.sum(ops.cast(loss, "float32")) for loss in self.losses), start=ops.zeros(()))
        return Reduction(name="regularization")(PerExample(total))

    @property
    def metrics_variables(self):
        """The variables of the compiled metrics and of the running means in the logs."""
        return [*super().metrics_variables, *self.trackers.variables]

    def get_metrics_result(self):
        if compiled_metrics(self) is not None and not compiled_metrics(self).built:
            return {}  # no labeled batch yet
        return super().get_metrics_result()

    def reset_metrics(self):
        super().reset_metrics()
        self.trackers.reset()


def _log_values(
    loss: Any, supervised: Any, values: dict[str, Any], size: Any, unlabeled: Unlabeled
) -> dict[str, LogValue]:
    """The parts of the loss by their names in the logs, each with its number of examples."""
    logs = {"loss": LogValue(loss, size)}
    if supervised is not None:
        logs["student_loss"] = LogValue(supervised, size * unlabeled.loss_share())
    logs["distillation_loss"] = LogValue(sum(values.values(), start=ops.zeros(())), size)
    return logs | {name: LogValue(value, size) for name, value in values.items()}
