"""A generator that looks for images on which the student fails (ZSKT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.features import ModelOutputs
from keras_kd.losses import AttentionTransfer, DistillationLoss, Weighted, soft_targets
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.synthesis.synthesizer import Synthesizer


@register
class ZSKT(Synthesizer):
    """Zero-shot knowledge transfer: a generator of images on which teacher and student disagree.

        generator: minimize -mean(KL(teacher || student))
        student:   minimize  mean(KL(teacher || student)) + beta * classes * sum of attention_transfer

    The gradient of the generator passes through both models, and the student's weights are fixed in it. One step of the
    generator and `student_steps` of the student form a round on the same noise: the generator takes its step together
    with the first of them, and the others see the images of the changed generator. (The published code takes the
    generator's step before the first.) The losses read outputs and attention maps, and so need neither batch
    normalizations nor anything else that the teacher has stored of its data.

    Source: Micaelli & Storkey, "Zero-shot Knowledge Transfer via Adversarial Belief Matching", 2019. The published
    settings: a temperature of 1, 128 images, 10 steps of the student, a `beta` of 250, Adam with cosine decay from 2e-3
    for the student and 1e-3 for the generator. The published code divides the divergence by the number of classes; here
    `beta` is multiplied by it, which is the same ratio. For its clipping of both gradients at a norm of 5, the bound
    here is 5 * classes.

    Args:
        generator: a Keras model from noise `[batch, latent_size]` to images of the teacher's input shape; None builds
            `keras_kd.synthesis.generator`, with the published end.
        student_steps: the student's steps for each step of the generator.
        attention: pairs of layers, `(teacher's path, student's path)`, whose attention maps are compared, such as the
            ends of the blocks.
        beta: the weight of these, at least 0.
        value_range: of the images of the generator that is built, see `generator`.

    Raises:
        ConfigurationError: a setting out of range, or pairs of layers that are none.

    >>> ZSKT(attention=[("block_1", "block_1"), ("block_3", "block_2")]).attention
    (('block_1', 'block_1'), ('block_3', 'block_2'))
    """

    reads_student = True
    is_bounded = False

    def __init__(
        self,
        generator: keras.Model | None = None,
        *,
        student_steps: int = 10,
        attention: Sequence[tuple[str, str]] = (),
        beta: float = 250.0,
        value_range: tuple[float, float] | None = None,
    ):
        super().__init__(generator, value_range=value_range)
        self.student_steps = check_integer("student_steps", student_steps, at_least=1)
        self.attention = _checked_pairs(attention)
        self.beta = check_number("beta", beta, at_least=0.0)

    @property
    def names(self) -> list[str]:
        return ["generator_loss"]

    def terms(self, num_classes: int) -> list[DistillationLoss]:
        weight = self.beta * num_classes
        return [Weighted(AttentionTransfer(teacher=one, student=other), weight) for one, other in self.attention]

    def losses(self, teacher: ModelOutputs, student: ModelOutputs | None, temperature: Any) -> dict[str, Any]:
        (teacher_logits,), (student_logits,) = teacher.outputs.values(), student.outputs.values()
        return {"generator_loss": -ops.mean(soft_targets(teacher_logits, student_logits, temperature))}

    def get_config(self) -> dict[str, Any]:
        names = ("student_steps", "attention", "beta", "value_range")
        return {"generator": serialize(self.generator), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ZSKT:
        return cls(**{**config, "generator": deserialize(config["generator"])})


def _checked_pairs(attention: Any) -> tuple[tuple[str, str], ...]:
    is_list = isinstance(attention, (list, tuple))
    pairs = tuple(tuple(pair) if isinstance(pair, (list, tuple)) else (pair,) for pair in attention) if is_list else ()
    if not is_list or any(len(pair) != 2 or not all(isinstance(one, str) for one in pair) for pair in pairs):
        raise ConfigurationError(
            explain(
                "Invalid 'attention'.",
                received=repr(attention),
                expected="pairs of layers, [(teacher's path, student's path), ...]",
            )
        )
    return pairs
