"""Data sets by name: `open_source("digits")`, `"tfds:mnist"`, `"folder:photos"`, `"npz:data.npz"`.

Opening is cheap: listings, headers and builder infos are read, pixels only when a split is used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_kd import files, tasks
from keras_kd.data.checks import check_fraction, check_image_size, check_seed, check_value_range
from keras_kd.data.sources.arrays import open_npz
from keras_kd.data.sources.digits import open_digits
from keras_kd.data.sources.folders import open_folder
from keras_kd.data.sources.tfds import open_tfds
from keras_kd.data.splits import DataSource, Opened
from keras_kd.errors import ConfigurationError, explain

FORMS = '"digits", "tfds:NAME", "folder:PATH" or "npz:PATH"'


def open_source(
    source: str,
    *,
    train: str | float | None = None,
    validation: str | float | None = None,
    test: str | float | None = None,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    task: Any = None,
) -> DataSource:
    """Opens a data set with its train, validation and test splits.

    `"digits"`: scikit-learn's 1,797 images, 8x8x1, 16 shades; always the same stratified split of 1,078 for
    training, 359 for validation, 360 for test, whatever the `seed`.

    `"tfds:NAME"`, or `"tfds:NAME/CONFIG:VERSION"`: TensorFlow Datasets. What lies prepared in `data_dir` is used,
    in whichever version; otherwise TFDS downloads it there. `train`, `validation` and `test` are TFDS split
    expressions. Defaults: the splits of those names; the last 10% of `train` where there is no validation split;
    the validation split as the test where there is no test split; 80% / 10% / 10% where there is only `train`.

    `"folder:PATH"`: images in a sub-folder for each class, or in `train/CLASS`, `validation/CLASS` (or `val`) and
    `test/CLASS`. `"npz:PATH"`: `x_train, y_train[, x_val, y_val][, x_test, y_test][, class_names]`, or
    `x, y[, class_names]`. There, uint8 x are images, `[n, H, W]` greyscale ones; floating point numbers are taken as
    they are; other whole numbers `[n, t]` are token ids and stay whole. Its y may be of any task of `keras_kd.tasks`.
    Of both, a missing validation or test split is cut from the training examples, stratified by class: `validation` and
    `test` are its fractions (0.1 each by default), `train` the fraction to train on (by default the rest).

    >>> source = open_source("digits")
    >>> source.input_shape, source.num_classes, source.train.num_examples
    ((8, 8, 1), 10, 1078)

    Args:
        data_dir: where TFDS keeps its data sets; by default its own place, `~/tensorflow_datasets`.
        image_size: pixels, `(height, width)` or one number; needed where the images differ in size.
        value_range: what black and white become. For stored integers; floating point arrays are not scaled.
        seed: of the splits that are cut from folders and .npz files.
        task: one of `keras_kd.tasks`, its name, or a mapping such as `{"name": "segmentation", "ignore_class": 255}`.
            None finds it in the labels of an .npz file; every other source is a classification.

    Raises:
        ConfigurationError: an unknown source, data that is missing or not usable, settings that do not fit it.
    """
    kind, place = _parse(source)
    expressions = {"train": train, "validation": validation, "test": test}
    value_range, seed = check_value_range(value_range), check_seed(seed)
    task = None if task is None else tasks.get(task)
    if kind != "npz":
        _refuse_task(task, source)
    if kind == "tfds":
        opened = open_tfds(place, expressions, data_dir, image_size, value_range)
    else:
        _refuse_data_dir(data_dir, source)
        fractions = {name: check_fraction(name, value) for name, value in expressions.items()}
        opened = _open_local(kind, place, fractions, image_size, value_range, seed, task)
    settings = (kind, expressions, check_image_size(image_size), value_range)
    settings += (seed,) if kind in ("folder", "npz") else ()
    return DataSource(
        name=source,
        class_names=opened.class_names,
        input_shape=opened.splits["train"].example_shape,
        fingerprint=_fingerprint(settings, opened),
        found=opened.found,
        **opened.splits,
    )


def _parse(source: Any) -> tuple[str, str]:
    """
    >>> _parse("tfds:mnist:3.*.*")
    ('tfds', 'mnist:3.*.*')
    """
    kind, colon, place = source.partition(":") if isinstance(source, str) else ("", "", "")
    if source == "digits" or (kind in ("tfds", "folder", "npz") and place):
        return kind, place
    raise ConfigurationError(
        explain(
            "Unknown data source.",
            received=repr(source),
            expected=FORMS,
            fix=None if colon else f'For a TensorFlow data set, write "tfds:{source}".',
        )
    )


def _open_local(
    kind: str,
    place: str,
    fractions: Mapping[str, float | None],
    image_size: Any,
    value_range: tuple[float, float],
    seed: int,
    task: tasks.Task | None,
) -> Opened:
    if kind == "digits":
        return open_digits(fractions, image_size, value_range)
    open_path = open_folder if kind == "folder" else functools.partial(open_npz, task=task)
    try:
        Path(place).expanduser().exists()
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have
        received = repr(place if len(place) <= 80 else f"{place[:77]}...")
        raise ConfigurationError(
            explain(f"This place cannot be read: {error.args[-1]}.", received=received, expected=FORMS)
        ) from None
    return open_path(Path(place).expanduser(), fractions, image_size, value_range, seed)


def _refuse_task(task: tasks.Task | None, source: str) -> None:
    if task is not None and not isinstance(task, tasks.Classification):
        raise ConfigurationError(
            explain(
                f"{source!r} holds one class per example.",
                received=f"task {task.name!r}",
                expected="'classification', or no task",
                fix='Labels of other tasks come from "npz:PATH".',
            )
        )


def _refuse_data_dir(data_dir: Any, source: str) -> None:
    if data_dir is not None:
        raise ConfigurationError(
            explain(
                f"{source!r} has no use for 'data_dir'.",
                received=f"data_dir={str(data_dir)!r}",
                expected='no data_dir, which is for "tfds:NAME"',
            )
        )


def _fingerprint(settings: tuple[Any, ...], opened: Opened) -> str:
    sizes = {name: split.num_examples for name, split in opened.splits.items()}
    shape = opened.splits["train"].example_shape
    text = repr((settings, opened.class_names, shape, sorted(sizes.items()), opened.identity))
    task = opened.splits["train"].task
    if not isinstance(task, tasks.Classification):
        text += repr(task)
    return files.digest(text)[:32]
