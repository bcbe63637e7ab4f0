"""What every distillation loss shares: which taps it reads, what it learns, masks, sample weights, reduction."""

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
from keras_kd.losses import keras_distiller
from keras_kd.losses.reduction import (
    any_position,
    as_weights,
    checked_values,
    has_weight,
    mask_of,
    only,
    per_example,
    what_counts,
)
from keras_kd.serialization import Registry, snake_case

registry = Registry("loss")

DEFAULT_TEMPERATURE = 4.0


@dataclasses.dataclass(frozen=True)
class Context:
    """What a loss may read besides the tensors it compares.

    Attributes:
        labels: the labels of the output it looks at, or None where the batch has none.
        step: the optimizer's step, an integer or an integer scalar tensor.
        temperature: the distiller's temperature, a scalar, for losses that were given none of their own.
        teacher_logits: what the teacher says of the classes, `[batch, ..., classes]`, whatever the loss compares.
        present: `[batch]`, False for a row whose sample weight is 0; None where all count. A loss that compares rows
            with each other leaves these out.
        weighted: the same in the shape of the sample weights, `[batch, ...]`: where these are not 0.
        mask: the student's Keras mask, `[batch, positions]`, or None.
        training: whether layers of the loss are to learn from the batch.
        are_given: whether the sample weights are the user's; otherwise they only set the examples without a label
            apart, and a loss that is one number for the batch does without them.
    """

    labels: Any = None
    step: Any = 0
    temperature: Any = DEFAULT_TEMPERATURE
    teacher_logits: Any = None
    present: Any = None
    weighted: Any = None
    mask: Any = None
    training: bool = True
    are_given: bool = True

    def counts(self, features: Any) -> Any:
        """Bool `[batch, ..., 1]`: what counts of features, neither padding nor of weight 0; None where all does.

        Where features have a mask of their own, that is the one.
        """
        own = getattr(features, "_keras_mask", None)
        return what_counts(features, self.mask if own is None else own, self.weighted)


def without_padding(teacher: Any, student: Any, context: Context) -> tuple[Any, Any]:
    """Both with 0 at what does not count in the student's features, for losses that compare examples as vectors.

    Raises:
        ConfigurationError: padding in the student's features, and none of these positions in the teacher's.
    """
    counts = context.counts(student)
    if counts is None:
        return teacher, student
    if all(size == 1 for size in counts.shape[1:]):  # whole rows
        return only(teacher, ops.reshape(counts, (-1, *(1 for _ in teacher.shape[1:])))), only(student, counts)
    num_axes = len(counts.shape) - 1
    if len(teacher.shape) != len(student.shape) or not same_shape(teacher.shape[:num_axes], student.shape[:num_axes]):
        raise ConfigurationError(
            explain(
                "The student's features have padding, and the teacher's have other positions.",
                received=f"teacher {tuple(teacher.shape)}, student {tuple(student.shape)}",
                expected="the same positions of both",
                fix="Name layers behind the pooling over the positions.",
            )
        )
    return only(teacher, counts), only(student, counts)


