"""Scikit-learn's digits, in one fixed split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd.data.checks import refuse_image_size
from keras_kd.data.sources.records import ArrayRecords, Scaling
from keras_kd.data.splits import Opened, Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import ConfigurationError, explain

DIGITS_SEED = 1797
DIGITS_COUNTS = {"test": 360, "validation": 359}
_DIGITS_MAX = 16


def open_digits(fractions: Mapping[str, Any], image_size: Any, value_range: tuple[float, float]) -> Opened:
    """The 1,797 digits of scikit-learn, in one fixed stratified split: 1,078 / 359 / 360."""
    from sklearn.datasets import load_digits

    refuse_image_size(image_size, "digits")
    given = {name: value for name, value in fractions.items() if value is not None}
    if given:
        raise ConfigurationError(
            explain(
                "The digits have one fixed split, so that results are comparable.",
                received=", ".join(f"{name}={value!r}" for name, value in given.items()),
                expected="no 'train', 'validation' or 'test'",
            )
        )
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    records = ArrayRecords(lambda: images, digits.target, shape=images.shape[1:], dtype=images.dtype)
    whole = Split("digits", records, Scaling.to_range(_DIGITS_MAX, value_range))
    rows = _digits_rows(whole.labels())
    names = tuple(str(name) for name in digits.target_names)
    return Opened(names, {n: whole.subset(r, n) for n, r in rows.items()}, (DIGITS_SEED, DIGITS_COUNTS))


def _digits_rows(labels: np.ndarray) -> dict[str, np.ndarray]:
    left, rows = np.arange(len(labels)), {}
    for name, count in DIGITS_COUNTS.items():
        rows[name] = left[stratified_choice(labels[left], count, DIGITS_SEED)]
        left = np.setdiff1d(left, rows[name])
    return rows | {"train": left}
