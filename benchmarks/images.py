"""Shared by the benchmarks on images: reading a data set, the accuracy on its test images, and keeping a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np


class Images(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def read(folder: Path, file: str) -> dict[str, np.ndarray]:
    """The arrays `x_train`, `y_train`, `x_test` and `y_test` that the function `load` of `folder/load.py` returns."""
    specification = importlib.util.spec_from_file_location("load", folder / "load.py")
    reader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(reader)
    return reader.load(file)


def halve(images: np.ndarray) -> np.ndarray:
    """2x2 average pooling of `[n, height, width(, channels)]` bytes to float32 with a channel axis."""
    x = images.reshape(*images.shape[:3], -1)
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).mean((2, 4), dtype="float32")


def plain(images: np.ndarray) -> np.ndarray:
    """Images as they are, as float32 with a channel axis."""
    return images.reshape(*images.shape[:3], -1).astype("float32")


def standardized(folder: Path, file: str, num_images: int | None = None, prepare: Any = halve) -> Images:
    """The first images of a data set, with mean 0 and standard deviation 1 over all its training images."""
    arrays = read(folder, file)
    x, x_test = (prepare(arrays[name]) for name in ("x_train", "x_test"))
    mean, deviation = x.mean(), x.std()
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    y, y_test = (arrays[name].astype("int64").reshape(-1) for name in ("y_train", "y_test"))
    return Images(x[:num_images], y[:num_images], x_test, y_test)


def accuracy(model: keras.Model, images: Images) -> float:
    predicted = model.predict(images.x_test, batch_size=500, verbose=0).argmax(-1)
    return float((predicted == images.y_test).mean())


def save(model: keras.Model, path: Path) -> None:
    """Saves a model so that its file is complete or absent."""
    draft = path.with_name(f"saving-{path.name}")
    model.save(draft)
    draft.replace(path)
