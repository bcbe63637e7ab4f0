"""The images from which post-training quantisation learns the ranges of the activations."""

from __future__ import annotations

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import ConfigurationError, check_integer, explain


def calibration_samples(split: Split, num_samples: int = 200, seed: int = 0) -> np.ndarray:
    """A seeded choice of training images in which each class has its share.

    Only the chosen images are decoded. Examples without a label (-1) count as one more class.

    Returns:
        float32 `[n, *example_shape]`, scaled as the model gets them, n = `num_samples` or, where the split has
        fewer, all of it.

    Raises:
        ConfigurationError: the test split (its images would leak into the model that they are to judge), or a
            number out of range.
    """
    if split.name == "test":
        raise ConfigurationError(
            explain(
                "Calibration images must not come from the test split.",
                received="the split 'test'",
                expected="training images",
                fix="Pass source.train.",
            )
        )
    num_samples = min(check_integer("num_samples", num_samples, at_least=1), split.num_examples)
    rows = stratified_choice(split.labels(), num_samples, check_seed(seed))
    return split.subset(rows, f"{split.name}_calibration").arrays()[0]
