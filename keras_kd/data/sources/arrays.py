"""Data sets in `.npz` files, for every task."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import tasks
from keras_kd.data.checks import refuse_image_size
from keras_kd.data.sources.contents import check_pixel_range
from keras_kd.data.sources.npz import NPZ_FORMS, Header, load, read_headers
from keras_kd.data.sources.records import ArrayRecords, Records, Scaling
from keras_kd.data.splits import Opened
from keras_kd.data.stratify import complete_splits
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Inputs, Task
from keras_kd.tasks.labels import check_class_numbers

_PARTS = {"train": "train", "validation": "val", "test": "test"}


def open_npz(
    path: Path,
    fractions: Mapping[str, float | None],
    image_size: Any,
    value_range: tuple[float, float],
    seed: int,
    task: Task | None,
) -> Opened:
    """Opens the arrays of an .npz file; reads them once to detect damage, and caches them on first use.

    The dtype and shape of x alone determine its kind: uint8 `[n, H, W(, C)]` are images, scaled to `value_range`;
    floating-point numbers become float32 without scaling; other integers `[n, t]` are token ids, int32.
    """
    refuse_image_size(image_size, f"npz:{path}")
    headers = read_headers(path)
    suffixes = _suffixes(path, headers)
    inputs = {name: _inputs(path, f"x{suffix}", headers) for name, suffix in suffixes.items()}
    stored = {name: _stored_labels(path, suffix, headers) for name, suffix in suffixes.items()}
    task, found = (task, None) if task is not None else _found(path, inputs["train"], stored)
    labels = {name: _labels(path, f"y{suffixes[name]}", values, task) for name, values in stored.items()}
    class_names = _class_names(path, headers, task, labels)
    parts = {name: _records(path, suffixes[name], inputs[name], labels[name], headers) for name in suffixes}
    _check_same_examples(path, parts)
    _check_pixels(path, headers, value_range)
    scaling = _scaling(inputs["train"], value_range)
    splits = complete_splits(parts, fractions, class_names, scaling, seed, task)
    return Opened(class_names, splits, tuple(sorted((k, h.checksum) for k, h in headers.items())), found)


def _suffixes(path: Path, headers: Mapping[str, Header]) -> dict[str, str]:
    """The suffix of the array names of each part; `train` is always present."""
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
                f"{path} does not contain the arrays of a data set.",
                received=f"the keys {', '.join(sorted(headers)) or '(none)'}",
                expected=NPZ_FORMS,
                fix=f"Add {', '.join(incomplete)}." if incomplete else None,
            )
        )
    return present


# Inputs.


def _inputs(path: Path, key: str, headers: Mapping[str, Header]) -> Inputs:
    x = Inputs(headers[key].shape, headers[key].dtype)
    if len(x.shape) < 2 or 0 in x.shape[1:]:
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} has an invalid shape.",
                received=f"shape {x.shape}",
                expected="[n, ...] with at least one number per example",
            )
        )
    if x.dtype == np.uint8 and len(x.shape) == 2:
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} is ambiguous: pixels or token ids.",
                received=f"uint8 of shape {x.shape}",
                expected="images [n, H, W] or [n, H, W, C]; int32 token ids [n, t]; or float32 numbers [n, d]",
                fix="Pixels: x.reshape(n, H, W). Token ids: x.astype(np.int32). Numbers: x.astype(np.float32).",
            )
        )
    if x.dtype != np.uint8 and x.dtype.kind != "f" and not x.are_token_ids:
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} has an unsupported dtype.",
                received=f"{x.dtype} of shape {x.shape}",
                expected="uint8 images (0..255); floating-point numbers, which are not scaled; or token ids, "
                "whole numbers [n, t]",
                fix="Convert it with .astype(np.uint8) or .astype(np.float32).",
            )
        )
    return x


def _scaling(inputs: Inputs, value_range: tuple[float, float]) -> Scaling:
    if inputs.are_token_ids:
        return Scaling.of_token_ids()
    return Scaling.to_range(255, value_range) if inputs.dtype == np.uint8 else Scaling()


def _records(path: Path, suffix: str, inputs: Inputs, labels: np.ndarray, headers: Mapping[str, Header]) -> Records:
    key = f"x{suffix}"
    if inputs.are_token_ids:
        _check_token_ids(path, key)
        dtype, shape = np.dtype(np.int32), inputs.shape[1:]
    else:
        is_greyscale = inputs.dtype == np.uint8 and len(inputs.shape) == 3
        dtype = inputs.dtype if inputs.dtype == np.uint8 else np.dtype(np.float32)
        shape = (*inputs.shape[1:], 1) if is_greyscale else inputs.shape[1:]
    load_examples = functools.partial(_load_examples, path, key, shape, dtype)
    names = _example_names(path, f"names{suffix}", len(labels)) if f"names{suffix}" in headers else None
    return ArrayRecords(load_examples, labels, shape=shape, dtype=dtype, names=names)


def _example_names(path: Path, key: str, num_examples: int) -> np.ndarray:
    names = load(path, key)
    if names.dtype.kind not in "Uiu" or names.shape != (num_examples,) or len(np.unique(names)) < num_examples:
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} does not name the examples.",
                received=f"{names.dtype} of shape {names.shape}, {len(np.unique(names))} different values",
                expected=f"{num_examples} different names or whole numbers, one for each example",
            )
        )
    return names.astype(str)


def _load_examples(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return load(path, key).reshape(-1, *shape).astype(dtype, copy=False)


def _check_token_ids(path: Path, key: str) -> None:
    ids = load(path, key)
    if ids.min() < 0 or ids.max() > np.iinfo(np.int32).max:
        raise ConfigurationError(
            explain(
                f"{key!r} in {path} has integers that are not token ids.",
                received=f"{ids.min()} to {ids.max()}",
                expected="0 to 2^31 - 1",
                fix="If these are numbers rather than ids, store x.astype(np.float32).",
            )
        )


def _check_pixels(path: Path, headers: Mapping[str, Header], value_range: tuple[float, float]) -> None:
    """Checks the range of floating-point images, `[n, H, W]` or more axes; tables have no expected range."""
    for key, header in headers.items():
        if key.startswith("x") and header.dtype.kind == "f" and len(header.shape) > 2:
            check_pixel_range(f"{key!r} in {path}", header.lowest, header.highest, value_range)


def _check_same_examples(path: Path, parts: Mapping[str, Records]) -> None:
    kinds = {name: (part.shape, str(part.dtype), part.labels.shape[1:]) for name, part in parts.items()}
    if len(set(kinds.values())) > 1:
        raise ConfigurationError(
            explain(
                f"The splits in {path} have different shapes or dtypes.",
                received=", ".join(f"{name}: x {x} {dtype}, y {y}" for name, (x, dtype, y) in kinds.items()),
                expected="one shape and one dtype",
            )
        )


# Labels.


def _stored_labels(path: Path, suffix: str, headers: Mapping[str, Header]) -> np.ndarray:
    labels, num_examples = load(path, f"y{suffix}"), headers[f"x{suffix}"].shape[0]
    is_matched = labels.ndim > 0 and len(labels) == num_examples
    if not is_matched or num_examples == 0:
        problem = "are empty" if is_matched else "have different numbers of examples"
        raise ConfigurationError(
            explain(
                f"'x{suffix}' and 'y{suffix}' in {path} {problem}.",
                received=f"shapes {headers[f'x{suffix}'].shape} and {labels.shape}",
                expected="one label per example, and at least one example",
            )
        )
    return labels


def _found(path: Path, inputs: Inputs, stored: Mapping[str, np.ndarray]) -> tuple[Task, str]:
    """Infers the task from the labels of all parts together, because a small part may look like another task."""
    shapes = {labels.shape[1:] for labels in stored.values()}
    together = np.concatenate(list(stored.values())) if len(shapes) == 1 else stored["train"]
    shape = (len(together), *inputs.shape[1:])
    try:
        return tasks.find(Inputs(shape, inputs.dtype), together)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _labels(path: Path, key: str, stored: np.ndarray, task: Task) -> np.ndarray:
    labels = task.read(stored, what=f"{key!r} in {path}")
    if not task.unlabeled_in_files:
        check_class_numbers(f"{key!r} in {path}", labels, missing=False)
    if not task.has_label(labels).any():
        raise ConfigurationError(
            explain(f"{key!r} in {path} has no labels.", received="missing labels only", expected="at least one label")
        )
    return labels


def _class_names(
    path: Path, headers: Mapping[str, Header], task: Task, labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """The class names in the file, or "0", "1", ..."""
    num_outputs = max(task.num_outputs(part) for part in labels.values())
    names = _given_names(path) if "class_names" in headers else tuple(str(i) for i in range(num_outputs))
    is_exact = not task.has_classes  # an exclusive class may be missing from the labels
    if len(names) < max(num_outputs, 2 if task.has_classes else 1) or (is_exact and len(names) != num_outputs):
        wanted = "at least two classes, and one name per class if 'class_names' is present"
        raise ConfigurationError(
            explain(
                f"The labels in {path} do not match its classes.",
                received=f"labels up to {num_outputs - 1}" + f", {len(names)} class names" * ("class_names" in headers),
                expected=f"{num_outputs} names, one per output" if is_exact else wanted,
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
                expected="text, such as np.array(['ant', 'bee'])",
                fix="Convert bytes with names.astype(str).",
            )
        )
    return tuple(str(name) for name in names.ravel())
