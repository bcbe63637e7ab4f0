"""From a Keras model to a checked TFLite file."""

from __future__ import annotations

import gzip
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, ExportError, check_choice, explain
from keras_kd.export._convert import batches
from keras_kd.export._conversion import run_converter
from keras_kd.export._samples import random_samples, read_samples
from keras_kd.export._saved_model import (
    ModelInput,
    all_layers,
    as_float32,
    model_inputs,
    name_outputs,
    pack_inputs,
    with_known_shapes,
    write_saved_model,
)
from keras_kd.export.tensors import from_tensor, to_tensor

QUANTIZATIONS = (None, "float16", "dynamic", "int8", "int16x8")
CALIBRATED = ("int8", "int16x8")
MAX_COMPARED = 256
NUM_RANDOM = 16
FLOAT32_TOLERANCE = 0.01
_KERAS_BATCH = 32


@dataclass(frozen=True)
class ExportResult:
    """What `export_tflite` wrote, and how far the file is from the Keras model.

    Attributes:
        path: the file.
        quantization: as it was asked for.
        num_bytes: the file's size.
        gzip_bytes: its size compressed by gzip, about what a phone downloads.
        max_difference: the largest absolute difference between the two models' outputs, over all outputs, after
            dequantisation.
        agreement: the share of predictions, 0 to 1, in which both models' largest output is the same one (the
            lowest share, where there are several outputs). None where no output has two or more units.
        num_samples: the number of samples compared.
        samples_are_random: True where the samples were made up, because none were given: then neither difference nor
            agreement says much about real data.
    """

    path: Path
    quantization: str | None
    num_bytes: int
    gzip_bytes: int
    max_difference: float
    agreement: float | None
    num_samples: int
    samples_are_random: bool

    def __str__(self) -> str:
        sizes = f"{self.num_bytes / 1000:.1f} kB (gzip {self.gzip_bytes / 1000:.1f} kB)"
        kind = "random" if self.samples_are_random else "real"
        same = "" if self.agreement is None else f", {self.agreement:.1%} the same class"
        compared = f"on {self.num_samples} {kind} samples"
        return (
            f"{self.path.name}: {self.quantization or 'float32'}, {sizes}; against Keras: "
            f"largest difference {self.max_difference:.2g}{same} {compared}"
        )


def export_tflite(
    model: keras.Model,
    path: str | Path,
    *,
    quantization: str | None = None,
    calibration: Any = None,
    samples: Any = None,
    batch_size: int = 1,
    isolate: bool = True,
) -> ExportResult:
    """Writes a Keras model as a TFLite file, loads the file back and compares the two.

    All shapes in the file are static, as delegates want them. The file appears at `path` only once it was loaded and
    compared: where anything fails, a former file there stays as it was. A model in half precision (mixed_float16) is
    exported from a float32 copy.

    Args:
        model: a built Keras model. Its inputs and outputs keep their names in the file's signature.
        path: the file to write; its folder is made where it is missing.
        quantization: None: float32. "float16": weights in float16. "dynamic": weights in int8, arithmetic in float
            where there is no mixed kernel. "int8": integers throughout, input and output too (an integer input, such
            as token ids, stays as it is). "int16x8": int16 activations and int8 weights, for the CPU.
        calibration: for the last two, real samples in the model's own input scale, from which the ranges of the
            activations are taken: an array [n, ...], a list or dict of them for a model with several inputs, or a
            `tf.data.Dataset` or another iterable of batches as `fit` takes them (the first 500 examples are read).
        samples: what the comparison runs on, in the same forms; all of it is used. Default: the first 256 of
            `calibration`, or else 16 random inputs, and then the result says so.
        batch_size: the file's static batch.
        isolate: convert in a child process, so that a crash of the converter does not end this one. It costs some
            seconds for importing TensorFlow once more.

    Returns:
        An `ExportResult`.

    Raises:
        ConfigurationError: an argument does not fit; nothing was converted.
        ExportError: the converter refused the model or crashed, or the file does not compute what the model does.

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> images = np.random.default_rng(0).random((20, 4), dtype="float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = export_tflite(model, f"{folder}/student.tflite", samples=images)
    >>> result.num_samples, result.agreement
    (20, 1.0)
    """
    path = _check_target(path)
    check_choice("quantization", quantization, QUANTIZATIONS)
    _check_batch_size(batch_size)
    plain = as_float32(model)
    inputs = model_inputs(plain)
    calibration = _read_calibration(calibration, quantization, inputs)
    compared = _choose_samples(samples, calibration, inputs)
    inputs = with_known_shapes(inputs, calibration or compared)
    are_random = compared is None
    compared = random_samples(inputs, NUM_RANDOM) if are_random else compared

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        content = _convert(plain, inputs, quantization, calibration, batch_size, isolate)
        draft.write_bytes(content)
        exact = quantization is None and plain is model
        difference, agreement = _compare(model, draft, inputs, compared, batch_size, exact=exact)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return ExportResult(
        path=path,
        quantization=quantization,
        num_bytes=len(content),
        gzip_bytes=len(gzip.compress(content)),
        max_difference=difference,
        agreement=agreement,
        num_samples=len(compared[0]),
        samples_are_random=are_random,
    )


