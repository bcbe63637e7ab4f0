"""Data sets of TensorFlow Datasets; the only module that imports it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data.checks import check_image_size
from keras_kd.data.sources.records import Records, ReorderedRecords, Scaling, without_autotune
from keras_kd.data.splits import Opened, Split
from keras_kd.errors import ConfigurationError, explain

_VALIDATION_NAMES = ("validation", "valid", "val", "dev")

logger = logging.getLogger(__name__)


def open_tfds(
    name: str,
    expressions: Mapping[str, Any],
    data_dir: Any,
    image_size: Any,
    value_range: tuple[float, float],
) -> Opened:
    """Opens a data set of images with a class from TensorFlow Datasets; downloads it if necessary."""
    _check_expressions(expressions)
    size = check_image_size(image_size)
    builder = _tfds_builder(name, data_dir)
    image_key, label_key = _tfds_keys(name, builder.info)
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    shape = _tfds_shape(name, image, size)
    _prepare(name, builder)
    expressions = _default_expressions(name, expressions, list(builder.info.splits))
    read = {split: _tfds_split(name, builder, split, text) for split, text in expressions.items()}
    _refuse_overlap(expressions, read)
    stored_max = np.iinfo(image.np_dtype).max if np.issubdtype(image.np_dtype, np.integer) else None
    scaling = Scaling() if stored_max is None else Scaling.to_range(stored_max, value_range)
    records = {
        split: TFDSRecords(builder, expressions[split], (image_key, label_key), shape, read[split].num_examples)
        for split in read
    }
    splits = {split: Split(split, records[split], scaling) for split in records}
    stored = builder.info.splits.items()
    identity = (builder.info.full_name, sorted((n, s.num_examples, s.num_bytes) for n, s in stored))
    return Opened(tuple(label.names), splits, identity)


class TFDSRecords(Records):
    """The examples of a TFDS split expression, in their order on disk.

    Args:
        rows: the rows to use, ascending, possibly repeated; None for all.
    """

    def __init__(
        self,
        builder: Any,
        expression: str,
        keys: tuple[str, str],
        shape: tuple[int, int, int],
        num_examples: int,
        rows: np.ndarray | None = None,
    ):
        self._source = (builder, expression, keys)
        self._whole = num_examples
        self._rows = rows
        self._image = builder.info.features[keys[0]]
        self.num_examples = num_examples if rows is None else len(rows)
        self.shape = shape
        self.dtype = np.dtype(self._image.np_dtype)

    def select(self, rows: np.ndarray) -> Records:
        if (np.diff(rows) < 0).any():
            ascending, places = np.unique(rows, return_inverse=True)
            return ReorderedRecords(self.select(ascending), places)
        own = rows if self._rows is None else self._rows[rows]
        return TFDSRecords(*self._source, self.shape, self._whole, own)

    def stream(self) -> Any:
        import tensorflow as tf

        return self._encoded().map(lambda image, label: (self._decode(image), label), tf.data.AUTOTUNE)

    def read_labels(self) -> np.ndarray:
        labels = without_autotune(self._encoded().map(lambda image, label: label).batch(4096))
        return np.concatenate(list(labels.as_numpy_iterator()))

    def _encoded(self) -> Any:
        """Pairs (encoded image, int64 label), so that only the selected rows are decoded."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        builder, expression, (image_key, label_key) = self._source
        data = builder.as_dataset(
            split=expression,
            shuffle_files=False,
            read_config=tfds.ReadConfig(try_autocache=False),
            decoders=tfds.decode.PartialDecoding(
                {image_key: True, label_key: True}, decoders={image_key: tfds.decode.SkipDecoding()}
            ),
        )
        data = data.map(lambda example: (example[image_key], tf.cast(example[label_key], tf.int64)))
        if self._rows is None:
            return data
        with tf.device("CPU:0"):
            times = tf.constant(np.bincount(self._rows, minlength=self._whole))
        kept = data.enumerate().filter(lambda row, pair: times[row] > 0)
        repeated = kept.flat_map(lambda row, pair: tf.data.Dataset.from_tensors(pair).repeat(times[row]))
        return repeated.take(self.num_examples)

    def _decode(self, encoded: Any) -> Any:
        import tensorflow as tf

        image = self._image.decode_example(encoded)
        if self._image.shape[:2] != self.shape[:2]:
            resized = tf.image.resize(image, self.shape[:2], antialias=True)
            image = tf.cast(tf.round(resized) if self.dtype.kind == "u" else resized, self.dtype)
        return tf.ensure_shape(image, self.shape)


def _check_expressions(expressions: Mapping[str, Any]) -> None:
    for name, value in expressions.items():
        if value is not None and not isinstance(value, str):
            raise ConfigurationError(
                explain(
                    f"Invalid {name!r} for a TensorFlow data set.",
                    received=repr(value),
                    expected='a split expression such as "train[:90%]"',
                )
            )


