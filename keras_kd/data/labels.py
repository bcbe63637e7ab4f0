"""Few-label splits: removes most labels, to simulate a data set that is only partly annotated."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import check_integer


def few_labels(split: Split, num_labeled: int, seed: int) -> tuple[Split, Split]:
    """Keeps the labels of a stratified sample of `num_labeled` examples.

    Returns:
        The labeled examples alone, and the whole split with all other labels marked as missing in the way of the
        split's task: -1, for use with `keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)`,
        or NaN.

    Raises:
        ConfigurationError: fewer labels than classes, or more than examples.
    """
    labels, task = split.labels(), split.task
    known = np.flatnonzero(task.has_label(labels))
    num_groups = len(np.unique(task.strata(labels)[known]))
    num_labeled = check_integer("num_labeled", num_labeled, at_least=max(num_groups, 1), at_most=len(known))
    keep = known[stratified_choice(task.strata(labels)[known], num_labeled, check_seed(seed))]
    return split.subset(keep, f"{split.name}_labeled"), mark_unlabeled(split, keep)


def mark_unlabeled(split: Split, keep: Any) -> Split:
    """The whole split with labels only for the examples at the indices `keep`; all other labels are removed."""
    labels = split.task.unlabeled(split.labels())
    keep = np.asarray(keep)
    labels[keep] = split.labels()[keep]
    return split.relabeled(labels, f"{split.name}_few_labels")
