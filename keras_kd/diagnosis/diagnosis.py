"""Diagnosis of a teacher: accuracy, calibration, and how much its outputs add to the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from keras_kd.diagnosis.labeled_logits import LabeledLogits, LogitsReader
from keras_kd.diagnosis.measurements import CONFIDENT, TEMPERATURES, Measurements, measure
from keras_kd.diagnosis.problems import find_problems
from keras_kd.errors import ConfigurationError, TeacherError, check_integer, explain
from keras_kd.tables import format_table
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.calibration import (
    TEMPERATURE_RANGE,
    best_temperature,
    calibration_error,
    confidences,
    reliability_bins,
)
from keras_kd.teachers.frozen import as_teacher

_SHOWN_DARK_MASS = (1, 4)


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The result of `diagnose`; prints as a table followed by its warnings.

    Attributes:
        num_classes: C, 2 for a single sigmoid.
        train: measurements on the training data, None if not given.
        validation: measurements on data that the teacher was not trained on, None if not given.
        best_temperature: the temperature that maximizes the likelihood of the validation labels (temperature scaling,
            Guo et al., 2017); None without validation data.
        calibrated_error: the expected calibration error on the validation data at that temperature.
        warnings: plain-language warnings about problems of the teacher.
    """

    num_classes: int
    train: Measurements | None
    validation: Measurements | None
    best_temperature: float | None
    calibrated_error: float | None
    warnings: tuple[str, ...]

    @property
    def max_entropy(self) -> float:
        """`log(C)`, in nats: the entropy of the uniform distribution."""
        return math.log(self.num_classes)

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON-compatible data."""
        return {
            **vars(self),
            "max_entropy": self.max_entropy,
            "train": self.train and self.train.as_dict(),
            "validation": self.validation and self.validation.as_dict(),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        lines = [_table(self), _temperature_line(self)]
        lines += [f"Warning: {warning}" for warning in self.warnings] or ["No warnings."]
        return "\n".join(line for line in lines if line)


def diagnose(
    teacher: Any,
    data: Any = None,
    *,
    validation: Any = None,
    output: str | None = None,
    batch_size: int = 128,
    progress: bool = True,
) -> Diagnosis:
    """Measures whether a teacher is suitable for distillation: accuracy, calibration, and softness of its outputs.

    Each data set is a tuple of arrays `(x, y)`, or an iterable of batches `(x, y)` such as a `tf.data.Dataset`. Labels
    are class ids (-1 for unlabeled) or one-hot rows. Unlabeled examples and those with sample weight 0 are excluded;
    other sample weights are ignored. For outputs such as `[batch, time, C]`, each position counts as an example, and
    the intervals treat positions as independent.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017 (calibration error, temperature scaling).

    Args:
        teacher: a Keras model, the path of its `.keras` file, or a teacher. One that runs outside the training step
            receives row numbers as example ids, and view 0.
        data: the data that the teacher was trained on.
        validation: data that the teacher was not trained on. One of the two is enough.
        output: the output to diagnose, if there are several.
        batch_size: for arrays; an iterable's batches are used as they are.
        progress: whether to show a progress bar after two seconds.

    Raises:
        ConfigurationError: no data, no labels, labels that are not the teacher's classes, or an unknown output.
        TeacherError: no finite output; or two data sets with a teacher that stores outputs for only one.

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, kernel_initializer="identity")])
    >>> x, y = np.tile([[1.0, 0.0], [0.0, 1.0]], (50, 1)), np.tile([0, 1], 50)
    >>> found = diagnose(model, validation=(x, y))
    >>> found.validation.accuracy, round(found.validation.entropy[1], 3), round(found.max_entropy, 3)
    (1.0, 0.582, 0.693)
    >>> found.warnings[0][:60]
    'Badly calibrated: on the validation data its mean confidence'
    """
    teacher = as_teacher(teacher)
    _check(teacher, data, validation)
    options = {"batch_size": check_integer("batch_size", batch_size, at_least=1), "progress": progress}
    reader = LogitsReader(teacher, output)
    train = unseen = temperature = error = None
    if data is not None:
        train, _ = measure(reader.read(data, description="Training data", **options))
    if validation is not None:
        unseen, logits = measure(reader.read(validation, description="Validation data", **options), keep=True)
        temperature, error = _calibrate(logits)
    warnings = find_problems(train, unseen, best_temperature=temperature, calibrated_error=error)
    return Diagnosis((train or unseen).num_classes, train, unseen, temperature, error, warnings)


def _check(teacher: Teacher, data: Any, validation: Any) -> None:
    if data is None and validation is None:
        problem, expected = "Nothing to diagnose.", "data, validation=, or both"
        raise ConfigurationError(explain(problem, received="neither data nor validation", expected=expected))
    if teacher.knows_one_set and data is not None and validation is not None:
        raise TeacherError(
            explain(
                "The teacher has stored outputs for one set of examples only.",
                received=f"a {type(teacher).__name__}, data and validation",
                expected="its own examples, as either data or validation",
                fix="Diagnose the original model to compare training and validation data.",
            )
        )


def _calibrate(measured: LabeledLogits) -> tuple[float, float]:
    """The best temperature and the calibration error at that temperature."""
    temperature = best_temperature(*measured)
    right = measured.logits.argmax(axis=1) == measured.labels
    return temperature, calibration_error(reliability_bins(confidences(measured.logits, temperature), right))


def _table(diagnosis: Diagnosis) -> str:
    parts = [(name, getattr(diagnosis, name)) for name in ("train", "validation")]
    columns = [(name, _cells(part)) for name, part in parts if part is not None]
    heads = [f"(of {diagnosis.num_classes} classes)", *(name for name, _ in columns)]
    names = dict.fromkeys(name for _, cells in columns for name in cells)
    rows = [(name, *(cells.get(name, "0") for _, cells in columns)) for name in names]
    highest = f"highest entropy, log({diagnosis.num_classes}), nats", *[f"{diagnosis.max_entropy:.3f}"] * len(columns)
    return format_table([tuple(heads), *rows, highest])


def _cells(measured: Measurements) -> dict[str, str]:
    low, high = measured.accuracy_interval
    cells = {
        "examples": f"{measured.num_examples:,}",
        "accuracy (95% interval)": f"{measured.accuracy:.1%} ({low:.1%} to {high:.1%})",
        "most frequent class": f"{measured.majority_share:.1%}",
        "mean confidence": f"{measured.mean_confidence:.1%}",
        f"confidence above {CONFIDENT}": f"{measured.sure_share:.1%}",
        "calibration error (ECE)": f"{measured.calibration_error:.3f}",
        "negative log-likelihood, nats": f"{measured.negative_log_likelihood:.3f}",
    }
    for temperature in _SHOWN_DARK_MASS:
        cells[f"mass off the top class, T = {temperature}"] = f"{measured.dark_mass[temperature]:.1%}"
    for temperature in TEMPERATURES:
        cells[f"entropy at T = {temperature}, nats"] = f"{measured.entropy[temperature]:.3f}"
    if measured.num_unlabeled:
        cells["unlabeled (excluded)"] = f"{measured.num_unlabeled:,}"
    return cells


def _temperature_line(diagnosis: Diagnosis) -> str | None:
    if diagnosis.best_temperature is None:
        return None
    at_an_end = " (an end of the range searched)" if diagnosis.best_temperature in TEMPERATURE_RANGE else ""
    return (
        f"Calibrated best at T = {diagnosis.best_temperature:.3g}{at_an_end}: ECE {diagnosis.calibrated_error:.3f} "
        f"instead of {diagnosis.validation.calibration_error:.3f}."
    )
