"""What the losses on features share: the projector from the student's shape to the teacher's."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import check_choice
from keras_kd.features import Projector, plan_projection
from keras_kd.features.projectors import KINDS, in_words
from keras_kd.losses.base import Context, DistillationLoss
from keras_kd.serialization import deserialize, serialize


class FeatureLoss(DistillationLoss):
    """Base of the losses that compare features of one shape; a subclass writes `compare`.

    Args:
        projector: from the student's features to the teacher's shape. `"auto"` takes what the shapes ask for: nothing
            where they agree, a 1x1 convolution (for maps) or a linear layer (for vectors and sequences) with batch
            normalisation for other channels, pooling or interpolation for another spatial size. `"conv"`, `"linear"`
            and `"resize"` insist on one; None forbids it; a Keras layer is taken as it is. It is trained with the
            student, saved with the distiller, and never part of the student.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.
    """

    def __init__(self, *, projector: Any = "auto", **options: Any):
        super().__init__(**options)
        self.projector = projector
        if self.is_planned:
            check_choice("projector", projector, KINDS)
        self._project: keras.layers.Layer | None = projector if isinstance(projector, keras.layers.Layer) else None

    def build(self, teacher_shape, student_shape):
        if self._project is None:
            self._project = Projector(teacher_shape, self.projector)
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
        return self.compare(teacher, self._project(student, training=context.training), context)

    def compare(self, teacher: Any, student: Any, context: Context) -> Any:
        """The loss of each example, for features of one shape."""
        raise NotImplementedError

    def get_config(self):
        projector = self.projector if self.is_planned else serialize(self.projector)
        return {**super().get_config(), "projector": projector}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "projector": deserialize(config["projector"])})
