"""Few-label splits: most examples lose their label, as when only some of the images were ever annotated."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import UNLABELLED, Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import check_integer


def few_labels(split: Split, num_labelled: int, seed: int) -> tuple[Split, Split]:
    """Keeps the labels of a stratified choice of `num_labelled` examples.

    Returns:
        The labelled examples alone, and the whole split in which all the others have the label -1, to be used
        with `keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)`.

    Raises:
        ConfigurationError: fewer labels than classes, or more than examples.
    """
    labels = split.labels()
    num_classes = len(np.unique(labels[labels != UNLABELLED]))
    num_known = int((labels != UNLABELLED).sum())
    num_labelled = check_integer("num_labelled", num_labelled, at_least=max(num_classes, 1), at_most=num_known)
    known = np.flatnonzero(labels != UNLABELLED)
    keep = known[stratified_choice(labels[known], num_labelled, check_seed(seed))]
    return split.subset(keep, f"{split.name}_labelled"), mark_unlabelled(split, keep)


def mark_unlabelled(split: Split, keep: Any) -> Split:
    """The whole split, in which only the examples at `keep` (indices) have a label and all others have -1."""
    labels = np.full(split.num_examples, UNLABELLED, np.int64)
    keep = np.asarray(keep)
    labels[keep] = split.labels()[keep]
    return split.relabelled(labels, f"{split.name}_few_labels")
