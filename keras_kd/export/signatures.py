"""Exports several Keras models to one LiteRT file, each under a signature of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.export._checks import check_target
from keras_kd.export._conversion import Converter
from keras_kd.export._making import Source, make
from keras_kd.export.tflite import Export, ExportResult, owned, replacing
from keras_kd.litert import Format, get_format

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)


def export_signatures(
    models: Mapping[str, keras.Model],
    path: str | Path,
    *,
    format: str | Format = "float32",
    calibration: Any = None,
    samples: Any = None,
    min_snr: float | None = None,
    batch_size: int | None = 1,
    isolate: bool = True,
    converter: Converter | None = None,
) -> dict[str, ExportResult]:
    """Writes several Keras models as one LiteRT file, which stores equal weights once.

    For example, a classifier and its body, whose features an app compares; or one model for two sizes of images. The
    app names the signature that it runs. Each is loaded back and compared with its model, as by `export_tflite`.

    Args:
        models: maps names of signatures to models, as `export_tflite` takes them. The first one by the alphabet becomes
            the main graph, which tools that do not know signatures run.
        path: the file to write, which ends in `.tflite`.
        format: as in `export_tflite`, without "int16x8", for which TensorFlow's converter mixes up the ranges of
            several signatures, and without "mixed" with integer activations.
        calibration: as in `export_tflite`, for all models; or a dictionary of them by signature.
        samples: the samples for the comparison, for all models; or a dictionary of them by signature.
        min_snr, batch_size, isolate, converter: as in `export_tflite`.

    Returns:
        An `ExportResult` for each signature, with the differences of its outputs; the sizes are those of the file.

    Raises:
        ConfigurationError: an argument does not fit; nothing was converted.
        ExportError: a model cannot be converted, or the outputs of a signature do not match its model's.

        body = keras.Model(student.inputs, student.get_layer("features").output)
        kd.export.export_signatures({"classify": student, "embed": body}, "student.tflite")
    """
    path, form = check_target(path), get_format(format)
    _check_models(models)
    _check_format(form)
    if min_snr is not None:
        check_number("min_snr", min_snr)
    works = {
        name: Export.prepared(model, form, _of(name, calibration, models), _of(name, samples, models), batch_size, None)
        for name, model in models.items()
    }
    _check_ranges(works)
    with owned(converter, isolate=isolate) as own:
        made = make(Source(tuple(works[name].endpoint(name) for name in works), batch_size, own), form)
    limit = form.min_snr if min_snr is None else min_snr
    with replacing(path) as draft:
        draft.write_bytes(made.content)
        found = {name: work.compared(draft, form, limit, signature=name) for name, work in works.items()}
    return {name: work.result(path, made.content, made, form, found[name]) for name, work in works.items()}


def _of(name: str, samples: Any, models: Mapping[str, keras.Model]) -> Any:
    """The samples of a signature."""
    return samples[name] if isinstance(samples, Mapping) and samples.keys() == models.keys() else samples


def _check_models(models: Any) -> None:
    if not isinstance(models, Mapping) or len(models) < 2:
        expected, fix = "at least two models, by the names of their signatures", "Export one with `export_tflite`."
        raise ConfigurationError(explain("Invalid 'models'.", received=repr(models)[:200], expected=expected, fix=fix))
    for name in models:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            expected = "letters, digits and underscores, a letter first"
            raise ConfigurationError(
                explain("Invalid name of a signature.", received=repr(name)[:200], expected=expected)
            )


def _check_ranges(works: Mapping[str, Export]) -> None:
    """Refuses a mixture, of which the converter would leave the models without trained ranges in float."""
    trained = [name for name, work in works.items() if work.is_trained]
    if trained and len(trained) < len(works):
        problem, expected = "Only some of the models have trained ranges.", "all of them, or none"
        raise ConfigurationError(
            explain(problem, received=", ".join(trained), expected=expected, fix="Write a file for each signature.")
        )


def _check_format(form: Format) -> None:
    if form.activations == "int16":
        problem = "TensorFlow's converter mixes up the ranges of several signatures in this format."
        expected = "'int8', 'int8_float_io' or a format without calibration"
        raise ConfigurationError(
            explain(problem, received=form.name, expected=expected, fix="Write a file for each signature.")
        )
