"""Few-label splits: most examples lose their label, as when only some of them were ever annotated."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data.checks import check_seed
from keras_kd.data.splits import Split
from keras_kd.data.stratify import stratified_choice
from keras_kd.errors import check_integer


def few_labels(split: Split, num_labelled: int, seed: int) -> tuple[Split, Split]:
    """Keeps the labels of a stratified choice of `num_labelled` examples.

    Returns:
        The labelled examples alone; and the whole split in which the labels of all others are missing, as the split's
        task marks them: -1, to be used with `keras.losses.SparseCategoricalCrossentropy(from_logits=True,
        ignore_class=-1)`, or NaN.

    Raises:
        ConfigurationError: fewer labels than classes, or more than examples.
    """
    labels, task = split.labels(), split.task
    known = np.flatnonzero(task.has_label(labels))
    num_groups = len(np.unique(task.strata(labels)[known]))
    num_labelled = check_integer("num_labelled", num_labelled, at_least=max(num_groups, 1), at_most=len(known))
    keep = known[stratified_choice(task.strata(labels)[known], num_labelled, check_seed(seed))]
    return split.subset(keep, f"{split.name}_labelled"), mark_unlabelled(split, keep)


def mark_unlabelled(split: Split, keep: Any) -> Split:
    """The whole split, in which only the examples at `keep` (indices) have labels: the others lose theirs."""
    labels = split.task.unlabelled(split.labels())
    keep = np.asarray(keep)
    labels[keep] = split.labels()[keep]
    return split.relabelled(labels, f"{split.name}_few_labels")
