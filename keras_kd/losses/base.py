"""The base class of the losses: which taps a loss reads, what it learns, masks, sample weights, reduction."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import name_outputs
from keras_kd.features.shapes import same_shape
from keras_kd.hyperparameters import DEFAULT_TEMPERATURE, Hyperparameter
from keras_kd.losses import keras_distiller
from keras_kd.losses.reduction import (
    PerExample,
    Reduction,
    any_in_row,
    as_weights,
    checked_values,
    has_weight,
    included_entries,
    mask_of,
    mean_per_example,
    zero_excluded,
)
from keras_kd.serialization import Registry, snake_case

registry = Registry("loss")


@dataclasses.dataclass(frozen=True)
class Context:
    """What a loss may read besides the tensors it compares.

    Attributes:
        labels: the labels of the output that the loss compares; None if the batch has none.
        step: the optimizer's step, an integer or an integer scalar tensor.
        temperature: the distiller's temperature, a scalar, for losses without one of their own.
        teacher_logits: the teacher's logits, `[batch, ..., classes]`, whatever the loss compares.
        present: `[batch]`, False for a row whose sample weight is 0; None if all rows are present. A loss that compares
            rows with each other or computes statistics of the batch leaves the others out.
        weighted: the same in the shape of the sample weights, `[batch, ...]`: where these are not 0.
        mask: the student's Keras mask, `[batch, positions]`, or None.
        training: whether layers of the loss learn from the batch.
        ids: int64 `[batch]`, the number of each example in its source; None if the source has no numbers.
        view: int64 `[batch]`, the augmented view of each example; None if the source has none.
    """

    labels: Any = None
    step: Any = 0
    temperature: Any = DEFAULT_TEMPERATURE
    teacher_logits: Any = None
    present: Any = None
    weighted: Any = None
    mask: Any = None
    training: bool = True
    ids: Any = None
    view: Any = None

    def included(self, features: Any) -> Any:
        """Bool `[batch, ..., 1]`: the positions of features that are neither padding nor of weight 0; None for all.

        A mask of the features themselves takes precedence over `mask`.
        """
        own = mask_of(features)
        return included_entries(features, self.mask if own is None else own, self.weighted)


def without_padding(teacher: Any, student: Any, context: Context) -> tuple[Any, Any]:
    """Both with zeros at the student's padding and absent rows, for losses that compare examples as vectors.

    Raises:
        ConfigurationError: the student's features have padding, and the teacher's have other positions.
    """
    included = context.included(student)
    if included is None:
        return teacher, student
    if all(size == 1 for size in included.shape[1:]):  # whole rows
        rows = ops.reshape(included, (-1, *(1 for _ in teacher.shape[1:])))
        return zero_excluded(teacher, rows), zero_excluded(student, included)
    num_axes = len(included.shape) - 1
    if len(teacher.shape) != len(student.shape) or not same_shape(teacher.shape[:num_axes], student.shape[:num_axes]):
        raise ConfigurationError(
            explain(
                "The student's features have padding, and the teacher's have different positions.",
                received=f"teacher {tuple(teacher.shape)}, student {tuple(student.shape)}",
                expected="the same positions in both",
                fix="Name layers after the pooling over the positions.",
            )
        )
    return zero_excluded(teacher, included), zero_excluded(student, included)


class DistillationLoss(keras.distillation.DistillationLoss, keras.layers.Layer):
    """Base class of all distillation losses; also works on its own and inside `keras.distillation.Distiller`.

    A subclass implements `call(teacher, student, context) -> [batch, ...]`; this class averages over the axes behind
    the batch axis (over unmasked positions), applies sample weights and reduces. A loss that learns something (a
    projector) creates its layers in `build(teacher_shape, student_shape)`. A loss is a Keras layer, so the distiller
    trains and saves these layers, and they never become part of the student.

    Variables that a loss updates in a step (a memory) must be created with `add_weight`: a backend without mutable
    variables carries them from step to step.

    Args:
        teacher: what to read from the teacher: the name of an output (its logits), the path of a layer, or a list of
            these for a loss that reads several; None is its only output.
        student: the same for the student.
        name: the name in the logs; None is the class name in snake_case followed by what is read from the student.
        reduction: as in `keras.losses.Loss`; by default the sum over the batch divided by its size.

    Attributes:
        several_taps: whether losses of this class compare lists of tensors rather than two tensors.
        excludes_padding: whether `call` ignores what `context.mask` hides when it returns a value per example. A loss
            that does not is refused under a mask; of a value per position this class averages the unmasked ones.
    """

    several_taps = False
    excludes_padding = False

    def __init_subclass__(cls, **settings):
        """Replaces `**options` in the signature of a subclass by the arguments of its base class."""
        super().__init_subclass__(**settings)
        parameters = inspect.signature(cls.__init__).parameters.values()
        own = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD][1:]
        if len(own) + 1 < len(parameters):
            names = {parameter.name for parameter in own}
            above = inspect.signature(cls.__mro__[1]).parameters.values()
            own += [item.replace(kind=item.KEYWORD_ONLY) for item in above if item.name not in names]
        cls.__signature__ = inspect.Signature(own)

    def __init__(
        self,
        *,
        teacher: str | Sequence[str] | None = None,
        student: str | Sequence[str] | None = None,
        name: str | None = None,
        reduction: str = "sum_over_batch_size",
    ):
        teacher, student = _checked_tap(teacher, self.several_taps), _checked_tap(student, self.several_taps)
        if name is not None and not isinstance(name, str):
            raise ConfigurationError(explain("Invalid 'name'.", received=repr(name), expected="text, or None"))
        keras.layers.Layer.__init__(
            self, name=name or _default_name(type(self), student), dtype="float32", autocast=False
        )
        self.teacher = teacher
        self.student = student
        self.reduction = reduction
        self.reduce = Reduction(reduction=reduction, name="distillation")
        self.keras_layer_names: tuple[str | None, str | None] = (None, None)

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        """Creates the layers that the loss learns for these shapes (lists of shapes if it reads several taps)."""

    @property
    def projection(self) -> str | None:
        """A description of the layer that maps the student's features to the teacher's shape; None without one."""
        return None

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The hyperparameters that this loss and the losses inside it read in a step."""
        found = []
        for value in vars(self).values():
            found += [value] if isinstance(value, Hyperparameter) else []
            found += value.hyperparameters if isinstance(value, DistillationLoss) else []
        return found

    @property
    def trained_layers(self) -> list[keras.layers.Layer]:
        """Layers that were trained before and stay fixed. Their weights are not part of the config."""
        losses = [value for value in vars(self).values() if isinstance(value, DistillationLoss)]
        return [layer for loss in losses for layer in loss.trained_layers]

    def call(self, teacher: Any, student: Any, context: Context) -> Any:
        """The loss of each example, `[batch, ...]`, or a scalar, which is refused under weights or a mask.

        `teacher` and `student` are tensors, or lists of tensors if the loss reads several taps.
        """
        raise NotImplementedError

    def __call__(self, teacher: Any, student: Any, *, sample_weight: Any = None, context: Context | None = None):
        """The reduced loss, a float32 scalar; arguments and errors as for `per_example`."""
        return self.reduce(self.per_example(teacher, student, sample_weight=sample_weight, context=context))

    def per_example(
        self, teacher: Any, student: Any, *, sample_weight: Any = None, context: Context | None = None
    ) -> PerExample:
        """The loss before its reduction: a value and a weight for each example.

        Args:
            teacher: tensor from the teacher, `[batch, ...]`, or a list of tensors.
            student: the same from the student; its Keras mask, if any, is respected.
            sample_weight: `[batch]`, or of the shape of the unreduced loss.
            context: labels, step and so on, for the losses that read them.

        Raises:
            ConfigurationError: `call` returned neither a value per example nor a scalar, or a value to which weights or
                the mask cannot be applied.
        """
        teacher, student = self._prepare(teacher, student)
        mask, sample_weight = as_weights(mask_of(student), sample_weight)
        weighted = has_weight(sample_weight)
        context = dataclasses.replace(context or Context(), mask=mask, weighted=weighted, present=any_in_row(weighted))
        values = checked_values(self, self.call(teacher, student, context), student, mask, sample_weight)
        return mean_per_example(values, mask, sample_weight)

    def _prepare(self, teacher: Any, student: Any) -> tuple[Any, Any]:
        """Both as tensors or lists of tensors; builds the loss if it has not been built."""
        teacher, student = _tensors(teacher, self.several_taps), _tensors(student, self.several_taps)
        if not isinstance(teacher, dict):
            self.validate_outputs(teacher, student)
            _check_same_batch(self.name, teacher, student)
        if not self.built:
            self.build(_shapes(teacher), _shapes(student))
        return teacher, student

    # Called by `keras.distillation.Distiller`.

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Finds what this loss reads in the two models of a `keras.distillation.Distiller`."""
        keras_distiller.prepare(self, teacher, student)

    @property
    def teacher_layer_name(self) -> str | None:
        """The teacher's layer, for Keras' Distiller."""
        return self.keras_layer_names[0]

    @property
    def student_layer_name(self) -> str | None:
        """The student's layer, for Keras' Distiller."""
        return self.keras_layer_names[1]

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """The loss, called by Keras' Distiller."""
        named = zip((teacher_outputs, student_outputs), (self.teacher, self.student), strict=True)
        teacher, student = (name_outputs(outputs).get(name, outputs) for outputs, name in named)
        return self(teacher, student, **kwargs)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Raises `ConfigurationError` if shapes do not fit; arguments are objects with a `shape`, or lists of these."""

    def get_config(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher,
            "student": self.student,
            "name": self.name,
            "reduction": self.reduction,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistillationLoss:
        return cls(**config)


def _checked_tap(tap: Any, several: bool) -> str | tuple[str, ...] | None:
    taps = () if tap is None else tuple(tap) if isinstance(tap, (list, tuple)) else (tap,)
    if not all(isinstance(item, str) for item in taps) or (len(taps) > 1 and not several):
        raise ConfigurationError(
            explain(
                "Invalid name of a layer or output.",
                received=repr(tap),
                expected="names of outputs or paths of layers" if several else "the name of one output or layer",
                fix=None if several else "Give each pair of layers a loss of its own.",
            )
        )
    return taps if several and taps else taps[0] if taps else None


def _tensors(value: Any, several: bool) -> Any:
    if several:
        return [ops.convert_to_tensor(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return value if isinstance(value, dict) else ops.convert_to_tensor(value)


def _check_same_batch(name: str, teacher: Any, student: Any) -> None:
    sizes = {tuple(tensor.shape)[:1] for tensor in keras.tree.flatten([teacher, student])} - {(None,)}
    if len(sizes) > 1 or () in sizes:
        shapes = [[tuple(tensor.shape) for tensor in keras.tree.flatten(side)] for side in (teacher, student)]
        raise ConfigurationError(
            explain(
                f"The loss {name!r} needs teacher and student outputs of the same examples.",
                received=f"teacher {shapes[0]}, student {shapes[1]}",
                expected="the same batch size in the first axis",
            )
        )


def _default_name(cls: type, student: Any) -> str:
    taps = () if student is None else (student,) if isinstance(student, str) else student
    return "_".join([snake_case(cls.__name__), *(re.sub(r"\W+", "_", tap) for tap in taps)])


def _shapes(tensors: Any) -> Any:
    if isinstance(tensors, (list, tuple)):
        return [_shapes(tensor) for tensor in tensors]
    return (None, *tensors.shape[1:])
