"""A callback that exports the student as a `.tflite` file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_kd.callbacks._monitor import direction
from keras_kd.errors import ExportError, Notice
from keras_kd.export import Converter, ExportResult, export_tflite
from keras_kd.export._checks import check_calibration, check_target
from keras_kd.export.metadata import Metadata, check_metadata
from keras_kd.export.preparing.quantized import is_fake_quantized
from keras_kd.litert import Format, get_format


class TFLiteExport(keras.callbacks.Callback):
    """Exports the student at the end of training, or the best student so far.

    A failed export never ends the training: it issues a warning, is stored in `error`, and the last good file is kept.

    Args:
        path: the file to write; its name ends in `.tflite`.
        format: as in `export_tflite`: `"float32"`, `"int8"`, ...
        calibration: real inputs for the formats with integer activations, scaled as in training, `[samples, ...]`; not
            needed by a student trained with quantization awareness.
        monitor: None exports once, at the end. A metric's name (`"val_accuracy"`) keeps the weights of its best epoch
            in memory and exports those at the end.
        mode: `"min"`, `"max"`, or `"auto"`, which infers the direction from the metric's name.
        metadata: what an app needs to know about the model, written into the file.
        every_improvement: export each time the monitored metric improves, so that a file exists early. One child
            process serves all exports of a training.

    Attributes:
        result: the last `ExportResult`, None before the first.
        error: the last failure, None if the last export succeeded.
        best: the best value of `monitor` in this training so far.

    Raises:
        ConfigurationError: a path that does not end in `.tflite`, an unknown format or mode, or `mode="auto"` for a
            metric with an ambiguous name; when the training begins, no calibration for a format that needs it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        format: str | Format = "float32",
        calibration: Any = None,
        monitor: str | None = None,
        mode: str = "auto",
        metadata: Metadata | None = None,
        every_improvement: bool = False,
    ):
        super().__init__()
        self.path = check_target(path)
        self.format = get_format(format)
        self.calibration = calibration
        self.monitor = monitor
        self.mode = direction(monitor, mode)
        if metadata is not None:
            check_metadata(metadata)
        self.metadata = metadata
        self.every_improvement = every_improvement
        self.result: ExportResult | None = None
        self.error: Exception | None = None
        self.best: float | None = None
        self._best_weights: list[Any] | None = None
        self._converter = Converter()

    def on_train_begin(self, logs=None):
        if not is_fake_quantized(self._student):
            check_calibration(self.format, self.calibration)
        self.best, self._best_weights = None, None
        self._converter.close()  # left open by a training that ended in an exception

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor is None:
            return
        value = (logs or {}).get(self.monitor)
        if value is None:
            self._warn(f"TFLiteExport found no {self.monitor!r} in the logs: {sorted(logs or {})}.")
        elif not math.isnan(value) and (self.best is None or self._is_better(value, self.best)):
            self.best = float(value)
            self._best_weights = self._student.get_weights()
            if self.every_improvement:
                self._export()

    def on_train_end(self, logs=None):
        with self._converter:
            if self._best_weights is None:
                self._export()
            elif not self.every_improvement:
                self._export_best()

    def _export_best(self) -> None:
        current = self._student.get_weights()
        self._student.set_weights(self._best_weights)
        try:
            self._export()
        finally:
            self._student.set_weights(current)

    def get_state(self) -> dict[str, Any]:
        """The state that `Resume` saves: the best value and the weights that gave it."""
        return {"best": self.best, "weights": self._best_weights}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.best, self._best_weights = state["best"], state["weights"]

    @property
    def _student(self) -> keras.Model:
        return getattr(self.model, "student", self.model)

    def _is_better(self, value: float, best: float) -> bool:
        return value < best if self.mode == "min" else value > best

    def _export(self) -> None:
        try:
            self.result = export_tflite(
                self._student,
                self.path,
                format=self.format,
                calibration=self.calibration,
                metadata=self.metadata,
                converter=self._converter,
            )
            self.error = None
        except Exception as error:  # a failed export must not end the training
            self.error = error
            kind = "" if isinstance(error, ExportError) else f"{type(error).__name__}: "
            self._warn(f"The export to {self.path} failed; the training continues. {kind}{error}")

    def _warn(self, message: str) -> None:
        warnings.warn(message, Notice, stacklevel=2)
