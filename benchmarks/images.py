"""Shared by the benchmarks on images: reading a data set, and the accuracy on its test images."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

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


def accuracy(model: keras.Model, images: Images) -> float:
    predicted = model.predict(images.x_test, batch_size=500, verbose=0).argmax(-1)
    return float((predicted == images.y_test).mean())
