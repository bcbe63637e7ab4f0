"""Base class of losses on features: projects the student's features to the teacher's shape."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.features import Projector, plan_projection
from keras_kd.features.projectors import ACTIVATIONS, KINDS, describe_projectors, pool_positions
from keras_kd.losses.base import DistillationLoss
from keras_kd.losses.reduction import included_entries, mask_of, mean_over_positions
from keras_kd.serialization import deserialize, serialize

POOLED = "pooled"


class FeatureLoss(DistillationLoss):
    """Base class of losses that compare features of equal shape; subclasses implement `compare`.

    Args:
        projector: maps the student's features to the teacher's shape. `"auto"` adds only what the shapes require: a 1x1
            convolution (for maps) or a linear layer (for vectors and sequences), with batch normalization, if the
            channels differ; pooling or interpolation if the spatial size differs. `"conv"`, `"linear"` and `"resize"`
            select one explicitly. `"pooled"` averages the features of both models over their positions, and learns a
            linear layer between the means: for models of different modalities, whose positions do not correspond. None
            disables projection, and a Keras layer is used as it is (unlike our projectors,
            its batch statistics include padding and rows of weight 0). The projector is trained with the student,
            saved with the distiller, and never part of the student.
        projector_activation: `"relu"` applies a ReLU to the output of a learned projector; None applies nothing.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.
    """

    excludes_padding = True

    def __init__(self, *, projector: Any = "auto", projector_activation: str | None = None, **options: Any):
        super().__init__(**options)
        self.projector = projector
        self.projector_activation = check_choice("projector_activation", projector_activation, ACTIVATIONS)
        if self.is_planned:
            check_choice("projector", projector, (*KINDS, POOLED))
        elif projector_activation is not None:
            raise ConfigurationError(
                explain(
                    "'projector_activation' does not apply to a custom projector.",
                    received=f"projector_activation={projector_activation!r} with a {type(projector).__name__}",
                    expected="None, and the activation inside the layer",
                )
            )
        self._project: keras.layers.Layer | None = projector if isinstance(projector, keras.layers.Layer) else None

    def build(self, teacher_shape, student_shape):
        if self._project is None:
            self._project = Projector(*self._target(teacher_shape), activation=self.projector_activation)
        if not self._project.built:
            self._project.build(tuple(student_shape))

    def validate_outputs(self, teacher_outputs, student_outputs):
        if self.is_planned:
            shape, kind = self._target(teacher_outputs.shape)
            plan_projection(shape, student_outputs.shape, kind)

    def _target(self, teacher_shape: Any) -> tuple[tuple[int | None, ...], str | None]:
        """The shape to which the student's features are projected, and the kind of the projection."""
        shape = tuple(teacher_shape)
        return ((shape[0], shape[-1]), "linear") if self.projector == POOLED else (shape, self.projector)

    @property
    def is_planned(self) -> bool:
        """Whether this loss creates the projector from the shapes, rather than using a given layer."""
        return not isinstance(self.projector, keras.layers.Layer)

    @property
    def projection(self):
        return describe_projectors([self._project]) if self.is_planned and self.built else None

    def call(self, teacher, student, context):
        included = context.included(student)
        if not self.is_planned:
            return self.compare(teacher, self._project(student, training=context.training), included)
        if self.projector == POOLED:
            teacher = pool_positions(teacher, included_entries(teacher, mask_of(teacher)))
        student = self._project(student, included=included, training=context.training)
        included = self._project.arranged(included)
        values = self.compare(teacher, student, included)
        # positions no longer match the mask if tokens became a map, or the reverse
        return values if self._project.plan.layout is None else mean_over_positions(values, included)

    def compare(self, teacher: Any, student: Any, included: Any) -> Any:
        """The loss of features of equal shape, `[batch]` or `[batch, positions]`.

        `included` is bool, `[batch, positions or 1, 1]`: the positions to include in reductions done here instead of in
        the base class; None includes all.
        """
        raise NotImplementedError

    def get_config(self):
        projector = self.projector if self.is_planned else serialize(self.projector)
        return {**super().get_config(), "projector": projector, "projector_activation": self.projector_activation}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "projector": deserialize(config["projector"])})
