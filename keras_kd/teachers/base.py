"""The teacher interface: a plain callable that turns a batch into named targets."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.errors import TeacherError, explain
from keras_kd.features import ModelOutputs


class Batch(NamedTuple):
    """One batch as received from `fit`: `(x,)`, `(x, y)` or `(x, y, sample_weight)`.

    Attributes:
        teacher_outputs: outputs of an `OfflineTeacher` for these examples if the pipeline attached them, else None.
        ids: int64 `[batch]`, the id of each example in its source; None if the source has no ids.
        view: int64 `[batch]`, the augmented view of each example; None if the source has no views.
        adversarial: `x` as perturbed by the distiller's adversary; None without one.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    teacher_outputs: dict[str, Any] | None = None
    ids: Any = None
    view: Any = None
    adversarial: Any = None

    @classmethod
    def of(cls, data: Any) -> Batch:
        """Converts an item of a Keras data iterator, in which `x` may be a `PipelineInputs`."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, PipelineInputs):
            return cls(x.x, y, sample_weight, x.teacher_outputs or None, x.ids, x.view)
        return cls(x, y, sample_weight)


class Teacher(abc.ABC):
    """The source of the targets: `(batch) -> ModelOutputs`.

    A teacher is a plain object and never a tracked attribute of a model: it is not trained, changed, or written into
    the student's checkpoints. It returns logits by output name (`"output"` if there is only one) and, separately,
    inner layers by path.

    Attributes:
        runs_outside_step: whether the outputs are computed outside the training step, see `OfflineTeacher`.
        reads_labels: whether the outputs depend on the labels of the batch.
        needs_labels: whether it has no targets for an example without a label.
        knows_one_set: whether it has outputs only for the examples of one data set, looked up by id.
        reads_student: whether its targets are made from the student's outputs for the same batch, by
            `targets(student, labels)`, see `OwnOutputs`.
        follows_student: whether it changes with the student's weights, by `after_update(step)`, see `AveragedWeights`.
        state: a layer with the variables that it changes, which a distiller saves and carries from step to step; None
            if there are none.
        is_differentiable: whether `differentiable` is implemented.
    """

    runs_outside_step = False
    reads_labels = False
    needs_labels = False
    knows_one_set = False
    reads_student = False
    follows_student = False
    state: keras.layers.Layer | None = None
    is_differentiable = False

    @abc.abstractmethod
    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        """The outputs for a batch, each `[batch, ...]`, without a gradient.

        Args:
            batch: the batch.
            taps: paths of inner layers to return as well; `inner_taps` must accept them.
        """

    def differentiable(self, x: Any, taps: Sequence[str] = ()) -> ModelOutputs:
        """Like a call, for the teacher's inputs `x`, with a gradient to these."""
        raise NotImplementedError(f"{type(self).__name__} has no gradient to its inputs.")

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        """The names that are inner layers rather than outputs, with their shapes (None if not known yet).

        Raises:
            ConfigurationError: a path does not exist.
        """
        return {}

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A hash that identifies this teacher and is the same in every process."""

    @property
    @abc.abstractmethod
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        """The shape of each target if known before the first batch, else None."""

    @property
    def activations(self) -> dict[str, str]:
        """The final activation of each model output, `"linear"` if the model returns logits."""
        return {}

    @property
    def only_of_classes(self) -> str | None:
        """How to get whole outputs, if the targets are only meaningful as class logits; else None."""
        return None

    @property
    def readiness(self) -> Any:
        """0 while it has nothing to teach yet, so that the labels alone count; else 1."""
        return 1.0

    @property
    def variables(self) -> list[Any]:
        """The variables of the underlying Keras models, which training must not change."""
        return []

    @property
    def traced_settings(self) -> Any:
        """Settings that are constants in a compiled step; the step is traced again when they differ."""
        return ()

    def callbacks(self) -> list[Any]:
        """Keras callbacks that `Distiller.fit` runs for this teacher, before those of the user."""
        return []

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the teacher."""
        return True

    def get_config(self) -> dict[str, Any]:
        """The config that identifies this teacher in a saved distiller; it does not contain the weights."""
        raise NotImplementedError(f"{type(self).__name__} does not implement get_config(), so it cannot be saved.")


class OfflineTeacher(Teacher):
    """A teacher that runs outside the training step: its outputs are stored, or computed without Keras.

    `Pipeline(...).with_teacher(teacher)` attaches its outputs to each batch.

    Attributes:
        views: the number of augmented views of each example it has outputs for; None if it accepts any inputs.
    """

    runs_outside_step = True
    views: int | None = None

    @abc.abstractmethod
    def outputs_for(self, ids: np.ndarray, view: int, x: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs to attach to a batch: arrays `[b, ...]` by name.

        Args:
            ids: int64 `[b]`, the example ids in the pipeline's source.
            view: the index of the augmented view.
            x: `[b, ...]`, the inputs in that view.
        """

    def check_pipeline(self, pipeline: Any) -> None:
        """Raises `TeacherError` if the outputs belong to other data, another order or another augmentation."""

    @abc.abstractmethod
    def decode(self, attached: dict[str, Any], taps: Sequence[str]) -> ModelOutputs:
        """Turns the outputs attached to a batch (tensors) into logits by output name and inner tensors by path."""

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        if batch.teacher_outputs is None:
            raise TeacherError(
                explain(
                    f"{type(self).__name__} runs outside the training step; the batches do not contain its outputs.",
                    received="batches without teacher outputs",
                    expected="batches of a keras_kd.data.Pipeline with this teacher",
                    fix="Use distiller.fit(pipeline.with_teacher(teacher)).",
                )
            )
        return self.decode(batch.teacher_outputs, taps)
