"""The accuracy guard: the smallest file whose accuracy is close enough to the model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.compression.sensitivities.measuring import Quality
from keras_kd.errors import ConfigurationError, ExportError, check_number, explain
from keras_kd.export._checks import check_target
from keras_kd.export._conversion import Converter
from keras_kd.export._making import Made, make, quantized_from
from keras_kd.export._samples import read_samples
from keras_kd.export.metadata import Metadata
from keras_kd.export.operator_errors import operators_by_error
from keras_kd.export.tflite import Export, ExportResult, owned
from keras_kd.features import find_heads
from keras_kd.litert import Float32, Format, Model
from keras_kd.litert.formats import Float16, Int8, Int16x8, Mixed
from keras_kd.tables import format_table

_ANY = float("-inf")


@dataclass(frozen=True)
class Try:
    """One file that the guard measured.

    Attributes:
        format: its format.
        num_floats: for "mixed", the number of operators that compute in float.
        num_bytes: its size without metadata; None if it could not be made.
        value: the measure on the validation data; None if it could not be made.
        drop: how much worse that is than the model's, in points of a hundred for shares.
        problem: why it could not be made; empty otherwise.
    """

    format: str
    num_floats: int
    num_bytes: int | None = None
    value: float | None = None
    drop: float | None = None
    problem: str = ""

    @property
    def title(self) -> str:
        floats = f"int8, {self.num_floats} operator{'s' * (self.num_floats != 1)} in float"
        return floats if self.format == "mixed" else self.format


@dataclass(frozen=True)
class GuardedExport:
    """The file that `export_guarded` chose.

    Attributes:
        export: the file, and its difference from the model.
        tries: all files measured, in their order.
        chosen: the index of the file in `tries`.
        measure: the name of the measure.
        unit: of a drop: "points", or empty.
        baseline: the measure of the model, by its float32 file.
        max_accuracy_drop: the largest drop allowed.
        num_examples: the number of validation examples.
    """

    export: ExportResult
    tries: tuple[Try, ...]
    chosen: int
    measure: str
    unit: str
    baseline: float
    max_accuracy_drop: float
    num_examples: int

    def __str__(self) -> str:
        rows = [("", "file", "bytes", self.measure, "drop")]
        for index, one in enumerate(self.tries):
            known = (
                (f"{one.num_bytes:,}", f"{one.value:.4f}", f"{one.drop:+.2f}") if one.drop is not None else ("-",) * 3
            )
            rows.append(("->" if index == self.chosen else "", one.title, *known))
        limit = f"{self.max_accuracy_drop:g} {self.unit}".strip()
        problems = [f"{one.title}: {one.problem}" for one in self.tries if one.problem]
        lines = [
            f"The smallest file within a drop of {limit} in {self.measure}, from {self.baseline:.4f} of the model, on "
            f"{self.num_examples:,} validation examples:",
            format_table(rows, right=("bytes", self.measure, "drop")),
            *problems,
            str(self.export),
        ]
        return "\n".join(lines)


def export_guarded(
    model: keras.Model,
    path: str | Path,
    *,
    max_accuracy_drop: float,
    validation: tuple[Any, Any],
    calibration: Any,
    task: Any = "classification",
    measure: str | Callable[[Any, Any], float] | None = None,
    batch_size: int | None = 1,
    metadata: Metadata | None = None,
    isolate: bool = True,
    converter: Converter | None = None,
    progress: Callable[[str], None] | None = None,
) -> GuardedExport:
    """Writes the smallest LiteRT file that keeps the accuracy of a model.

    If "int8" holds, it is the file. Otherwise all of these are measured, and the smallest file that holds is written:
    int8 with the operators in float that add the largest error, and those that compute their inputs, as few as hold,
    worst first; int16x8; float16; and float32, which always holds. The error that an operator adds is the
    noise-to-signal ratio of its output in the int8 file, beyond that of its inputs, each against the same tensor of the
    float32 file.

    The promise holds for the validation data. On other data, the drop has the sampling error of their number.

    Args:
        model: a built Keras model with one output.
        path: the file to write, which ends in `.tflite`.
        max_accuracy_drop: the largest drop allowed: in points of a hundred for shares such as accuracy, else in the
            units of the measure.
        validation: inputs [n, ...] and labels, neither used for training or calibration nor for the final test.
        calibration: real samples, as in `export_tflite`.
        task: the task (`kd.tasks`), by name or as an object, whose headline measure counts.
        measure: another measure of the task, by name; or a function of outputs and labels, of which more is better.
        batch_size, metadata, isolate, converter: as in `export_tflite`.
        progress: called with the name of each file before it is made.

    Raises:
        ConfigurationError: an argument does not fit.
        ExportError: the model cannot be converted to float32, or that file does not match it.

        guarded = kd.export.export_guarded(
            student, "student.tflite", max_accuracy_drop=0.5, validation=(x_val, y_val), calibration=x_train[:200]
        )
        print(guarded)
    """
    path = check_target(path)
    limit = check_number("max_accuracy_drop", max_accuracy_drop, at_least=0)
    work = Export.prepared(model, Int8(), calibration, None, batch_size, metadata)
    if work.is_trained:
        raise ConfigurationError(
            explain(
                "The guard chooses among formats, and a fake-quantized model has the ranges of one.",
                received=f"{model.name!r}, trained with quantization awareness",
                expected="a plain model",
                fix="Pass `kd.compression.strip(model)`, or export it with `export_tflite`.",
            )
        )
    inputs, labels = _validation(validation, work)
    heads = find_heads(model)
    if len(heads) != 1:
        expected = "a model with one output"
        raise ConfigurationError(
            explain("The guard measures one output.", received=f"outputs {sorted(heads)}", expected=expected)
        )
    quality = Quality(measure, task, next(iter(heads.values())).is_logits)
    with owned(converter, isolate=isolate) as own:
        ladder = _Ladder(work, own, quality, inputs, labels, limit, progress or (lambda title: None))
        ladder.walk()
        return ladder.result(path)


class _Ladder:
    """Makes and measures files until one holds."""

    def __init__(
        self,
        work: Export,
        converter: Converter | None,
        quality: Quality,
        inputs: dict[str, np.ndarray],
        labels: np.ndarray,
        limit: float,
        progress: Callable[[str], None],
    ):
        self._work, self._converter, self._quality, self._limit = work, converter, quality, limit
        self._inputs, self._labels, self._progress = inputs, labels, progress
        progress("float32")
        self._float = make(work.source(converter), Float32())
        work.check(self._float, Float32(), None)  # all others are measured against it
        self._baseline = self._value(self._float.content)
        self._num_operators = 0
        self._tries: list[Try] = []
        self._made: list[tuple[Made, Format] | None] = []

    def walk(self) -> None:
        if self._try(Int8()):
            return
        self._mixed()
        self._try(Int16x8())
        self._try(Float16())
        self._try(Float32())

    def result(self, path: Path) -> GuardedExport:
        holding = [index for index, one in enumerate(self._tries) if self._holds(one)]
        chosen = min(holding, key=lambda index: self._tries[index].num_bytes)
        made, form = self._made[chosen]
        return GuardedExport(
            export=self._work.write(made, path, form, None if form.is_exact else _ANY),
            tries=tuple(self._tries),
            chosen=chosen,
            measure=self._quality.name,
            unit=self._quality.unit,
            baseline=self._baseline,
            max_accuracy_drop=self._limit,
            num_examples=len(self._labels),
        )

    def _mixed(self) -> None:
        """Keeps 1, 2, 4, ... operators and those before them in float until a file holds, then as few as hold."""
        try:
            reference = quantized_from(
                self._float.content, Int8(), self._work.calibration, "min_max", "the only one that writes this format"
            )
            Model(reference.content, num_threads=1)  # the kernels may not take what the quantizer wrote
            groups = operators_by_error(self._float.content, reference.content, self._work.samples)
        except (ConfigurationError, ExportError) as error:
            self._note(Try("mixed", 1, problem=str(error)))
            return
        self._num_operators = len({name for group in groups for name in group})
        failed, count = 0, 1
        while not self._with_floats(groups[:count], reference):
            if count >= len(groups):
                return
            failed, count = count, 2 * count
        while count - failed > 1:
            middle = (count + failed) // 2
            if self._with_floats(groups[:middle], reference):
                count = middle
            else:
                failed = middle

    def _with_floats(self, groups: Sequence[tuple[str, ...]], reference: Made) -> bool:
        names = dict.fromkeys(name for group in groups for name in group)
        if len(names) == self._num_operators:  # all of them
            return False
        return self._try(Mixed(dict.fromkeys(names, "float32")), len(names), reference)

    def _try(self, form: Format, num_floats: int = 0, reference: Made | None = None) -> bool:
        """Makes and measures a file; returns whether it holds."""
        title = Try(form.name, num_floats).title
        self._progress(title)
        try:
            made = self._make(form, reference)
            value = self._value(made.content)
        except (ConfigurationError, ExportError) as error:
            return self._note(Try(form.name, num_floats, problem=str(error)))
        drop = self._quality.drop(self._baseline, value)
        return self._note(Try(form.name, num_floats, len(made.content), value, drop), (made, form))

    def _make(self, form: Format, reference: Made | None) -> Made:
        if form.is_exact:
            return self._float
        if reference is not None:
            return reference.again(self._float.content, form)
        return make(self._work.source(self._converter), form)

    def _note(self, one: Try, made: tuple[Made, Format] | None = None) -> bool:
        self._tries.append(one)
        self._made.append(made)
        return self._holds(one)

    def _holds(self, one: Try) -> bool:
        return one.drop is not None and one.drop <= self._limit + 1e-9

    def _value(self, content: bytes) -> float:
        (output,) = Model(content, num_threads=1).predict(self._inputs).values()
        return self._quality.of(output, self._labels)


def _validation(validation: Any, work: Export) -> tuple[dict[str, np.ndarray], np.ndarray]:
    if not isinstance(validation, Sequence) or len(validation) != 2:
        expected = "a pair of inputs [n, ...] and labels"
        raise ConfigurationError(
            explain("Invalid 'validation'.", received=type(validation).__name__, expected=expected)
        )
    inputs, labels = read_samples("validation", validation[0], work.inputs), np.asarray(validation[1])
    count = len(next(iter(inputs.values())))
    if labels.ndim == 0 or len(labels) != count:
        received = f"{count} examples and labels of shape {labels.shape}"
        raise ConfigurationError(
            explain("Invalid 'validation'.", received=received, expected="a label for each example")
        )
    return inputs, labels
