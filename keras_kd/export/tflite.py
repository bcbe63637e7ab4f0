"""Exports a Keras model to a checked TFLite file."""

from __future__ import annotations

import contextlib
import gzip
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.errors import ExportError, check_choice, check_integer, check_number, explain
from keras_kd.export._checks import check_calibration, check_exportable, check_target
from keras_kd.export._comparison import Comparison, compare
from keras_kd.export._conversion import Converter
from keras_kd.export._making import TENSORFLOW, Made, Source, is_on_tensorflow, make
from keras_kd.export._samples import check_ranges, random_samples, read_samples
from keras_kd.export._saved_model import Endpoint, ModelInput, as_float32, model_inputs, with_known_shapes
from keras_kd.export.metadata import Metadata, check_metadata, embedded
from keras_kd.export.preparing.quantized import check_trained_ranges, is_fake_quantized, with_constant_weights
from keras_kd.export.ranges import METHODS, Ranges
from keras_kd.litert import Format, float_operators, get_format

MAX_COMPARED = 256
NUM_RANDOM = 16


@dataclass(frozen=True)
class ExportResult:
    """The file written by `export_tflite`, and its difference from the Keras model.

    Attributes:
        path: the file.
        format: its format, one of `keras_kd.litert.FORMATS`.
        num_bytes: the file's size.
        gzip_bytes: its size after gzip, roughly the download size.
        max_difference: the largest absolute difference between the two models' outputs, over all outputs,
            after dequantization.
        agreement: the share of predictions, 0 to 1, for which both models have the same largest unit; the lowest share
            if there are several outputs. None if no output has two or more units.
        num_samples: the number of samples compared.
        samples_are_random: whether the samples were random because none were given; difference and agreement then mean
            little for real data.
        snr: the signal-to-noise ratio of the file's outputs in dB, the lowest one over the outputs: 10 log10 of the
            power of the Keras model's output over that of the difference. None if no output has real values.
        quantizer: what wrote the file: "TensorFlow", its converter; or "ai-edge-quantizer", from TensorFlow's float32
            file.
        reason: why ai-edge-quantizer wrote it; empty otherwise.
        calibration: the ranges measured by ai-edge-quantizer's calibration; None otherwise.
        float_operators: for "int8" and "int16x8", the operators that still compute in float32 because they
            have no integer kernel, or because a fake-quantized model has no range for them; an integer accelerator
            cannot run them. Empty otherwise.
        ranges: for "int8" and "int16x8", where the ranges of the activations are from: "measured" on the calibration
            samples, or "trained" with the model. None otherwise.
    """

    path: Path
    format: str
    num_bytes: int
    gzip_bytes: int
    max_difference: float
    agreement: float | None
    num_samples: int
    samples_are_random: bool
    float_operators: tuple[str, ...] = ()
    ranges: str | None = None
    snr: float | None = None
    quantizer: str = TENSORFLOW
    reason: str = ""
    calibration: Ranges | None = None

    def __str__(self) -> str:
        sizes = f"{self.num_bytes / 1000:.1f} kB (gzip {self.gzip_bytes / 1000:.1f} kB)"
        same = "" if self.agreement is None else f", {self.agreement:.1%} the same class"
        kind = "random" if self.samples_are_random else "real"
        noise = (
            ""
            if self.snr is None or math.isinf(self.snr) or self.format == "float32"
            else f", signal-to-noise {self.snr:.1f} dB"
        )
        trained = " with the trained ranges" if self.ranges == "trained" else ""
        writer = f" by {self.quantizer} ({self.reason})" if self.reason else ""
        floats = f"; still in float: {', '.join(self.float_operators)}" if self.float_operators else ""
        return (
            f"{self.path.name}: {self.format}{trained}{writer}, {sizes}; against Keras: "
            f"largest difference {self.max_difference:.2g}{same}{noise}, on {self.num_samples} {kind} samples{floats}"
        )


