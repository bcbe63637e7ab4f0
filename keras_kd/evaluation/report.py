"""The results of a run as plain data, in JSON types."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import files, tasks
from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.evaluation import caveats, plots
from keras_kd.evaluation.comparison import (
    ClassCounts,
    Disagreement,
    Disagreements,
    SynthesizedImage,
    SynthesizedImages,
)
from keras_kd.evaluation.robustness import Robustness
from keras_kd.evaluation.rows import ModelRow
from keras_kd.evaluation.scale import Scale
from keras_kd.evaluation.summary import summarize
from keras_kd.features.exit_curve import ExitCurve, ExitPoint
from keras_kd.teachers.calibration import ReliabilityBins

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """The results of a run.

    Attributes:
        title: the headline of the page.
        rows: the models, the teacher first.
        test_size: the number of test examples used for every measure.
        class_names: one name per class, or per output of another task.
        task: the name of a task in `keras_kd.tasks`, which determines the measures of the rows, the headline first.
        unit: the plural noun for the test examples, such as `"images"`.
        summary: sentences in plain language; None builds them from the rows.
        histories: the history of `fit` by row id: `{"teacher": {"loss": [...], "accuracy": [...]}}`.
        conditions: the conditions of the training by row id: `{"distilled": {"steps": 500, "views": 8}}`. If two
            compared students were not trained alike, the report lists the differences.
        confusion: counts `[true class][predicted class]`, or empty.
        confusion_of: the id of the row that `confusion` describes.
        soft_targets: `{"temperatures": [1, 4], "examples": [{"image": ..., "label": 3, "logits": [...]}]}`;
            an image is a nested list `[height][width]` or `[height][width][channels]`, a base64 PNG, or the numbers of
            an example that is not an image.
        classes: the right predictions per class of the teacher, the student and a file; None for other tasks.
        reliability: accuracy by confidence on the test examples, by row id.
        disagreements: the test images on which a file and the teacher disagree; None if they are not images.
        robustness: the accuracies on adversarial examples of the test split, by row id.
        synthesized: images that the student learned from instead of data; None if it learned from data.
        exits: the student with its early exits on the test examples, over the thresholds of the confidence; None if it
            has kept none.
        settings: the recipe.
        environment: versions, machine, date.

    Raises:
        ConfigurationError: no rows, duplicate ids, no test examples, or a confusion matrix, class counts, bins or
            disagreements that do not fit the classes and the rows.
    """

    title: str
    rows: list[ModelRow]
    test_size: int
    class_names: list[str]
    task: str = "classification"
    unit: str = "examples"
    summary: list[str] | None = None
    histories: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    confusion_of: str = ""
    soft_targets: dict[str, Any] = field(default_factory=dict)
    classes: ClassCounts | None = None
    reliability: dict[str, ReliabilityBins] = field(default_factory=dict)
    disagreements: Disagreements | None = None
    robustness: dict[str, Robustness] = field(default_factory=dict)
    synthesized: SynthesizedImages | None = None
    exits: ExitCurve | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("test_size", self.test_size, at_least=1)
        ids = [row.id for row in self.rows]
        if not ids or len(set(ids)) < len(ids):
            expected = "at least one row, and no id twice"
            raise ConfigurationError(explain("Invalid 'rows'.", received=ids, expected=expected))
        for measure in tasks.get(self.task).measures:
            for row in self.rows:
                if measure.is_share and row.values.get(measure.name) is not None:
                    check_number(measure.name, row.values[measure.name], at_least=0, at_most=1)
        if len(self.confusion):
            plots.check_confusion(self.confusion, self.class_names)
        self._check_comparisons()
        if self.summary is None:
            guessing = tasks.get(self.task).loss_of_guessing(len(self.class_names))
            diverged = caveats.diverged(self.histories, guessing)
            summary = summarize(self.rows, self.scale, diverged=diverged)
            object.__setattr__(self, "summary", summary)

    def _check_comparisons(self) -> None:
        known, num_classes = {row.id for row in self.rows}, len(self.class_names)
        models, found = set(self.reliability) | set(self.robustness), self.disagreements
        if self.classes is not None:
            models |= set(self.classes.right)
            if len(self.classes.counts) != num_classes:
                received = f"counts of {len(self.classes.counts)} classes"
                raise _unfitting("classes", received, f"{num_classes} classes")
        if found is not None:
            models |= {found.teacher, found.file}
            numbers = {number for one in found.examples for number in (one.label, one.teacher, one.file)}
            if numbers and not -1 <= min(numbers) <= max(numbers) < num_classes:
                raise _unfitting("disagreements", f"classes {sorted(numbers)}", f"{num_classes} classes")
        if self.synthesized is not None:
            numbers = [image.predicted for image in self.synthesized.images]
            if not 0 <= min(numbers) <= max(numbers) < num_classes:
                raise _unfitting("synthesized images", f"classes {sorted(set(numbers))}", f"{num_classes} classes")
        if models - known:
            raise _unfitting("models", f"{sorted(models - known)}", f"ids of rows: {sorted(known)}")

    @property
    def scale(self) -> Scale:
        """The scale for comparing rows: the headline measure of the task."""
        task = tasks.get(self.task)
        return Scale(task.headline, self.test_size, self.unit, self.chance, task.position_unit)

    @property
    def chance(self) -> float | None:
        """The accuracy of always predicting the most frequent class; None without a confusion matrix."""
        return caveats.chance_level(self.confusion) if len(self.confusion) else None

    def to_dict(self) -> dict[str, Any]:
        """The report in JSON types: arrays become lists, NaN and infinity become null."""
        bins = {id: one._asdict() for id, one in self.reliability.items()}
        return {"schema_version": SCHEMA_VERSION} | plain(asdict(self) | {"reliability": bins})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Restores a report from `to_dict`.

        Raises:
            ConfigurationError: another schema version, or missing or unknown keys.
        """
        content = dict(data)
        version = content.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            fix = "Read it with the release of keras_kd that wrote it, or run the recipe again."
            received, expected = f"schema_version {version!r}", f"schema_version {SCHEMA_VERSION}"
            raise ConfigurationError(
                explain("The report has another format.", received=received, expected=expected, fix=fix)
            )
        try:
            return cls(**typed(content))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(explain("A key of the report is missing or unknown.", received=error)) from error


