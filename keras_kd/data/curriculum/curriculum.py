"""The settings of a curriculum, and their arrangement of the examples of a pipeline."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import keras
import numpy as np

from keras_kd.data.curriculum.arrangement import Arrangement, in_order_of_difficulty
from keras_kd.data.curriculum.pacing import SHAPES
from keras_kd.data.pairs.selection import Selection
from keras_kd.errors import ConfigurationError, check_choice, check_integer, check_number, explain
from keras_kd.serialization import snake_case
from keras_kd.tasks import Classification, Inputs, Task, find
from keras_kd.tasks.labels import is_one_hot

ORDERS = ("easy_first", "hard_first", "random")
_TIES = 0xC0FFEE  # separates these draws from those of the order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum(abc.ABC):
    """Which examples a `Pipeline` uses first; a subclass says how difficult each one is.

    At pipeline step `s = epoch * steps_per_epoch + batch`, a batch is drawn from the first `num_allowed` examples of
    the order, uniformly and without repetition within the batch. Epochs keep their number of batches, so in an early
    epoch an example occurs several times, in the same view. Once all examples are allowed, batches are exactly those of
    a pipeline without a curriculum. A batch depends only on `(seed, epoch, batch)`, so a resumed training continues the
    curriculum. `s` counts batches, not updates of the optimizer.

    Sources: Y. Bengio et al., "Curriculum Learning", 2009; G. Hacohen and D. Weinshall, "On The Power of Curriculum
    Learning in Training Deep Networks", 2019; X. Wu, E. Dyer and B. Neyshabur, "When Do Curricula Work?", 2021.

    Args:
        start: the fraction of the examples that is allowed at step 0, above 0 and at most 1; never fewer than a batch.
        full_after: the step from which all examples are allowed, at least 1.
        pacing: how the fraction grows in between, see `allowed_fraction`.
        order: `"easy_first"`, `"hard_first"` (an anti-curriculum), or `"random"` (the control: the same pacing, in an
            order that depends on the pipeline's seed alone).
        balanced: whether each class is allowed in proportion, to within one example. Needs one class number or one-hot
            row for each example.

    Raises:
        ConfigurationError: settings out of range.
    """

    start: float
    full_after: int
    pacing: str = "linear"
    order: str = "easy_first"
    balanced: bool = False

    def __post_init__(self):
        check_number("start", self.start, at_least=0.0, at_most=1.0)
        if self.start <= 0:
            raise ConfigurationError(explain("Invalid 'start'.", received=self.start, expected="0 < start <= 1"))
        check_integer("full_after", self.full_after, at_least=1)
        check_choice("pacing", self.pacing, SHAPES)
        check_choice("order", self.order, ORDERS)
        check_choice("balanced", self.balanced, (True, False))

    @abc.abstractmethod
    def difficulties(self, pipeline: Any, teacher: Any = None, inputs: Selection = None) -> np.ndarray | None:
        """The difficulty of each example, float64 `[n]`; None if a teacher is needed, and none is given."""

    def identity(self) -> dict[str, Any]:
        """The settings except teacher and scores, as plain data."""
        names = (field.name for field in dataclasses.fields(Curriculum))
        return {"by": snake_case(type(self).__name__), **{name: getattr(self, name) for name in names}}

    def arrange(self, pipeline: Any, teacher: Any = None, inputs: Selection = None) -> Arrangement | None:
        """The examples of a pipeline in the order of this curriculum; None if its teacher is not known yet.

        Args:
            pipeline: a `Pipeline`.
            teacher: the teacher of the training, for a curriculum that has none of its own.
            inputs: what the training's teacher takes of the `x` of a batch: a key of it, or a function; None passes
                `x`.

        Raises:
            ConfigurationError: a source that can only be read in order, difficulties that do not fit, or no classes to
                balance.
        """
        if not pipeline.examples.random_access:
            raise _needs_random_access(pipeline.num_examples)
        strata = _classes_of(pipeline.examples) if self.balanced else None
        ties = np.random.RandomState([pipeline.seed, _TIES]).permutation(pipeline.num_examples)
        if self.order == "random":
            values = ties.astype(np.float64)
        elif (values := self.difficulties(pipeline, teacher, inputs)) is None:
            return None
        values = check_difficulties(values, pipeline.num_examples)
        ids = in_order_of_difficulty(-values if self.order == "hard_first" else values, ties, strata)
        return Arrangement(ids, self.pacing, float(self.start), int(self.full_after), self.identity())


def check_difficulties(values: Any, num_examples: int) -> np.ndarray:
    """Difficulties as float64 `[n]`; raises `ConfigurationError` if they are not one finite number per example."""
    array = np.asarray(values)
    is_numbers = array.dtype.kind in "biuf" and array.shape == (num_examples,)
    if is_numbers and np.isfinite(array).all():
        return array.astype(np.float64)
    received = f"{array.dtype} of shape {array.shape}"
    if is_numbers:
        bad = np.flatnonzero(~np.isfinite(array))
        received = f"{array[bad[0]]} for example {bad[0]}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
    raise ConfigurationError(
        explain(
            "A curriculum needs one difficulty per example.",
            received=received,
            expected=f"{num_examples} finite numbers, in the order of the source",
        )
    )


def check_curriculum(curriculum: Any, *, shuffle: bool) -> Curriculum | None:
    """Returns `curriculum`; raises `ConfigurationError` for another object, or for an order that is not shuffled."""
    if curriculum is None:
        return None
    if not isinstance(curriculum, Curriculum):
        raise ConfigurationError(
            explain(
                "Unsupported curriculum.",
                received=repr(curriculum),
                expected="one of keras_kd.curricula, such as ByTeacherConfidence(start=0.3, full_after=2000)",
            )
        )
    if not shuffle:
        raise ConfigurationError(
            explain(
                "A curriculum draws its batches at random.",
                received="a curriculum and shuffle=False",
                fix="Leave out one of the two.",
            )
        )
    return curriculum


def task_of(examples: Any) -> Task | None:
    """The task of labeled examples: the one that was named, or the only one that the labels fit; None without labels.

    Raises:
        ConfigurationError: the labels fit no task, or more than one.
    """
    if examples.task is not None or examples.parts == 1:
        return examples.task
    labels = examples.labels()
    if not isinstance(labels, np.ndarray):
        received = f"labels in a {type(labels).__name__}"
        raise ConfigurationError(explain("These labels fit no task.", received=received, expected="one array"))
    if labels.ndim == 2 and is_one_hot(labels):
        return Classification()
    x = np.asarray(keras.tree.flatten(examples.fetch(np.arange(1))[0])[0])
    return find(Inputs((len(labels), *x.shape[1:]), x.dtype), labels)[0]


def _classes_of(examples: Any) -> np.ndarray:
    """Int64 `[n]`: the class of each example; raises `ConfigurationError` if there is none."""
    task = task_of(examples)
    if examples.parts > 1 and task.has_classes and not task.has_positions:
        return task.strata(task.read(examples.labels()))
    raise ConfigurationError(
        explain(
            "A balanced curriculum needs the class of each example.",
            received="no labels" if examples.parts == 1 else f"labels of the task {task.name!r}",
            expected="one class number or one-hot row per example",
            fix="Leave out balanced=True.",
        )
    )


def _needs_random_access(num_examples: int) -> ConfigurationError:
    return ConfigurationError(
        explain(
            "A curriculum needs random access, but the data set can only be read in order.",
            received=f"{num_examples} examples, more than fit into memory",
            expected="examples in memory",
            fix="Leave out the curriculum, or pass arrays (a numpy.memmap will do).",
        )
    )
