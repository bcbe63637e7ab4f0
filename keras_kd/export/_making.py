"""The content of a LiteRT file: by TensorFlow's converter, or from its float32 file by ai-edge-quantizer."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, ExportError, explain
from keras_kd.export._conversion import Converter, Rejection, resave_in_child, run_converter
from keras_kd.export._saved_model import Endpoint, write_saved_model
from keras_kd.export.ranges import Ranges, measure_ranges
from keras_kd.litert import Float32, Format, compacted, quantize, read_file

TENSORFLOW, QUANTIZER = "TensorFlow", "ai-edge-quantizer"
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_LARGE = 1024  # elements; the converter leaves smaller weights in float


@dataclass(frozen=True)
class Made:
    """A file's content, what wrote it and why, and the ranges if ai-edge-quantizer needed them."""

    content: bytes
    quantizer: str = TENSORFLOW
    reason: str = ""
    ranges: Ranges | None = None

    def again(self, content: bytes, form: Format) -> Made:
        """Another format of the float32 file `content`, with the same ranges."""
        return _checked(dataclasses.replace(self, content=quantize(content, form, self.ranges.values)), form)


@dataclass(frozen=True)
class Source:
    """Models to convert, one for each signature; `converter` is None to convert in this process."""

    endpoints: tuple[Endpoint, ...]
    batch_size: int | None
    converter: Converter | None

    def convert(self, form: Format) -> bytes:
        """The content of the file that TensorFlow's converter writes.

        Raises:
            Rejection: it rejected the model.
            ExportError: it crashed.
        """
        if self.converter is not None:
            self.converter.start()  # it loads TensorFlow while the SavedModel is written
        with tempfile.TemporaryDirectory(prefix="keras_kd_export_") as folder:
            saved_model = Path(folder) / "saved_model"
            if is_on_tensorflow():
                write_saved_model(self.endpoints, self.batch_size, saved_model)
            else:
                resave_in_child(self.converter, self.endpoints, self.batch_size, saved_model)
            return run_converter(saved_model, form, self.endpoints, self.batch_size, converter=self.converter)

    def calibration(self, form: Format) -> Mapping[str, np.ndarray]:
        """The samples of a single model on which a format's ranges are measured, by input name; empty without.

        Raises:
            ConfigurationError: there are several models.
        """
        if not form.needs_calibration:
            return {}
        if len(self.endpoints) > 1:
            raise ConfigurationError(
                explain(
                    "The ranges of several signatures are measured by TensorFlow's converter only.",
                    received=f"format {form.name!r}",
                    expected="'int8', or a format without calibration",
                    fix="Write a file for each signature.",
                )
            )
        return self.endpoints[0].calibration


def make(source: Source, form: Format, method: str = "min_max") -> Made:
    """The content of a file in a format.

    TensorFlow's converter writes it if it can: with the same ranges, both files have the same signal-to-noise ratio,
    and ai-edge-quantizer's of an unrolled LSTM does not run.

    Args:
        source: the models, with their calibration samples.
        form: the format.
        method: how the ranges follow from the samples.

    Raises:
        ConfigurationError: the format does not fit the model.
        ExportError: the model cannot be converted.
    """
    is_measured = form.needs_calibration and all(one.calibration for one in source.endpoints)
    reason = None
    if form.needs_quantizer:
        reason = "the only one that writes this format"
    elif is_measured and method != "min_max":
        reason = f"the only one that takes {method} ranges"
    if reason is not None:
        return _by_quantizer(source, form, method, reason)
    try:
        return _checked(Made(source.convert(form)), form)
    except Rejection as rejection:
        if not is_measured:
            raise
        try:
            return _by_quantizer(source, form, method, "TensorFlow's converter rejected the model")
        except (ExportError, ConfigurationError):
            raise rejection from rejection.__cause__


def is_on_tensorflow() -> bool:
    """Whether Keras computes with TensorFlow."""
    return keras.backend.backend() == "tensorflow"


def quantized_from(
    content: bytes, form: Format, calibration: Mapping[str, np.ndarray], method: str, reason: str
) -> Made:
    """The file that ai-edge-quantizer makes of a float32 file.

    Raises:
        ConfigurationError, ExportError: as `make`.
    """
    ranges = measure_ranges(content, dict(calibration), method) if form.needs_calibration else None
    values = ranges.values if ranges is not None else {}
    return _checked(Made(quantize(content, form, values), QUANTIZER, reason, ranges), form)


def _by_quantizer(source: Source, form: Format, method: str, reason: str) -> Made:
    calibration = source.calibration(form)
    return quantized_from(source.convert(Float32()), form, calibration, method, reason)


def _checked(made: Made, form: Format) -> Made:
    """The same model, compacted; raises `ExportError` if a file that should have integer weights has none at all."""
    if form.weights in ("int4", "int8") and not _has_integer_weights(made.content):
        raise ExportError(
            explain(
                f"{made.quantizer} left the file in float.",
                received="weights in float32",
                expected=f"weights in {form.weights}",
                fix="Try another `format`.",
            )
        )
    return dataclasses.replace(made, content=compacted(made.content))


def _has_integer_weights(content: bytes) -> bool:
    """Whether some weights are integers, or all are too few to be quantized."""
    file = read_file(content)
    weights = [
        graph.tensors[operator.inputs[1]]
        for graph in file.graphs
        for operator in graph.operators
        if operator.name in _WITH_WEIGHTS and len(operator.inputs) > 1
    ]
    stored = [one for one in weights if file.stored_bytes(one)]
    return any(one.dtype.startswith("int") for one in stored) or all(one.num_elements < _LARGE for one in stored)