def typed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a report from JSON types, as `Report` takes them; other fields are left as they are.

    Raises:
        KeyError, TypeError: missing or unknown keys.
        ConfigurationError: invalid numbers.
    """
    typed = dict(content) | {"rows": [ModelRow(**row) for row in content["rows"]]}
    if content.get("classes"):
        typed["classes"] = ClassCounts(**content["classes"])
    if found := content.get("disagreements"):
        examples = [Disagreement(**example) for example in found["examples"]]
        typed["disagreements"] = Disagreements(**found | {"examples": examples})
    typed["robustness"] = {id: Robustness(**one) for id, one in (content.get("robustness") or {}).items()}
    if made := content.get("synthesized"):
        images = [SynthesizedImage(**image) for image in made["images"]]
        typed["synthesized"] = SynthesizedImages(**made | {"images": images})
    if curve := content.get("exits"):
        typed["exits"] = ExitCurve(tuple(ExitPoint(**point) for point in curve["points"]))
    bins = content.get("reliability") or {}
    typed["reliability"] = {id: ReliabilityBins(**{k: tuple(v) for k, v in one.items()}) for id, one in bins.items()}
    return typed


def _unfitting(what: str, received: str, expected: str) -> ConfigurationError:
    return ConfigurationError(explain(f"The {what} do not fit the report.", received=received, expected=expected))


def write_json(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes the report as JSON, atomically."""
    files.write(Path(path), json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """The value in JSON types; any other type (a path, a date) becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
