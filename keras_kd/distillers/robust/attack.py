"""The attack within a training step: perturbs the student's inputs, and runs the models on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_kd.adversaries import Adversary, objectives
from keras_kd.data.pairs.selection import selected
from keras_kd.distillers.robust.checks import (
    ADVERSARIAL,
    OUTSIDE,
    check_adversary,
    check_arrays,
    check_attackable,
    check_compiled,
    check_replacement,
    check_same_classes,
    checked_inputs,
    only_logits,
)
from keras_kd.distillers.supervision import losses_by_output
from keras_kd.distillers.terms import names_read
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs, forward
from keras_kd.keras_private import compiled_loss, compiled_metrics
from keras_kd.losses import SoftTargets
from keras_kd.losses.reduction import PerExample, Reduction, any_in_row, has_weight
from keras_kd.tasks import tensors
from keras_kd.teachers import Batch


class Attack:
    """The methods of a `Distiller` through which a batch passes if it has an adversary.

    The attack runs the student in inference mode, so that the perturbation of an example does not depend on the other
    examples of the batch, and nothing is learned from it. A loss reads the outputs for the perturbed inputs by the name
    `"adversarial"`, of the student or of the teacher.
    """

    supervise: str
    _adversary: Adversary | None

    @property
    def adversary(self) -> Adversary | None:
        """What perturbs the inputs. It may be replaced by another one, which takes effect at the next step."""
        return self._adversary

    @adversary.setter
    def adversary(self, value):
        check_replacement(self._adversary, value)
        previous, self._adversary = self._adversary, value
        try:
            self._check_attack()
        except ConfigurationError:
            self._adversary = previous
            raise

    def fit(self, x=None, *args, **settings):
        self._check_arrays(x)
        return super().fit(x, *args, **settings)

    def train_on_batch(self, x, *args, **settings):
        self._check_arrays(x)
        return super().train_on_batch(x, *args, **settings)

    def attack(self, batch: Batch, targets: ModelOutputs, *, step: Any) -> tuple[Batch, ModelOutputs]:
        """Adds the perturbed inputs to a batch and, if a loss reads it, the teacher's output for them to the targets.

        The perturbed inputs of an example outside the value range are NaN, and so is the loss: a compiled step cannot
        raise an error. The log `outside_value_range` is the share of such examples.

        Args:
            batch: from `prepare_batch`.
            targets: from `teach`.
            step: the optimizer's step, which with the adversary's seed determines a random start.
        """
        if self.adversary is None:
            return batch, targets
        x = ops.cast(checked_inputs(batch.x), "float32")
        objective = self._objective(batch, targets)

        def total(moved):  # a sum: the gradient of each example is its own, whatever the size of the batch
            return ops.sum(objective(self._infer(moved), moved))

        moved = self.adversary.perturb(
            x, lambda moved: self.input_gradient(total, moved), start=self.adversary.start(x, step)
        )
        outside = self._outside(x, batch)
        moved = ops.where(ops.reshape(outside, (-1, *[1] * (len(x.shape) - 1))), float("nan"), moved)
        batch = batch._replace(adversarial=ops.stop_gradient(moved))
        return batch, self._with_adversarial_target(batch, targets)

    def study_batch(self, batch: Batch) -> tuple[Any, ModelOutputs]:
        """The student's raw outputs that the labels train; and its logits and taps, `"adversarial"` among them.

        Only passes that a loss or a metric reads are run, the adversarial one first.
        """
        if self.adversary is None:
            return self.study(batch.x)
        outputs, adversarial = self.study(batch.adversarial)
        student = ModelOutputs({}, {})
        if self._reads_clean(batch):
            clean, student = self.study(batch.x)
            outputs = clean if self.supervise == "clean" else outputs
        return outputs, ModelOutputs(student.outputs, student.taps | {ADVERSARIAL: only_logits(adversarial.outputs)})

    def attack_logs(self, batch: Batch, size: Any) -> dict[str, Any]:
        """The share of examples outside the value range, for the logs."""
        if self.adversary is None:
            return {}
        outside = ops.cast(self._outside(ops.cast(batch.x, "float32"), batch), "float32")
        return {OUTSIDE: (Reduction(name=OUTSIDE)(PerExample(ops.mean(outside))), size)}

    def _reads_clean(self, batch: Batch) -> bool:
        read = [name for term in self.terms for name in _names(term.student)]
        labels = batch.y is not None and (compiled_loss(self) is not None or compiled_metrics(self) is not None)
        return any(name != ADVERSARIAL for name in read) or (self.supervise == "clean" and labels)

    def _objective(self, batch: Batch, targets: ModelOutputs) -> Callable[[Any, Any], Any]:
        """What the adversary maximizes: a function of the student's logits and the inputs, to `[batch]`."""
        kind = self.adversary.objective
        if kind == "adaptive_kl":
            return lambda logits, x: objectives.kl_divergence(self._teacher_at(x, logits), logits)
        if kind == "kl":
            goal = ops.softmax(ops.cast(self._attack_target(batch, targets), "float32"), axis=-1)
            return lambda logits, x: objectives.cross_entropy(check_same_classes(goal, logits), logits)
        if batch.y is None:
            raise ConfigurationError(
                explain(
                    "The adversary maximizes the loss of the labels, and the batch has none.",
                    received=f"{self.adversary!r} and a batch without labels",
                    fix="Use objective='kl', which needs no labels.",
                )
            )
        return lambda logits, x: objectives.cross_entropy(self._labels(batch, targets, logits), logits)

    def _labels(self, batch: Batch, targets: ModelOutputs, logits: Any) -> Any:
        """The labels as probabilities; for an example without one, the top class of the attack's target."""
        unlabeled = self._unlabeled(batch)
        labels = keras.tree.flatten(unlabeled.labels_for_terms(batch.y))
        if len(labels) != 1:
            raise ConfigurationError(
                explain("An adversary needs labels of one output.", received=f"{len(labels)} tensors of labels")
            )
        probabilities, known = tensors.targets_of(ops.convert_to_tensor(labels[0]), logits, "softmax")
        if not unlabeled:
            return probabilities
        own = check_same_classes(self._attack_target(batch, targets), logits)
        top = ops.one_hot(ops.argmax(own, axis=-1), logits.shape[-1], dtype=probabilities.dtype)
        return ops.where(known, probabilities, top)

    def _attack_target(self, batch: Batch, targets: ModelOutputs) -> Any:
        """The logits for the clean inputs that stand for the truth in the attack: the teacher's."""
        return only_logits(targets.outputs, role="teacher")

    def _teacher_at(self, x: Any, logits: Any) -> Any:
        inputs = selected(self.teacher_inputs, x)
        return check_same_classes(only_logits(self.teacher.differentiable(inputs).outputs, role="teacher"), logits)

    def _infer(self, x: Any) -> Any:
        """The student's logits in inference mode."""
        return only_logits(forward(self, self._heads, x, training=False)[1])

    def _with_adversarial_target(self, batch: Batch, targets: ModelOutputs) -> ModelOutputs:
        if ADVERSARIAL not in [name for term in self.terms for name in _names(term.teacher)]:
            return targets
        moved = self.teach(batch._replace(x=batch.adversarial)).outputs
        return ModelOutputs(targets.outputs, targets.taps | {ADVERSARIAL: only_logits(moved, role="teacher")})

    def _outside(self, x: Any, batch: Batch) -> Any:
        """Bool `[batch]`: the examples outside the value range, except those with a weight of 0."""
        outside = self.adversary.outside(x)
        if batch.sample_weight is None or keras.tree.is_nested(batch.sample_weight):
            return outside
        return ops.logical_and(outside, any_in_row(has_weight(batch.sample_weight)))

    def _check_arrays(self, x: Any) -> None:
        if self.adversary is not None:
            check_arrays(self.adversary, x)

    def _check_attack(self) -> None:
        """Raises `ConfigurationError` if the adversary does not fit the models, the losses or the compiled loss."""
        check_adversary(self.adversary, self.supervise)
        if self.adversary is None:
            return
        check_attackable(self, self._heads, self._student_shapes)
        if self._compiled_loss is not None and self._heads is not None:
            check_compiled(losses_by_output(self._compiled_loss.value, list(self._heads)))

    @property
    def _more_logs(self) -> list[str]:
        return [] if self.adversary is None else [OUTSIDE]

    def _inner_names(self, role: str) -> list[str]:
        """The outputs and layers that the terms name, without `"adversarial"`."""
        names = names_read(self.terms, role)
        return names if self.adversary is None else [name for name in names if name != ADVERSARIAL]

    def _with_adversarial_shape(self, shapes: ModelOutputs) -> ModelOutputs:
        if self.adversary is None:
            return shapes
        shape = only_logits(shapes.outputs) if shapes.outputs else None
        return ModelOutputs(shapes.outputs, shapes.taps | {ADVERSARIAL: shape})


def on_adversarial(terms: list[SoftTargets]) -> list[SoftTargets]:
    """The default terms, read from the student's output for the perturbed inputs (ARD)."""
    if len(terms) != 1:
        raise ConfigurationError(
            explain(
                "An adversary needs a student with one input and one output.",
                received=f"{len(terms)} outputs",
                expected="1",
            )
        )
    return [SoftTargets(teacher=term.teacher, student=ADVERSARIAL, activation=term.activation) for term in terms]


def _names(read: Any) -> tuple[Any, ...]:
    return read if isinstance(read, tuple) else (read,)
