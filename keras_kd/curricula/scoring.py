"""How difficult a teacher finds each example of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from keras_kd.curricula import difficulty
from keras_kd.data import Pipeline
from keras_kd.data.augmentation import Mixing
from keras_kd.data.curriculum.curriculum import task_of
from keras_kd.data.examples import Examples
from keras_kd.data.pairs.selection import Selection, selected
from keras_kd.errors import ConfigurationError, check_choice, check_integer, explain
from keras_kd.progress import bar
from keras_kd.serialization import nearest
from keras_kd.tasks import Classification, MultiLabel, Regression, Task
from keras_kd.tasks.members.classification import shares
from keras_kd.teachers import Teacher, as_teacher
from keras_kd.teachers.array_runner import TeacherRunner

MEASURES = ("confidence", "loss")
_SECONDS_WITHOUT_BAR = 2.0

Function = Callable[[np.ndarray, Any], np.ndarray]


def teacher_difficulties(
    teacher: Any,
    pipeline: Pipeline,
    *,
    by: str = "confidence",
    output: str | None = None,
    inputs: Selection = None,
    batch_size: int = 128,
    progress: bool = True,
) -> np.ndarray:
    """The difficulty of each example for a teacher, float64 `[n]`, in the order of the source.

    By confidence, it is the negative logarithm of the probability of the top class; for independent labels, the mean of
    that of the more likely answers. By loss, it is the cross-entropy to the label, for numbers the squared error. Both
    are means over positions. A teacher of the training step is asked about the examples without augmentation, a
    `CachedTeacher` about all of its views, of which the mean is taken.

    Args:
        teacher: a Keras model, the path of a `.keras` file, or any `keras_kd` teacher.
        pipeline: its examples; labels decide whether classes are exclusive, else the teacher's activation. Logits of
            examples without labels count as exclusive classes.
        by: `"confidence"`, or `"loss"`, which needs labels.
        output: the name of the output to read; None is the only one.
        inputs: what the teacher takes of the `x` of a batch: a key of it, or a function; None passes `x`.
        batch_size: of the teacher.
        progress: whether to show a progress bar, which appears after two seconds.

    Raises:
        ConfigurationError: several outputs without `output`; confidence in numbers; missing labels; a cached teacher of
            mixed examples; or outputs that are not finite.
        TeacherError: the stored outputs of the teacher belong to other data.

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    >>> teacher_difficulties(model, Pipeline((np.zeros((4, 2), "float32"),))).round(4).tolist()
    [1.0986, 1.0986, 1.0986, 1.0986]
    """
    teacher = as_teacher(teacher)
    check_choice("by", by, MEASURES)
    check_integer("batch_size", batch_size, at_least=1)
    views = _views(teacher, pipeline)
    task = _task(pipeline, by)
    run, total = TeacherRunner(teacher), np.zeros(pipeline.num_examples)
    with bar(
        "difficulty of the examples",
        pipeline.num_examples * len(views),
        shown=progress,
        after_seconds=_SECONDS_WITHOUT_BAR,
    ) as advance:
        for view in views:
            for ids, x, y in _batches(pipeline, batch_size, inputs):
                outputs = run(ids, view, x, y if teacher.reads_labels else None)
                name, logits = _the_output(outputs, output)
                total[ids] += _measure(by, task, teacher.activations.get(name), logits, y)
                advance(len(ids))
    _check(total, by)
    return total / len(views)


def _views(teacher: Teacher, pipeline: Pipeline) -> range:
    if not teacher.runs_outside_step:
        return range(1)
    teacher.check_pipeline(pipeline)
    mixing = [type(step).__name__ for step in pipeline.augment if isinstance(step, Mixing)]
    if mixing and teacher.views is not None:
        raise ConfigurationError(
            explain(
                "The cached outputs are those of mixed examples.",
                received=f"a {type(teacher).__name__} and the augmentation {', '.join(mixing)}",
                expected="outputs of single examples, from which their difficulty follows",
                fix="Pass the live teacher to the curriculum: ByTeacherConfidence(teacher=...).",
            )
        )
    return range(teacher.views or 1)


def _batches(pipeline: Pipeline, batch_size: int, inputs: Selection) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """`(ids, x, y)` of all examples in order, without augmentation; `y` is None without labels."""
    for start in range(0, pipeline.num_examples, batch_size):
        ids = np.arange(start, min(start + batch_size, pipeline.num_examples))
        x, *rest = pipeline.examples.fetch(ids)
        x = keras.tree.map_structure(keras.ops.convert_to_numpy, selected(inputs, x))
        yield ids, x, rest[0] if rest else None


def _task(pipeline: Pipeline, by: str) -> Task | None:
    """The task of the labels; None, for confidence alone, without labels or with several."""
    if by == "loss" and pipeline.examples.parts == 1:
        raise _no_labels("examples without labels")
    if by == "confidence" and not _has_one_label(pipeline.examples):
        return None
    task = task_of(pipeline.examples)
    if by == "confidence" and isinstance(task, Regression):
        raise ConfigurationError(
            explain(
                "A teacher of numbers has no confidence.",
                received="the task 'regression'",
                expected="a task of classes or labels",
                fix="Use ByTeacherLoss, or ByScores with numbers of your own.",
            )
        )
    return task


def _has_one_label(examples: Examples) -> bool:
    return examples.parts > 1 and isinstance(examples.labels(), np.ndarray)


def _the_output(outputs: dict[str, np.ndarray], name: str | None) -> tuple[str, np.ndarray]:
    if name is None and len(outputs) == 1:
        return next(iter(outputs.items()))
    if name in outputs:
        return name, outputs[name]
    raise ConfigurationError(
        explain(
            "The curriculum does not know which output of the teacher to read.",
            received=f"output={name!r}",
            expected="one of " + ", ".join(map(repr, outputs)),
            fix=(nearest(name, outputs) if name else "") or "Pass output=... to the curriculum.",
        )
    )


def _measure(by: str, task: Task | None, activation: str | None, logits: np.ndarray, y: Any) -> np.ndarray:
    if by == "confidence":
        is_sigmoid = isinstance(task, MultiLabel) or (task is None and activation == "sigmoid")
        if task is None and not is_sigmoid and logits.shape[-1] == 1:
            raise ConfigurationError(
                explain(
                    "It is not known what the teacher's only output means.",
                    received="a linear output of one unit, and examples without labels",
                    expected="classes, or labels that tell",
                    fix="Name the task: Pipeline(..., task='classification').",
                )
            )
        return difficulty.sigmoid_doubt(logits) if is_sigmoid else difficulty.softmax_doubt(logits)
    return _loss(task, logits, y)


def _loss(task: Task, logits: np.ndarray, y: Any) -> np.ndarray:
    if isinstance(task, Regression):
        return difficulty.squared_error(logits, _fitting(task.read(y), logits, logits.shape))
    if isinstance(task, MultiLabel):
        return difficulty.binary_cross_entropy(logits, _fitting(task.read(y), logits, logits.shape))
    num_classes = max(2, logits.shape[-1])
    if isinstance(task, Classification):
        labels = shares(y, num_classes)
    else:
        labels = (task.read(y, num_outputs=num_classes)[..., None] == np.arange(num_classes)).astype(np.float64)
    return difficulty.cross_entropy(logits, _fitting(labels, logits, (*logits.shape[:-1], num_classes)))


def _fitting(labels: np.ndarray, logits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if labels.shape != shape:
        raise ConfigurationError(
            explain(
                "The teacher's outputs do not fit the labels.",
                received=f"outputs of shape {logits.shape}, labels of shape {labels.shape}",
                expected="one output for each label",
            )
        )
    return labels


def _check(values: np.ndarray, by: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return
    which = f"example {bad[0]}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
    if by == "loss":
        raise _no_labels(f"no label, or outputs that are not finite, for {which}")
    raise ConfigurationError(
        explain("The teacher's outputs are not finite.", received=f"NaN or infinity for {which}", expected="numbers")
    )


def _no_labels(received: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            "A curriculum by the teacher's loss needs a label for each example.",
            received=received,
            expected="labels",
            fix="Use ByTeacherConfidence, which reads none.",
        )
    )
