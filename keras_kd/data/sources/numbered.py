"""Examples with ids from any source: arrays, a split, a `tf.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data.examples import ArrayExamples, Examples, SplitExamples, StreamedSplitExamples
from keras_kd.data.sources.tf_datasets import examples_of_dataset
from keras_kd.data.splits import DataSource, Split
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import get

_FORMS = (
    "(x,), (x, y) or (x, y, sample_weight) arrays; a split of kd.data.open_source(...); a DataSource (its training "
    "split); or a tf.data.Dataset of single examples"
)


def examples_of(source: Any, task: Any = None) -> Examples:
    """Converts a source to examples with ids.

    Args:
        source: arrays, a split or data source, or a `tf.data.Dataset`.
        task: the task that defines the labels, if the source does not; see `keras_kd.tasks`.

    Raises:
        ConfigurationError: unsupported type of source.
    """
    task = None if task is None else get(task)
    if isinstance(source, Examples):
        return source
    if isinstance(source, DataSource):
        source = source.train
    if isinstance(source, Split):
        return _of_split(source)
    if isinstance(source, tuple) and 1 <= len(source) <= 3:
        while source[-1] is None and len(source) > 1:
            source = source[:-1]
        return ArrayExamples(source, task)
    if isinstance(source, np.ndarray):
        return ArrayExamples((source,), task)
    if hasattr(source, "element_spec"):  # a tf.data.Dataset, detected without importing TensorFlow
        return examples_of_dataset(source, task)
    raise ConfigurationError(
        explain(
            "Unsupported data source.", received=f"{type(source).__module__}.{type(source).__name__}", expected=_FORMS
        )
    )


def _of_split(split: Split) -> Examples:
    if split.records.fits_in_memory:
        return SplitExamples(split)
    return StreamedSplitExamples(split)
