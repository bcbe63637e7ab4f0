"""Calibration examples, from which post-training quantization measures the activation ranges."""

from __future__ import annotations

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import ConfigurationError, check_integer, explain


def calibration_samples(split: Split, num_samples: int = 200, seed: int = 0) -> np.ndarray:
    """A seeded sample of training examples, stratified by class or by the task's other strata.

    Only the sampled images are decoded. Unlabeled examples form an additional class.

    Returns:
        Model inputs `[n, *example_shape]`, float32 or int32 token ids; n is `num_samples`, or the size of the split if
        that is smaller.

    Raises:
        ConfigurationError: the test split, whose examples would leak into the model under evaluation, or a number out
            of range.
    """
    if split.name == "test":
        raise ConfigurationError(
            explain(
                "Calibration samples must not come from the test split.",
                received="the split 'test'",
                expected="training examples",
                fix="Pass source.train.",
            )
        )
    num_samples = min(check_integer("num_samples", num_samples, at_least=1), split.num_examples)
    rows = stratified_choice(split.task.strata(split.labels()), num_samples, check_seed(seed))
    return split.subset(rows, f"{split.name}_calibration").arrays()[0]