def export_tflite(
    model: keras.Model,
    path: str | Path,
    *,
    format: str | Format = "float32",
    calibration: Any = None,
    calibration_method: str = "min_max",
    samples: Any = None,
    min_snr: float | None = None,
    batch_size: int | None = 1,
    metadata: Metadata | None = None,
    isolate: bool = True,
    converter: Converter | None = None,
) -> ExportResult:
    """Writes a Keras model as a TFLite file, loads the file back and compares the two.

    All shapes in the file are static by default, as delegates require. The file is moved to `path` only after it has
    been loaded and compared; if anything fails, an existing file there is unchanged. A model in half precision
    (mixed_float16) is exported from a float32 copy.

    A model trained with quantization awareness (`kd.compression.QuantizationAware`) is exported as "int8", with the
    trained ranges of its activations; weights of 4 bits or learned steps are rounded once more, to steps of 8 bits.
    Layers that it skips stay in float. The other formats, and 16-bit activations, take the result of
    `kd.compression.strip`.

    Args:
        model: a built Keras model with finite weights; for a distiller, pass its `student`. Its inputs and outputs keep
            their names in the file's signature.
        path: the file to write, with the extension `.tflite`; its folder is created if missing.
        format: a name, or an object of `kd.export.formats`. "float32". "float16": weights in float16. "dynamic":
            weights in int8; operators without a hybrid kernel compute in float. "int8": integers throughout, including
            input and output (an integer input, such as token ids, is unchanged); the result lists the operators that
            had to stay in float. "int8_float_io": the same with float inputs and outputs. "int16x8": int16 activations
            and int8 weights, for NPUs. "int4": weights in 4 bits with a scale for each output channel;
            "int4_block32", ..., "int4_block256": for each block of a dense layer's inputs. `kd.export.formats.Mixed`: a
            format for each operator or layer.
        calibration: for the formats with integer activations, real samples in the model's own input scale, on which the
            ranges of the activations are measured: an array [n, ...], a list or dict of them for a model with several
            inputs, or a `tf.data.Dataset` or another iterable of batches as `fit` takes them (its first 500
            examples are read). A model trained with quantization awareness needs none.
        calibration_method: how the ranges follow from the values seen: "min_max", "moving_average", "percentile" or
            "mse"; see `kd.export.measure_ranges`.
        samples: the samples for the comparison, in the same forms; all of them are used. Default: the first 256 of
            `calibration`, or else 16 random inputs, as recorded in the result.
        min_snr: the signal-to-noise ratio, in dB, below which the file is refused. Default: 30 for "float16", 10 for
            "dynamic", 3 for the others; none for "float32", which is compared exactly.
        batch_size: the file's static batch size; None for a file that takes any number of examples, which delegates for
            GPUs and NPUs do not take.
        metadata: what an app needs to know about the model, such as its labels; written into the file, where
            `read_metadata` and other tools find it.
        isolate: convert in a child process, so that a crash of the converter does not end this one. Importing
            TensorFlow there takes some seconds. On a backend other than TensorFlow, the model is always converted in a
            child process, which loads its `.keras` file.
        converter: a `Converter`, whose child process serves several exports; None starts one for this export. Not used
            if `isolate` is False.

    Returns:
        An `ExportResult`.

    Raises:
        ConfigurationError: an argument does not fit; nothing was converted.
        ExportError: the converter rejected the model or crashed, the file cannot be written (the disk is full), or its
            outputs do not match the model's.

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> images = np.random.default_rng(0).random((20, 4), dtype="float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = export_tflite(model, f"{folder}/student.tflite", samples=images)
    >>> result.num_samples, result.agreement
    (20, 1.0)
    """
    path, form = check_target(path), get_format(format)
    check_choice("calibration_method", calibration_method, METHODS)
    if min_snr is not None:
        check_number("min_snr", min_snr)
    work = Export.prepared(model, form, calibration, samples, batch_size, metadata)
    with owned(converter, isolate=isolate) as converter:
        made = make(work.source(converter), form, calibration_method)
        return work.write(made, path, form, form.min_snr if min_snr is None else min_snr)


