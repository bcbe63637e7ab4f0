"""Synthesized images as a split of data, and those of them that a report shows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import tasks
from keras_kd.data.sources.records import ArrayRecords
from keras_kd.data.splits import Split
from keras_kd.evaluation.comparison import Predictions, SynthesizedImage, SynthesizedImages
from keras_kd.evaluation.plots import as_png, is_image, shown_range, to_pixels

NAME = "synthesized images"
NUM_SHOWN = 24


def read_synthesized(file: Path, task: tasks.Task) -> Split:
    """The images `[n, height, width, channels]` of an `.npz` file, with the classes `[n]` that they are for."""
    with np.load(file) as arrays:
        images, classes = arrays["images"], arrays["classes"]
    records = ArrayRecords(lambda: images, classes, shape=images.shape[1:], dtype=images.dtype)
    return Split(NAME, records, task=task)


def sheet(
    predicted: Predictions, split: Split, value_range: tuple[float, float], *, count: int
) -> SynthesizedImages | None:
    """Some of the images with the classes that the teacher predicts; None if they cannot be drawn.

    Args:
        predicted: by the teacher, for the images of this split.
        split: of `images_to_show`.
        value_range: the values of black and white in the models' inputs.
        count: the number of all images.
    """
    if not is_image(split.example_shape):
        return None
    images, _ = split.arrays()
    shown = shown_range(images, value_range)
    made = [
        SynthesizedImage(int(number), float(confidence), as_png(to_pixels(image, shown)))
        for number, confidence, image in zip(predicted.classes, predicted.confidences, images, strict=True)
    ]
    return SynthesizedImages(made, count, list(shown))


def images_to_show(split: Split) -> Split:
    """The images to show: evenly spaced ones, at most `NUM_SHOWN`."""
    chosen = np.unique(np.linspace(0, split.num_examples - 1, min(NUM_SHOWN, split.num_examples)).astype(int))
    return split.subset(chosen, "shown images")


def as_field(made: SynthesizedImages | None) -> dict[str, Any]:
    """The field `synthesized` of a report."""
    return {} if made is None else {"synthesized": asdict(made)}
