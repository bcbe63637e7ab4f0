"""Sources that lie in memory: scikit-learn's digits, and arrays in an .npz file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data.checks import refuse_image_size
from keras_kd.data.sources.contents import check_labels, check_pixel_range
from keras_kd.data.sources.npz import NPZ_FORMS, Header, load, read_headers
from keras_kd.data.splits import ArrayRecords, Opened, Records, Scaling, Split
from keras_kd.data.stratify import complete_splits, stratified_choice
from keras_kd.errors import ConfigurationError, explain

DIGITS_SEED = 1797
DIGITS_COUNTS = {"test": 360, "validation": 359}
_DIGITS_MAX = 16

_PARTS = {"train": "train", "validation": "val", "test": "test"}


def open_digits(fractions: Mapping[str, Any], image_size: Any, value_range: tuple[float, float]) -> Opened:
    """The 1,797 digits of scikit-learn, in one fixed stratified split: 1,078 / 359 / 360."""
    from sklearn.datasets import load_digits

    refuse_image_size(image_size, "digits")
    given = {name: value for name, value in fractions.items() if value is not None}
    if given:
        raise ConfigurationError(
            explain(
                "The digits come in one fixed split, so that all results on them compare.",
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


def open_npz(
    path: Path,
    fractions: Mapping[str, float | None],
    image_size: Any,
    value_range: tuple[float, float],
    seed: int,
) -> Opened:
    """Arrays from an .npz file; they are read once to find damage, and kept on first use."""
    refuse_image_size(image_size, f"npz:{path}")
    headers = read_headers(path)
    parts = _npz_parts(path, headers)
    class_names = _npz_class_names(path, headers, parts)
    _check_same_examples(path, parts)
    _check_pixels(path, headers, value_range)
    dtype = parts["train"].dtype
    scaling = Scaling.to_range(255, value_range) if dtype == np.uint8 else Scaling()
    splits = complete_splits(parts, fractions, class_names, scaling, seed)
    return Opened(class_names, splits, tuple(sorted((k, h.checksum) for k, h in headers.items())))


def _npz_parts(path: Path, headers: Mapping[str, Header]) -> dict[str, Records]:
    if {"x_train", "y_train"} <= set(headers):
        suffixes = {name: f"_{suffix}" for name, suffix in _PARTS.items()}
    elif {"x", "y"} <= set(headers):
        suffixes = {"train": ""}
    else:
        suffixes = {}
    present = {n: s for n, s in suffixes.items() if f"x{s}" in headers or f"y{s}" in headers}
    incomplete = [k for s in present.values() for k in (f"x{s}", f"y{s}") if k not in headers]
    if incomplete or not present:
        raise ConfigurationError(
            explain(
                f"{path} does not hold the arrays of a data set.",
                received=f"the keys {', '.join(sorted(headers)) or '(none)'}",
                expected=NPZ_FORMS,
                fix=f"Add {', '.join(incomplete)}." if incomplete else None,
            )
        )
    return {name: _npz_records(path, headers, suffix) for name, suffix in present.items()}


def _npz_records(path: Path, headers: Mapping[str, Header], suffix: str) -> Records:
    x_key, y_key = f"x{suffix}", f"y{suffix}"
    x = headers[x_key]
    labels = _npz_labels(path, y_key)
    if not x.shape or x.shape[0] != len(labels) or x.shape[0] == 0:
        raise ConfigurationError(
            explain(
                f"{x_key!r} and {y_key!r} in {path} do not belong together.",
                received=f"shapes {x.shape} and {labels.shape}",
                expected="as many labels as examples, at least one",
            )
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ConfigurationError(
            explain(
                f"{x_key!r} in {path} has a dtype that says nothing about its range.",
                received=str(x.dtype),
                expected="uint8 images (0..255), or floating point numbers, which are taken as they are",
                fix="Convert it with .astype(np.uint8) or .astype(np.float32).",
            )
        )
    if len(x.shape) < 2 or 0 in x.shape:
        raise ConfigurationError(
            explain(
                f"{x_key!r} in {path} does not hold examples.",
                received=f"shape {x.shape}",
                expected="[n, ...] with at least one number an example",
            )
        )
    greyscale = x.dtype == np.uint8 and len(x.shape) == 3
    shape = (*x.shape[1:], 1) if greyscale else x.shape[1:]
    load = functools.partial(_load_examples, path, x_key, shape)
    return ArrayRecords(load, labels, shape=shape, dtype=x.dtype if x.dtype == np.uint8 else np.float32)


def _load_examples(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    stored = load(path, key).reshape(-1, *shape)
    return stored if stored.dtype == np.uint8 else stored.astype(np.float32)


def _npz_labels(path: Path, key: str) -> np.ndarray:
    labels = load(path, key)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} does not hold labels.",
                received=f"shape {labels.shape}, dtype {labels.dtype}",
                expected="one integer label an example, 0..C-1, shape [n] or [n, 1]",
                fix="Turn one-hot rows into labels with y.argmax(-1).",
            )
        )
    check_labels(f"{key!r} in {path}", labels)
    return labels.astype(np.int64)


def _npz_class_names(path: Path, headers: Mapping[str, Header], parts: Mapping[str, Records]) -> tuple[str, ...]:
    """The names in the file, or "0", "1", ..."""
    num_classes = 1 + max(int(part.labels.max()) for part in parts.values())
    names = tuple(str(i) for i in range(num_classes))
    if "class_names" in headers:
        names = _given_names(path)
    if len(names) < max(num_classes, 2):
        raise ConfigurationError(
            explain(
                f"The labels in {path} do not fit its classes.",
                received=f"labels up to {num_classes - 1}, {len(names)} class name(s)",
                expected="at least two classes, and a name for each label where there are 'class_names'",
            )
        )
    return names


def _given_names(path: Path) -> tuple[str, ...]:
    names = load(path, "class_names")
    if names.dtype.kind not in "Uiu":
        raise ConfigurationError(
            explain(
                f"'class_names' in {path} are not text.",
                received=f"dtype {names.dtype}",
                expected="text, as np.array(['ant', 'bee'])",
                fix="Bytes become text with names.astype(str).",
            )
        )
    return tuple(str(name) for name in names.ravel())


def _check_pixels(path: Path, headers: Mapping[str, Header], value_range: tuple[float, float]) -> None:
    """Of floating point images, `[n, H, W]` or more axes: what the range of a table's columns is says nothing."""
    for key, header in headers.items():
        if key.startswith("x") and header.dtype.kind == "f" and len(header.shape) > 2:
            check_pixel_range(f"{key!r} in {path}", header.lowest, header.highest, value_range)


def _check_same_examples(path: Path, parts: Mapping[str, Records]) -> None:
    kinds = {name: (part.shape, str(part.dtype)) for name, part in parts.items()}
    if len(set(kinds.values())) > 1:
        raise ConfigurationError(
            explain(
                f"The parts of {path} hold different kinds of examples.",
                received=", ".join(f"{name}: {shape} {dtype}" for name, (shape, dtype) in kinds.items()),
                expected="one shape and one dtype",
            )
        )