class DistillationLoss(keras.distillation.DistillationLoss, keras.layers.Layer):
    """Base of all distillation losses; also usable alone, and inside `keras.distillation.Distiller`.

    A subclass writes `call(teacher, student, context) -> [batch, ...]`; this class averages what follows the batch axis
    (over the unmasked positions), applies sample weights and reduces. A loss with something to learn (a projector)
    makes its layers in `build(teacher_shape, student_shape)`: a loss is a Keras layer, so that a distiller trains and
    saves what it learns, and the student knows nothing of it.

    Args:
        teacher: what to read of the teacher: the name of an output (its logits), the path of a layer, or a list of
            these for a loss that reads several; None is its only output.
        student: the same of the student.
        name: the name in the logs; None is the class name in snake_case, with what is read of the student behind it.
        reduction: as in `keras.losses.Loss`; by default the sum over the batch divided by its size.

    Attributes:
        several_taps: whether a loss of this class compares lists of tensors rather than one with one.
        leaves_out_padding: whether `call` leaves out what `context.mask` does where it returns a value per example. One
            that does not is refused under a mask; of a value per position the base class takes the mean over the rest.
    """

    several_taps = False
    leaves_out_padding = False

    def __init_subclass__(cls, **settings):
        """Shows what `**options` of a subclass stands for: the arguments of the class above."""
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
            raise ConfigurationError(explain("'name' is not usable.", received=repr(name), expected="text, or None"))
        keras.layers.Layer.__init__(
            self, name=name or _default_name(type(self), student), dtype="float32", autocast=False
        )
        self.teacher = teacher
        self.student = student
        self.reduction = reduction
        self._reduce = _Reduction(reduction=reduction, name="distillation")
        self._layer_names: tuple[str | None, str | None] = (None, None)

    def build(self, teacher_shape: Any, student_shape: Any) -> None:
        """Makes the layers that the loss learns, for these shapes (lists of shapes where several taps are read)."""

    @property
    def projection(self) -> str | None:
        """What brings the student's features to the teacher's shape, in words; None where nothing does."""
        return None

    def call(self, teacher: Any, student: Any, context: Context) -> Any:
        """The loss of each example, `[batch, ...]`, or a scalar, which is refused under weights or a mask.

        `teacher` and `student` are tensors, or lists of tensors where several taps are read.
        """
        raise NotImplementedError

    def __call__(self, teacher: Any, student: Any, *, sample_weight: Any = None, context: Context | None = None):
        """The reduced loss, a float32 scalar.

        Args:
            teacher: what the teacher said, `[batch, ...]`, or a list of that.
            student: what the student said; its Keras mask, if any, is honoured.
            sample_weight: `[batch]`, or of the shape of the unreduced loss.
            context: labels, step and the like, for the losses that read them.

        Raises:
            ConfigurationError: `call` returned something else than a value per example or a number, or a value in
                which weights or the mask cannot count.
        """
        teacher, student = self._prepare(teacher, student)
        mask, sample_weight = as_weights(mask_of(student), sample_weight)
        weighted = has_weight(sample_weight)
        context = dataclasses.replace(
            context or Context(), mask=mask, weighted=weighted, present=any_position(weighted)
        )
        given = sample_weight if context.are_given else None
        values = checked_values(self, self.call(teacher, student, context), student, mask, given)
        if len(values.shape) == 0:
            sample_weight = given
        values, sample_weight = per_example(values, mask, sample_weight)
        return self._reduce(values, values, sample_weight=sample_weight)

    def _prepare(self, teacher: Any, student: Any) -> tuple[Any, Any]:
        """Both as tensors, or as lists of them; builds what is learned where that has not been done."""
        teacher, student = _tensors(teacher, self.several_taps), _tensors(student, self.several_taps)
        if not isinstance(teacher, dict):
            self.validate_outputs(teacher, student)
            _check_same_batch(self.name, teacher, student)
        if not self.built:
            self.build(_shapes(teacher), _shapes(student))
        return teacher, student

    # What `keras.distillation.Distiller` calls.

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Finds what this loss reads in two models that are given to `keras.distillation.Distiller`."""
        keras_distiller.prepare(self, teacher, student)

    @property
    def teacher_layer_name(self) -> str | None:
        """The teacher's layer, as Keras' Distiller asks for it."""
        return self._layer_names[0]

    @property
    def student_layer_name(self) -> str | None:
        """The student's layer, as Keras' Distiller asks for it."""
        return self._layer_names[1]

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """The loss of what Keras' Distiller read."""
        named = zip((teacher_outputs, student_outputs), (self.teacher, self.student), strict=True)
        teacher, student = (name_outputs(outputs).get(name, outputs) for outputs, name in named)
        return self(teacher, student, **kwargs)

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Raises `ConfigurationError` where shapes do not fit (tensors, or whatever has a `shape`; lists of these)."""

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


class _Reduction(keras.losses.Loss):
    """Keras' own weighting and reduction of values that are computed already, many replicas included."""

    def call(self, y_true, y_pred):
        return y_pred


def _checked_tap(tap: Any, several: bool) -> str | tuple[str, ...] | None:
    taps = () if tap is None else tuple(tap) if isinstance(tap, (list, tuple)) else (tap,)
    if not all(isinstance(item, str) for item in taps) or (len(taps) > 1 and not several):
        raise ConfigurationError(
            explain(
                "This is not what the loss can read.",
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
                f"The loss {name!r} compares outputs of the same examples.",
                received=f"teacher {shapes[0]}, student {shapes[1]}",
                expected="the same batch in the first axis of all",
            )
        )


def _default_name(cls: type, student: Any) -> str:
    taps = () if student is None else (student,) if isinstance(student, str) else student
    return "_".join([snake_case(cls.__name__), *(re.sub(r"\W+", "_", tap) for tap in taps)])


def _shapes(tensors: Any) -> Any:
    if isinstance(tensors, (list, tuple)):
        return [_shapes(tensor) for tensor in tensors]
    return (None, *tensors.shape[1:])