def _check_target(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir() or not path.name:
        raise ConfigurationError(
            explain("'path' is a folder.", received=path, expected="a file to write", fix="Add a file name.")
        )
    return path


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        expected = "a whole number, 1 or more"
        raise ConfigurationError(
            explain("'batch_size' is not usable.", received=repr(batch_size), expected=expected)
        )


def _read_calibration(
    calibration: Any, quantization: str | None, inputs: list[ModelInput]
) -> list[np.ndarray] | None:
    if calibration is not None:
        return read_samples("calibration", calibration, inputs)
    if quantization in CALIBRATED:
        raise ConfigurationError(
            explain(
                f"Quantisation to {quantization!r} needs 'calibration'.",
                received=None,
                expected="some hundred real samples, scaled as the model takes them",
                fix="For example a part of the training images: `calibration=x_train[:200]`.",
            )
        )
    return None


def _choose_samples(
    samples: Any, calibration: list[np.ndarray] | None, inputs: list[ModelInput]
) -> list[np.ndarray] | None:
    """The arrays to compare on; None where there is nothing real."""
    if samples is not None:
        return read_samples("samples", samples, inputs)
    if calibration is not None:
        return [array[:MAX_COMPARED] for array in calibration]
    return None


def _convert(
    model: keras.Model,
    inputs: list[ModelInput],
    quantization: str | None,
    calibration: list[np.ndarray] | None,
    batch_size: int,
    isolate: bool,
) -> bytes:
    """The content of the TFLite file."""
    names = [one.name for one in inputs]
    representative = dict(zip(names, calibration, strict=True)) if quantization in CALIBRATED else {}
    with tempfile.TemporaryDirectory(prefix="keras_kd_export_") as folder:
        saved_model = Path(folder) / "saved_model"
        write_saved_model(model, inputs, batch_size, saved_model)
        return run_converter(
            saved_model,
            quantization,
            representative,
            batch_size,
            isolate=isolate,
            crash_hint=_rolled_layers(model),
        )


def _rolled_layers(model: keras.Model) -> str | None:
    """What to do about recurrent layers that are a loop in the graph: int8 conversion crashes on them."""
    rolled = [
        layer for layer in all_layers(model) if isinstance(layer, keras.layers.RNN) and not layer.unroll
    ]
    if not rolled:
        return None
    names = ", ".join(f"{type(layer).__name__} {layer.name!r}" for layer in rolled)
    return f"Rolled recurrent layers are a known cause: rebuild the model with unroll=True in {names}."


def _compare(
    model: keras.Model,
    file: Path,
    inputs: list[ModelInput],
    samples: list[np.ndarray],
    batch_size: int,
    *,
    exact: bool,
) -> tuple[float, float | None]:
    """The largest difference and the lowest agreement over the outputs."""
    named = dict(zip((one.name for one in inputs), samples, strict=True))
    expected, received = _run_keras(model, named), _run_file(file, named, batch_size)
    differences, agreements = [], []
    for name, reference in expected.items():
        output = received.get(name)
        if output is None or output.shape != reference.shape:
            shape = "nothing" if output is None else f"shape {output.shape}"
            problem = f"The TFLite file gives another output {name!r} than the Keras model."
            raise ExportError(explain(problem, received=shape, expected=f"shape {reference.shape}"))
        differences.append(_largest_difference(name, reference, output, exact=exact))
        if reference.ndim > 1 and reference.shape[-1] > 1:
            agreements.append(float(np.mean(reference.argmax(-1) == output.argmax(-1))))
    return max(differences), min(agreements, default=None)


def _largest_difference(name: str, reference: np.ndarray, output: np.ndarray, *, exact: bool) -> float:
    reference, output = reference.astype(np.float64), output.astype(np.float64)
    if not np.isfinite(output).all():
        fix = "The Keras model gives them too." if not np.isfinite(reference).all() else None
        raise ExportError(explain(f"The TFLite file gives NaN or infinity for output {name!r}.", fix=fix))
    difference = float(np.abs(reference - output).max())
    limit = FLOAT32_TOLERANCE * float(np.abs(reference).max())
    if exact and difference > limit:
        raise ExportError(
            explain(
                f"The float32 TFLite file does not compute what the Keras model does, in output {name!r}.",
                received=f"a largest difference of {difference:.3g}",
                expected=f"at most {limit:.3g}, 1% of the largest output",
                fix="Look for a layer that is random at inference, or that behaves by batch.",
            )
        )
    return difference


def _run_keras(model: keras.Model, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name [n, ...], computed on the CPU: a GPU may round float32 to TF32."""
    num_samples = len(next(iter(samples.values())))
    parts = []
    with keras.device("cpu"):
        for start in range(0, num_samples, _KERAS_BATCH):
            flat = [
                keras.ops.convert_to_tensor(array[start : start + _KERAS_BATCH]) for array in samples.values()
            ]
            outputs = name_outputs(model, model(pack_inputs(model, flat), training=False))
            parts.append({name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_file(file: Path, samples: dict[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """Outputs by name [n, ...], dequantised, computed by LiteRT on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    num_samples = len(next(iter(samples.values())))
    runner = Interpreter(model_path=str(file), num_threads=1).get_signature_runner()
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    tensors = {name: to_tensor(array, inputs[name]) for name, array in samples.items() if name in inputs}
    parts = [runner(**batch) for batch in batches(tensors, batch_size)]
    return {
        name: from_tensor(np.concatenate([part[name] for part in parts])[:num_samples], details)
        for name, details in outputs.items()
    }
