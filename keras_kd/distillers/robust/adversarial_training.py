"""Adversarial training without a teacher: on perturbed inputs (Madry), or by a trade-off with clean ones (TRADES)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_kd.adversaries import Adversary
from keras_kd.data.pairs.selection import Selection
from keras_kd.distillers import checks
from keras_kd.distillers.distiller import Distiller
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs, output_shapes
from keras_kd.losses import SoftTargets, Weighted
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import Batch, Teacher


@register
class AdversarialTraining(Distiller):
    """Trains a model to classify adversarial examples, without a teacher.

    Without `beta`: the compiled loss on the perturbed inputs alone, `CE(model(x'), y)` (Madry et al., "Towards Deep
    Learning Models Resistant to Adversarial Attacks", 2018). With `beta`: `CE(model(x), y) + beta * KL(model(x) ||
    model(x'))`, the mean over the batch, with a gradient through both outputs (Zhang et al., "Theoretically Principled
    Trade-off between Robustness and Accuracy", 2019, TRADES; `beta=6`, with
    `PGD(8 / 255, steps=10, objective="kl", random_start=0.001)`).

    Compile and fit it like any Keras model; `evaluate`, `predict` and `validation_data` apply to the model, which is
    its `student`, on the inputs as they are. With `beta`, examples without a label train on the divergence alone, see
    `Distiller`.

    Args:
        model: the Keras model to train.
        adversary: one of `keras_kd.adversaries`. Its objective `"kl"` takes the model's own output for the clean input
            as the target.
        beta: the weight of the divergence: a number of at least 0 or a schedule. It may be set at any time, unless it
            was None.
        student_inputs, student_outputs: as for `Distiller`.

    Raises:
        ConfigurationError: model and settings do not fit together. An adversary that starts at the clean input cannot
            maximize the divergence from it, whose gradient is 0 there.
    """

    _label_weight = 1.0

    def __init__(
        self,
        model: keras.Model,
        adversary: Adversary,
        *,
        beta: Any = None,
        student_inputs: Selection = None,
        student_outputs: str | None = None,
        name: str = "adversarial_training",
    ):
        checks.check_student(model)
        term = SoftTargets(student="adversarial", temperature=1.0, name="divergence")
        super().__init__(
            _NoTeacher(model),
            model,
            alpha=1.0,
            losses=None if beta is None else [Weighted(term, beta)],
            adversary=adversary,
            supervise="adversarial" if beta is None else "clean",
            student_inputs=student_inputs,
            student_outputs=student_outputs,
            name=name,
        )

    @property
    def beta(self):
        """The weight of the divergence: a number, a schedule, or None."""
        return self.terms[0].weight if self.terms else None

    @beta.setter
    def beta(self, value):
        if not self.terms:
            raise ConfigurationError(
                explain(
                    "This training has no divergence to weight.",
                    received=f"beta={value!r}",
                    fix="Pass beta=... to AdversarialTraining.",
                )
            )
        self.terms[0].weight = value

    def loss_and_parts(self, batch, targets, *, step, studied=None):
        studied = self.study_batch(batch) if studied is None else studied
        if batch.y is None and not self.terms:
            raise ConfigurationError(
                explain(
                    "Without labels there is nothing to train on.",
                    received="a batch without labels and beta=None",
                    fix="Pass beta=6.0 to AdversarialTraining: its divergence needs no labels.",
                )
            )
        return super().loss_and_parts(batch, studied[1], step=step, studied=studied)

    def update_logs(self, batch, parts, *, num_replicas=1):
        logs = super().update_logs(batch, parts, num_replicas=num_replicas)
        return {name: value for name, value in logs.items() if name not in ("alpha", "distillation_loss")}

    def get_config(self):
        return {
            "name": self.name,
            "model": serialize(self.student),
            "adversary": serialize(self.adversary),
            "beta": serialize(self.beta),
            "student_inputs": serialize(self.student_inputs),
            "student_outputs": self.student_outputs,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{name: deserialize(value) for name, value in config.items()})

    def _make_terms(self, losses):
        return list(losses or [])

    def _reads_clean(self, batch):
        return bool(self.terms)  # the target of the divergence

    def _attack_target(self, batch, targets):
        return ops.stop_gradient(self._infer(batch.x))

    def _check_attack(self):
        _check_adversary(self.adversary)
        super()._check_attack()


class _NoTeacher(Teacher):
    """Has no targets: the model's own outputs for the clean inputs take their place."""

    def __init__(self, model: keras.Model):
        self._shapes = output_shapes(model)

    def __call__(self, batch: Batch, taps=()) -> ModelOutputs:
        return ModelOutputs({})

    @property
    def fingerprint(self) -> str:
        return "none"

    @property
    def output_shapes(self):
        return self._shapes


def _check_adversary(adversary: Any) -> None:
    if not isinstance(adversary, Adversary):
        raise ConfigurationError(
            explain(
                "Adversarial training needs an adversary.",
                received=repr(adversary),
                expected="one of keras_kd.adversaries, for example PGD(8 / 255, steps=10)",
            )
        )
    if adversary.objective == "adaptive_kl":
        raise ConfigurationError(
            explain(
                "Without a teacher there is nothing to follow.",
                received="objective='adaptive_kl'",
                expected="'cross_entropy' or 'kl'",
            )
        )
    if adversary.objective == "kl" and adversary.random_start is False:
        raise ConfigurationError(
            explain(
                "The divergence from the model's own output has no gradient at the clean input: the attack would not "
                "move.",
                received=repr(adversary),
                expected="a random start, or objective='cross_entropy'",
                fix="PGD(8 / 255, objective='kl', random_start=0.001), as in TRADES.",
            )
        )