@dataclass(frozen=True)
class Export:
    """A checked model with its samples, from which files are made and written.

    Attributes:
        model: the user's model.
        plain: the model in float32.
        inputs: its inputs with static shapes.
        is_trained: whether it has trained ranges.
        calibration: arrays by input name, or empty.
        samples: arrays by input name, for the comparison.
        samples_are_random: whether they are.
        batch_size: of the files.
        metadata: for the files.
    """

    model: keras.Model
    plain: keras.Model
    inputs: list[ModelInput]
    is_trained: bool
    calibration: dict[str, np.ndarray]
    samples: dict[str, np.ndarray]
    samples_are_random: bool
    batch_size: int | None
    metadata: Metadata | None

    @classmethod
    def prepared(
        cls, model: Any, form: Format, calibration: Any, samples: Any, batch_size: int | None, metadata: Metadata | None
    ) -> Export:
        """Checks the arguments of `export_tflite`.

        Raises:
            ConfigurationError: one of them does not fit.
        """
        if batch_size is not None:
            check_integer("batch_size", batch_size, at_least=1)
        if metadata is not None:
            check_metadata(metadata)
        plain, inputs = _prepare_model(model)
        is_trained = is_fake_quantized(plain)
        if is_trained:
            check_trained_ranges(plain, form)
        else:
            check_calibration(form, calibration)
        calibration, inputs = _read_calibration(calibration, inputs)
        samples, are_random, inputs = _read_samples(samples, calibration, inputs)
        if form.needs_calibration and not is_trained:
            check_ranges(calibration, samples)
        return cls(model, plain, inputs, is_trained, calibration, samples, are_random, batch_size, metadata)

    def source(self, converter: Converter | None) -> Source:
        """What the converter takes."""
        return Source((self.endpoint("serve"),), self.batch_size, converter)

    def endpoint(self, name: str) -> Endpoint:
        """The model under the name of a signature."""
        plain = with_constant_weights(self.plain) if self.is_trained else self.plain
        return Endpoint(name, plain, self.inputs, {} if self.is_trained else self.calibration)

    def check(self, made: Made, form: Format, min_snr: float | None) -> None:
        """Raises `ExportError` if a file does not match the model."""
        with tempfile.TemporaryDirectory(prefix="keras_kd_export_") as folder:
            file = Path(folder) / "model.tflite"
            file.write_bytes(made.content)
            self.compared(file, form, min_snr)

    def compared(self, file: Path, form: Format, min_snr: float | None, signature: str | None = None) -> Comparison:
        """The difference of a file from the model; raises `ExportError` if it is too large."""
        exact = form.is_exact and self.plain is self.model
        return compare(self.model, file, self.samples, exact=exact, min_snr=min_snr, signature=signature)

    def write(self, made: Made, path: Path, form: Format, min_snr: float | None) -> ExportResult:
        """Moves a file to its path after it has been loaded back and compared.

        Raises:
            ExportError: it does not match the model, or cannot be written.
        """
        content = made.content if self.metadata is None else embedded(made.content, self.metadata)
        with replacing(path) as draft:
            draft.write_bytes(content)
            found = self.compared(draft, form, min_snr)
        return self.result(path, content, made, form, found)

    def result(self, path: Path, content: bytes, made: Made, form: Format, found: Comparison) -> ExportResult:
        """What is known of a written file."""
        return ExportResult(
            path=path,
            format=form.name,
            num_bytes=len(content),
            gzip_bytes=len(gzip.compress(content)),
            max_difference=found.max_difference,
            agreement=found.agreement,
            num_samples=len(next(iter(self.samples.values()))),
            samples_are_random=self.samples_are_random,
            float_operators=float_operators(content) if form.needs_calibration else (),
            ranges=("trained" if self.is_trained else "measured") if form.needs_calibration else None,
            snr=found.snr,
            quantizer=made.quantizer,
            reason=made.reason,
            calibration=made.ranges,
        )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` at the end; raises `ExportError` if the disk is full or not writable."""
    try:
        with files.replacing(path) as draft:
            yield draft
    except OSError as error:
        raise ExportError(explain(f"The TFLite file {path} could not be written: {error}.")) from error


@contextlib.contextmanager
def owned(converter: Converter | None, *, isolate: bool) -> Iterator[Converter | None]:
    """The converter to use: the caller's, which stays open; a new one; or None to convert in this process."""
    isolate = isolate or not is_on_tensorflow()
    if not isolate or converter is not None:
        yield converter if isolate else None
        return
    with Converter() as own:
        yield own


def _prepare_model(model: keras.Model) -> tuple[keras.Model, list[ModelInput]]:
    """The model in float32, and its inputs."""
    check_exportable(model)
    model_inputs(model)  # before it is copied
    plain = as_float32(model)
    return plain, model_inputs(plain)


def _read_calibration(calibration: Any, inputs: list[ModelInput]) -> tuple[dict[str, np.ndarray], list[ModelInput]]:
    """The calibration arrays by input name, or empty; and the inputs with open shapes taken from them."""
    if calibration is not None:
        arrays = read_samples("calibration", calibration, inputs)
        return arrays, with_known_shapes(inputs, arrays)
    return {}, inputs


def _read_samples(
    samples: Any, calibration: dict[str, np.ndarray], inputs: list[ModelInput]
) -> tuple[dict[str, np.ndarray], bool, list[ModelInput]]:
    """The arrays for the comparison, whether they are random, and the inputs with static shapes."""
    if samples is not None:
        arrays = read_samples("samples", samples, inputs)
        return arrays, False, with_known_shapes(inputs, arrays)
    if calibration:
        return {name: array[:MAX_COMPARED] for name, array in calibration.items()}, False, inputs
    inputs = with_known_shapes(inputs, {})
    return random_samples(inputs, NUM_RANDOM), True, inputs
