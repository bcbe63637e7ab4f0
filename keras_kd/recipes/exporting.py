"""Exports a trained `.keras` file, with calibration samples and metadata from a data source."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.compression import strip
from keras_kd.data import DataSource, calibration_samples, open_source
from keras_kd.data.sources.records import Scaling
from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.export import (
    Converter,
    ExportResult,
    GuardedExport,
    Metadata,
    Pixels,
    export_guarded,
    export_tflite,
    has_ranges_for,
    is_fake_quantized,
    spanning,
    with_processing,
)
from keras_kd.export.tflite import MAX_COMPARED
from keras_kd.litert import Format, get_format
from keras_kd.model_files import load_file
from keras_kd.recipes.file_metadata import ends, processed_ends

_MOST_VALUES = 10**8
_RESIZED = ("folder", "tfds")


@dataclass(frozen=True)
class _Examples:
    """What the data source gives an export."""

    source: DataSource | None = None
    calibration: np.ndarray | None = None
    samples: np.ndarray | None = None


def export_files(
    model: str | Path,
    formats: Sequence[str | Format],
    *,
    data: str | None = None,
    folder: str | Path | None = None,
    image_size: int | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    num_samples: int = 200,
    batch_size: int | None = 1,
    preprocess: str | None = None,
    postprocess: str | None = None,
    max_accuracy_drop: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[ExportResult | GuardedExport]:
    """Exports a trained model in several formats, one after the other, as `NAME_FORMAT.tflite`.

    Args:
        model: a `.keras` file.
        formats: names of `keras_kd.litert.FORMATS`, or objects of `keras_kd.export.formats`.
        data: a source as in a recipe (`keras_kd.data.open_source`), whose training examples calibrate integer formats
            and are compared, and whose classes are written into the files. None exports without both.
        folder: for the files; None for that of the model.
        image_size: in pixels, for images that are to be resized; None for the size that the model takes.
        value_range: the values of black and white that the model takes.
        num_samples: the number of calibration samples.
        batch_size: of the files; None for any number of examples.
        preprocess: `"pixels"` for files that take pixels from 0 to 255, and scale them to `value_range`. None for files
            that take what the model takes.
        postprocess: `"softmax"` or `"argmax"` for files that return probabilities or the number of a class; None for
            files that return what the model returns. See `keras_kd.export.with_processing`.
        max_accuracy_drop: writes `NAME_guarded.tflite` too, the smallest file whose measure on the validation split
            drops by no more, in points for shares such as accuracy. See `keras_kd.export.export_guarded`.
        progress: called with the name of what is made next.

    Yields:
        An `ExportResult` for each format, then a `GuardedExport`.

    Raises:
        ConfigurationError: the file is not a model, or the data are missing, unknown, or do not fit it.
        ExportError: the converter rejected the model, or the outputs of a file do not match the model's.
    """
    path, forms = Path(model), list({get_format(form): None for form in formats})
    tell = progress or (lambda title: None)
    check_choice("preprocess", preprocess, (None, "pixels"))
    pixels = None if preprocess is None else Pixels.of_range(*value_range)
    loaded = _loaded(path)
    _check_names(forms)
    _check_calibrated(loaded, forms, data)
    if max_accuracy_drop is not None:
        _check_guard(loaded, data, preprocess or postprocess)
    processed = functools.cache(functools.partial(_processed, loaded, pixels, postprocess))
    models = [processed(not is_fake_quantized(loaded) or has_ranges_for(loaded, form)) for form in forms]
    examples, metadata = _Examples(), Metadata(name=path.stem)
    if data is not None:
        source = _opened(loaded, data, image_size, value_range)
        examples = _examples(source, num_samples, pixels)
        described = ends(loaded, source, value_range)
        metadata = Metadata(name=path.stem, **processed_ends(described, preprocess, postprocess))
    folder = path.parent if folder is None else Path(folder)
    with Converter() as converter:
        shared = {"batch_size": batch_size, "metadata": metadata, "converter": converter}
        shared |= {"calibration": examples.calibration}
        for form, prepared in zip(forms, models, strict=True):
            tell(form.name)
            target = folder / f"{path.stem}_{form.name}.tflite"
            yield export_tflite(prepared, target, format=form, samples=examples.samples, **shared)
        if max_accuracy_drop is not None:
            yield export_guarded(
                loaded,
                folder / f"{path.stem}_guarded.tflite",
                max_accuracy_drop=max_accuracy_drop,
                validation=examples.source.validation.arrays(),
                task=examples.source.task,
                progress=lambda title: tell(f"{title} for the guard"),
                **shared,
            )


def _loaded(path: Path) -> keras.Model:
    if not path.is_file():
        problem = "The model file does not exist."
        raise ConfigurationError(
            explain(problem, received=str(path), expected="a file that model.save('NAME.keras') wrote")
        )
    loaded = load_file(path)
    _check_size(loaded)
    return loaded


def _examples(source: DataSource, num_samples: int, pixels: Pixels | None) -> _Examples:
    """The samples for calibration and comparison, in pixels if the files take them."""
    calibration = calibration_samples(source.train, num_samples)
    if pixels is None:
        return _Examples(source, calibration)
    _check_scaled(source)
    images = pixels.of_inputs(calibration)
    return _Examples(source, spanning(images), images[:MAX_COMPARED])


def _check_names(forms: Sequence[Format]) -> None:
    """Refuses formats whose files would have one name."""
    names = [form.name for form in forms]
    if len(set(names)) < len(names):
        problem, expected = "Two formats have the same name.", "at most one format of each name"
        raise ConfigurationError(explain(problem, received=", ".join(names), expected=expected))


def _check_guard(model: keras.Model, data: str | None, processing: str | None) -> None:
    problem = received = fix = None
    if data is None:
        received, fix = "no data", "Name them: `data` (`--data`)."
    elif processing is not None:
        received, fix = f"{processing!r}, which changes what a file takes or returns", "Export that in a second call."
    elif is_fake_quantized(model):
        received, fix = "a fake-quantized model, which has the ranges of int8", "Export it as int8."
    if received is not None:
        problem = "The guard cannot measure the files."
        raise ConfigurationError(
            explain(problem, received=received, expected="a plain model and its validation data", fix=fix)
        )


def _processed(model: keras.Model, pixels: Pixels | None, postprocess: str | None, is_plain: bool) -> keras.Model:
    """The model to export: itself if `is_plain`, else without its fake quantization; with its processing."""
    model = model if is_plain else strip(model)
    if pixels is None and postprocess is None:
        return model
    return with_processing(model, preprocess=pixels, postprocess=postprocess)


def _check_size(model: keras.Model) -> None:
    """Refuses inputs that no phone takes, which would fill the memory here: a file may declare any size."""
    for tensor in getattr(model, "inputs", None) or []:
        if math.prod(length or 1 for length in tensor.shape[1:]) > _MOST_VALUES:
            raise ConfigurationError(
                explain(
                    f"Input {tensor.name!r} is too large.",
                    received=f"shape {tuple(tensor.shape)}",
                    expected=f"at most {_MOST_VALUES:,} values",
                )
            )


def _check_scaled(source: DataSource) -> None:
    scaling = source.train.scaling
    if scaling == Scaling(dtype=scaling.dtype):
        raise ConfigurationError(
            explain(
                "The data are not scaled from pixels, so that a file cannot scale them.",
                received="preprocess='pixels', and data that the model takes as they are stored",
                expected="images that are stored as integers",
            )
        )


def _check_calibrated(model: keras.Model, forms: Sequence[Format], data: str | None) -> None:
    lacking = [form.name for form in forms if form.needs_calibration and not has_ranges_for(model, form)]
    if lacking and data is None:
        raise ConfigurationError(
            explain(
                f"The format {lacking[0]!r} needs calibration samples.",
                received="no data",
                expected="the data that the model was trained on",
                fix="Name them: `data` (`--data`) digits, tfds:NAME, folder:PATH or npz:PATH.",
            )
        )


def _opened(model: keras.Model, name: str, image_size: int | None, value_range: tuple[float, float]) -> DataSource:
    shape = getattr(model, "input_shape", None)
    size: Any = image_size
    if size is None and name.partition(":")[0] in _RESIZED and isinstance(shape, tuple) and len(shape) == 4:
        size = shape[1:3] if None not in shape[1:3] else None
    return open_source(name, image_size=size, value_range=value_range)
