"""The examples from which post-training quantization learns the ranges of the activations."""

from __future__ import annotations

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import ConfigurationError, check_integer, explain


def calibration_samples(split: Split, num_samples: int = 200, seed: int = 0) -> np.ndarray:
    """A seeded choice of training examples in which each class, or other stratum of the task, has its share.

    Only the chosen images are decoded. Examples without a label count as one more class.

    Returns:
        `[n, *example_shape]` as the model gets them: float32, or int32 token ids; n = `num_samples`, or the size of
        the split where that is smaller.

    Raises:
        ConfigurationError: the test split, whose examples would leak into the model that they evaluate, or a number out
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