def _tfds_builder(name: str, data_dir: Any) -> Any:
    """The builder of the data set prepared in `data_dir` in any version, or one that can download it.

    TFDS itself considers only its newest version and would download even if another version is prepared.
    """
    import tensorflow_datasets as tfds

    any_version = name if ":" in name or "=" in name else f"{name}:*.*.*"
    try:
        return tfds.builder(any_version, data_dir=data_dir)
    except Exception as error:
        raise ConfigurationError(
            explain(
                f"TensorFlow Datasets cannot open this data set: {_first_line(error)}",
                received=f"{name!r}, data_dir={_words(data_dir)}",
                expected="the name of a data set that TFDS knows, or of one prepared in data_dir",
                fix="The names are at https://www.tensorflow.org/datasets/catalog; for your own images use "
                '"folder:PATH".',
            )
        ) from error


def _prepare(name: str, builder: Any) -> None:
    """Downloads the data set if it is not prepared yet; TFDS shows the progress."""
    if builder.is_prepared():
        return
    data_dir = str(builder.data_path)
    logger.info("The data set %s is not in %s yet: TensorFlow Datasets downloads it.", name, data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise ConfigurationError(
            explain(
                f"TensorFlow Datasets could not download {name!r}: {_first_line(error)}",
                received=f"data_dir: nothing prepared in {data_dir}",
                expected="a prepared data set there, or a way to download it",
                fix="Check the network; or copy the prepared folder from a machine that has it, and pass the "
                "folder above it as data_dir.",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _words(data_dir: Any) -> str:
    return "TFDS' default" if data_dir is None else repr(str(data_dir))


def _tfds_keys(name: str, info: Any) -> tuple[str, str]:
    """The keys of the image and the label: the supervised keys, or the only features of those types."""
    import tensorflow_datasets as tfds

    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    keys = info.supervised_keys or ()
    if len(keys) != 2 or not all(isinstance(key, str) and key in features for key in keys):
        keys = tuple(features)
    images = [key for key in keys if isinstance(features[key], tfds.features.Image)]
    labels = [key for key in keys if isinstance(features[key], tfds.features.ClassLabel)]
    if len(images) != 1 or len(labels) != 1 or not features[labels[0]].num_classes:
        found = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(features.items()))
        raise ConfigurationError(
            explain(
                f"The data set {name!r} does not have images with one class each.",
                received=f"the features {found or type(info.features).__name__}",
                expected="one Image and one ClassLabel",
            )
        )
    return images[0], labels[0]


def _tfds_shape(name: str, image: Any, size: tuple[int, int] | None) -> tuple[int, int, int]:
    height, width = size or image.shape[:2]
    if height is None or width is None:
        raise ConfigurationError(
            explain(
                f"The images of {name!r} have different sizes.",
                received=f"shape {tuple(image.shape)}, no image_size",
                expected="image_size=(height, width) to resize them to",
            )
        )
    return (height, width, image.shape[-1] or 3)


def _default_expressions(name: str, given: Mapping[str, str | None], available: list[str]) -> dict[str, str]:
    validation = next((n for n in _VALIDATION_NAMES if n in available), None)
    if "test" in available and validation:
        defaults = {"train": "train", "validation": validation, "test": "test"}
    elif "test" in available or validation:
        held_out = validation or "test"
        defaults = {"train": "train[:90%]", "validation": "train[90%:]", "test": held_out}
    else:
        defaults = {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}
    if given["validation"] is not None and defaults["validation"] == "train[90%:]":
        defaults["train"] = "train"
    chosen = {split: given[split] or defaults[split] for split in defaults}
    if "train" not in available and None in given.values():
        raise ConfigurationError(
            explain(
                f"The data set {name!r} has no 'train' split.",
                received=f"the splits {', '.join(available) or '(none)'}",
                expected="'train', 'validation' and 'test' as split expressions over those",
            )
        )
    return chosen


def _tfds_split(name: str, builder: Any, split: str, expression: str) -> Any:
    try:
        info = builder.info.splits[expression]
        num_examples = info.num_examples
    except Exception as error:
        raise ConfigurationError(
            explain(
                f"Invalid {split!r} split of {name!r}: {_first_line(error)}",
                received=repr(expression),
                expected=f"an expression of {', '.join(builder.info.splits)}, such as 'train[:90%]'",
            )
        ) from error
    if not num_examples:
        raise ConfigurationError(
            explain(
                f"The split {split!r} of {name!r} is empty.",
                received=repr(expression),
                expected="at least one example",
            )
        )
    return info


def _ranges(info: Any) -> list[tuple[str, int, int]]:
    """`(file name, first row, row after the last)` for each piece of a split."""
    return [
        (Path(f.filename).name, f.skip, f.skip + f.take if f.take >= 0 else f.examples_in_shard)
        for f in info.file_instructions
    ]


def _refuse_overlap(expressions: Mapping[str, str], read: Mapping[str, Any]) -> None:
    pieces = [(split, *piece) for split, info in read.items() for piece in _ranges(info)]
    for i, (split, file, start, stop) in enumerate(pieces):
        for other, other_file, other_start, other_stop in pieces[:i]:
            if file == other_file and start < other_stop and other_start < stop:
                raise ConfigurationError(
                    explain(
                        f"The splits {other!r} and {split!r} share examples.",
                        received=f"{other}={expressions[other]!r}, {split}={expressions[split]!r}",
                        expected="splits without common examples",
                        fix="Name all of 'train', 'validation' and 'test', each with its own slice.",
                    )
                )
