"""What the losses on features share: the projector from the student's shape to the teacher's."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import Projector, plan_projection
from keras_kd.features.projectors import ACTIVATIONS, KINDS, in_words
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.reduction import mean_of_positions
from keras_kd.serialization import deserialize, serialize


class FeatureLoss(DistillationLoss):
    """Base of the losses that compare features of one shape; a subclass writes `compare`.

    Args:
        projector: from the student's features to the teacher's shape. `"auto"` takes what the shapes ask for: nothing
            where they agree, a 1x1 convolution (for maps) or a linear layer (for vectors and sequences) with batch
            normalisation for other channels, pooling or interpolation for another spatial size. `"conv"`, `"linear"`
            and `"resize"` insist on one; None forbids it; a Keras layer is taken as it is (where it normalises over the
            batch, rows of weight 0 and padding are in its statistics, which they are not in those of ours). It is
            trained with the student, saved with the distiller, and never part of the student.
        projector_activation: `"relu"` ends a learned projector in one, None does not.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.
    """

    leaves_out_padding = True

    def __init__(self, *, projector: Any = "auto", projector_activation: str | None = None, **options: Any):
        super().__init__(**options)
        self.projector = projector
        self.projector_activation = check_choice("projector_activation", projector_activation, ACTIVATIONS)
        if self.is_planned:
            check_choice("projector", projector, KINDS)
        elif projector_activation is not None:
            raise ConfigurationError(
                explain(
                    "A projector of your own ends as it does.",
                    received=f"projector_activation={projector_activation!r} beside a {type(projector).__name__}",
                    expected="None, and the activation inside the layer",
                )
            )
        self._project: keras.layers.Layer | None = projector if isinstance(projector, keras.layers.Layer) else None

    def build(self, teacher_shape, student_shape):
        if self._project is None:
            self._project = Projector(teacher_shape, self.projector, activation=self.projector_activation)
        if not self._project.built:
            self._project.build(tuple(student_shape))

    def validate_outputs(self, teacher_outputs, student_outputs):
        if self.is_planned:
            plan_projection(teacher_outputs.shape, student_outputs.shape, self.projector)

    @property
    def is_planned(self) -> bool:
        """Whether the projector is made here, from the shapes."""
        return not isinstance(self.projector, keras.layers.Layer)

    @property
    def projection(self):
        return in_words([self._project]) if self.is_planned and self.built else None

    def call(self, teacher, student, context):
        counts = context.counts(student)
        if not self.is_planned:
            return self.compare(teacher, self._project(student, training=context.training), counts)
        student = self._project(student, counts=counts, training=context.training)
        counts = self._project.arranged(counts)
        values = self.compare(teacher, student, counts)
        # tokens that became a map, or the reverse, are not where the mask is
        return values if self._project.plan.layout is None else mean_of_positions(values, counts)

    def compare(self, teacher: Any, student: Any, counts: Any) -> Any:
        """The loss, `[batch]` or `[batch, positions]`, for features of one shape.

        `counts` is bool, `[batch, positions or 1, 1]`: which of them count in what is not averaged over positions by
        the base class; None where all do.
        """
        raise NotImplementedError

    def get_config(self):
        projector = self.projector if self.is_planned else serialize(self.projector)
        return {**super().get_config(), "projector": projector, "projector_activation": self.projector_activation}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "projector": deserialize(config["projector"])})
