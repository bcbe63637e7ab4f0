"""What a teacher is: a plain callable that turns a batch into named targets."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_kd.data.carried import Carried
from keras_kd.errors import TeacherError, explain


class Batch(NamedTuple):
    """One batch as `fit` hands it over: `(x,)`, `(x, y)` or `(x, y, sample_weight)`.

    Attributes:
        answers: what the teacher said of these examples, where the pipeline brought it along; else None.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None
    answers: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: Any) -> Batch:
        """From what a Keras iterator gives, with or without answers that travel with the inputs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, Carried):
            return cls(x.x, y, sample_weight, x.answers)
        return cls(x, y, sample_weight)


class Teacher(abc.ABC):
    """Where the targets come from: `(batch) -> {name: tensor}`.

    A teacher is a plain object and never a tracked attribute of a model: it is not trained, not changed, and not
    written into the student's checkpoints. The names are those of its outputs (`"output"` for a single one), the
    tensors logits; and the paths of inner layers that were asked for.

    Attributes:
        answers_travel: whether the answers are made outside the training step and travel with the batch, see
            `CarriedTeacher`.
        reads_labels: whether the answers depend on the labels of the batch.
        knows_one_set: whether it answers about the examples of one data set alone, by their number.
    """

    answers_travel = False
    reads_labels = False
    knows_one_set = False

    @abc.abstractmethod
    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> dict[str, Any]:
        """The targets of a batch, each `[batch, ...]`, without a gradient.

        Args:
            batch: as `fit` hands it over.
            taps: paths of inner layers whose outputs are wanted besides, of those that `inner_taps` knows.
        """

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        """Those of `names` that are inner layers rather than outputs, with their shapes (None where not known yet).

        Raises:
            ConfigurationError: a path that leads nowhere.
        """
        return {}

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """What tells this teacher from any other: a hash that is the same in another process."""

    @property
    @abc.abstractmethod
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        """The shape of each target where it is known before the first batch, else None."""

    @property
    def activations(self) -> dict[str, str]:
        """The activation of each output of the model behind, `"linear"` where it gives logits."""
        return {}

    @property
    def only_of_classes(self) -> str | None:
        """Where the targets mean something as logits of classes alone: what would make them outputs. Else None."""
        return None

    @property
    def variables(self) -> list[Any]:
        """Those of the Keras models that answer, which no training may change."""
        return []

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the teacher."""
        return True

    def get_config(self) -> dict[str, Any]:
        """What names this teacher in a saved distiller; its weights are not in it."""
        raise NotImplementedError(f"{type(self).__name__} cannot be named in a saved file.")


class CarriedTeacher(Teacher):
    """A teacher that answers outside the training step: read from disk, or computed by what is no Keras model.

    Its answers travel with the batches of `Pipeline(...).with_teacher(teacher)`.

    Attributes:
        views: how many augmented views of each example it knows; None where it answers about any inputs.
    """

    answers_travel = True
    views: int | None = None

    @abc.abstractmethod
    def answers(self, ids: np.ndarray, view: int, x: np.ndarray) -> dict[str, np.ndarray]:
        """What travels with a batch: arrays `[b, ...]` by name.

        Args:
            ids: int64 `[b]`, the numbers of the examples in the pipeline's source.
            view: which augmentation of these examples this is.
            x: `[b, ...]`, the inputs in that view.
        """

    def check_pipeline(self, pipeline: Any) -> None:
        """Raises `TeacherError` where the answers are about other data, in another order, or augmented otherwise."""

    @abc.abstractmethod
    def decode(self, answers: dict[str, Any], taps: Sequence[str]) -> dict[str, Any]:
        """From what travelled (tensors) to logits by output name and inner tensors by path."""

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> dict[str, Any]:
        if batch.answers is None:
            raise TeacherError(
                explain(
                    "This teacher's answers travel with the batches, and these batches bring none.",
                    received=f"batches without answers, and a {type(self).__name__}",
                    expected="batches of a keras_kd.data.Pipeline",
                    fix="Use distiller.fit(pipeline.with_teacher(teacher)).",
                )
            )
        return self.decode(batch.answers, taps)
