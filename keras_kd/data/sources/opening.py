"""Opens data sets by name: `open_source("digits")`, `"tfds:mnist"`, `"folder:photos"`, `"npz:data.npz"`.

Opening is cheap: it reads listings, headers and builder infos; pixels are read when a split is used.
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

    `"digits"`: scikit-learn's 1,797 images, 8x8x1, 16 shades, always in the same stratified split of 1,078 training,
    359 validation and 360 test images, independent of `seed`.

    `"tfds:NAME"`, or `"tfds:NAME/CONFIG:VERSION"`: TensorFlow Datasets. Uses the data set prepared in `data_dir`, in
    any version; otherwise TFDS downloads it there. `train`, `validation` and `test` are TFDS split expressions.
    Defaults: the splits of those names; if there is only one of validation and test, it is the test split, and the last
    10% of `train` are the validation split; with only `train`, 80% / 10% / 10%.

    `"folder:PATH"`: images in one subfolder per class, or in `train/CLASS`, `validation/CLASS` (or `val`) and
    `test/CLASS`. `"npz:PATH"`: `x_train, y_train[, x_val, y_val][, x_test, y_test][, class_names]`, or
    `x, y[, class_names]`. In an .npz file, uint8 x are images, `[n, H, W]` grayscale; floating-point x are not scaled;
    other integers `[n, t]` are token ids and stay integers. Its y may be of any task of `keras_kd.tasks`. For both
    sources, a missing validation or test split is cut from the training examples, stratified by class: `validation` and
    `test` are its fractions (0.1 each by default), `train` the fraction to train on (by default the rest).

    >>> source = open_source("digits")
    >>> source.input_shape, source.num_classes, source.train.num_examples
    ((8, 8, 1), 10, 1078)

    Args:
        data_dir: the directory of TFDS data sets; by default TFDS's own, `~/tensorflow_datasets`.
        image_size: in pixels, `(height, width)` or one number; required if the images differ in size.
        value_range: the values of black and white, for stored integers; floating-point arrays are not scaled.
        seed: the seed of the splits cut from folders and .npz files.
        task: one of `keras_kd.tasks`, its name, or a mapping such as `{"name": "segmentation", "ignore_class": 255}`.
            None infers it from the labels of an .npz file; every other source is a classification.

    Raises:
        ConfigurationError: an unknown source, missing or unusable data, or settings that do not apply to the source.
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
    except (OSError, ValueError, RuntimeError) as error:  # not a valid file name
        received = repr(place if len(place) <= 80 else f"{place[:77]}...")
        raise ConfigurationError(
            explain(f"Invalid path: {error.args[-1]}.", received=received, expected=FORMS)
        ) from None
    return open_path(Path(place).expanduser(), fractions, image_size, value_range, seed)


def _refuse_task(task: tasks.Task | None, source: str) -> None:
    if task is not None and not isinstance(task, tasks.Classification):
        raise ConfigurationError(
            explain(
                f"{source!r} has one class per example, which other tasks do not support.",
                received=f"task {task.name!r}",
                expected="the task 'classification', or none",
                fix='Labels of other tasks come from "npz:PATH".',
            )
        )


def _refuse_data_dir(data_dir: Any, source: str) -> None:
    if data_dir is not None:
        raise ConfigurationError(
            explain(
                f"'data_dir' does not apply to {source!r}.",
                received=f"data_dir={str(data_dir)!r}",
                expected='no data_dir (it applies to "tfds:NAME" only)',
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
