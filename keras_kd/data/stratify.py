"""Stratified sampling of rows, for splits, few-label runs and calibration samples.

Uses NumPy's `RandomState`, which NumPy guarantees never to change: the same seed gives the same rows on every machine
and with every later version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_kd.data.sources.records import Records, Scaling
from keras_kd.data.splits import Split
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Classification, Task

_CLASSES = Classification()

DEFAULT_FRACTION = 0.1
"""The part of the training examples that becomes a validation or test split where the source has none."""


def stratified_choice(labels: np.ndarray, num_rows: int, seed: int) -> np.ndarray:
    """`num_rows` rows, ascending, with each class in proportion to its frequency.

    If there are at least as many rows as classes, each class gets at least one.

    Args:
        labels: int64 `[n]`, `num_rows <= n`.

    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])
    >>> labels[stratified_choice(labels, 3, seed=0)].tolist()
    [0, 0, 1]
    """
    random = np.random.RandomState(seed)
    counts = np.unique(labels, return_counts=True)[1]
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    quotas = _quotas(counts, num_rows)
    chosen = [random.permutation(rows)[:quota] for rows, quota in zip(by_class, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))


def _quotas(counts: np.ndarray, total: int) -> np.ndarray:
    """The number of rows per class: its share rounded down, with the rest going to the largest remainders."""
    exact = counts * total / counts.sum()
    quotas = np.floor(exact).astype(np.int64)
    if total >= len(counts):
        quotas = np.maximum(quotas, 1)
    while quotas.sum() > total:
        quotas[np.argmax(quotas)] -= 1
    losers = np.argsort(quotas - exact, kind="stable")
    quotas[losers[: total - quotas.sum()]] += 1
    return quotas


def complete_splits(
    parts: Mapping[str, Records],
    fractions: Mapping[str, float | None],
    class_names: Sequence[str],
    scaling: Scaling,
    seed: int,
    task: Task = _CLASSES,
) -> dict[str, Split]:
    """The train, validation and test splits from the `parts` that exist; the missing ones are cut from `train`.

    Args:
        parts: `"train"`, and `"validation"` and `"test"` if the source has them.
        fractions: for the same three names, the fraction of the examples of part `train`, or None for the default.
        class_names: used in error messages.
        scaling: the conversion of examples to inputs.
        seed: the seed of the cut.
        task: the task that defines the labels; the cut is stratified by its strata.

    Raises:
        ConfigurationError: a fraction for a part that exists, inconsistent fractions, or a class with too few examples.
    """
    _refuse_fractions_of_own_parts(parts, fractions)
    whole = Split("train", parts["train"], scaling, task=task)
    rows = _cut(task.strata(whole.labels()), _wanted(parts, fractions), seed)
    for name, chosen in rows.items():
        _check_share(name, chosen, task.strata(whole.labels()), class_names, is_class=isinstance(task, Classification))
    cut = {name: whole.subset(chosen, name) for name, chosen in rows.items()}
    own = {name: Split(name, part, scaling, task=task) for name, part in parts.items() if name != "train"}
    return cut | own


def _refuse_fractions_of_own_parts(parts: Mapping[str, Records], fractions: Mapping[str, float | None]) -> None:
    for name in sorted(set(parts) - {"train"}):
        if fractions[name] is not None:
            raise ConfigurationError(
                explain(
                    f"The source has its own {name} split, which is used as a whole.",
                    received=f"{name}={fractions[name]!r}",
                    expected=f"no {name!r}",
                )
            )


def _wanted(parts: Mapping[str, Records], fractions: Mapping[str, float | None]) -> dict[str, float]:
    """The fraction of each split that is cut from the training part, `train` last."""
    wanted = {n: fractions[n] or DEFAULT_FRACTION for n in ("test", "validation") if n not in parts}
    rest = 1.0 - sum(wanted.values())
    train = rest if fractions["train"] is None else fractions["train"]
    if train <= 0 or train > rest + 1e-9:
        received = ", ".join(f"{name}={value:g}" for name, value in {**wanted, "train": train}.items())
        raise ConfigurationError(
            explain(
                "The fractions of the splits exceed the data.",
                received=received,
                expected="fractions that sum to at most 1 and leave examples for 'train'",
                fix=f"A missing 'validation' or 'test' counts as {DEFAULT_FRACTION:g}.",
            )
        )
    return wanted | {"train": train}


def _cut(labels: np.ndarray, wanted: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Disjoint, stratified rows for each name in `wanted`."""
    left = np.arange(len(labels))
    cut = {}
    for name, fraction in wanted.items():
        num_rows = min(round(fraction * len(labels)), len(left))
        cut[name] = left[stratified_choice(labels[left], num_rows, seed)]
        left = np.setdiff1d(left, cut[name])
    return cut


def _check_share(
    name: str, rows: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, is_class: bool
) -> None:
    """Raises `ConfigurationError` if the training split lacks a class or a split is empty."""
    missing = np.setdiff1d(labels, labels[rows])
    if rows.size and not (name == "train" and is_class and missing.size):
        return
    rare = f", {(labels == missing[0]).sum()} of them of class {class_names[missing[0]]!r}" if is_class else ""
    raise ConfigurationError(
        explain(
            f"Too few examples for a stratified {name!r} split.",
            received=f"{len(labels)} examples{rare}",
            expected="at least one example in each split, and one of each class in 'train'",
            fix="Add examples, or increase the fractions of the empty splits.",
        )
    )
