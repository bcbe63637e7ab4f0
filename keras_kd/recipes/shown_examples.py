"""The test examples that a report shows: those with the softest targets, and those on which two models disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.data.splits import Split
from keras_kd.evaluation.comparison import Disagreements
from keras_kd.evaluation.plots import as_png, is_image, shown_range, softened, to_pixels


def soft_target_examples(logits: np.ndarray, split: Split, num_examples: int = 4) -> list[dict[str, Any]]:
    """Test examples of different classes on which the teacher's soft targets have the highest entropy."""
    soft = softened(logits, temperature=4.0)
    entropy = -np.sum(soft * np.log(soft + 1e-12), axis=-1)
    labels, chosen = split.labels(), []
    for index in np.argsort(-entropy):
        if labels[index] not in labels[chosen]:
            chosen.append(int(index))
        if len(chosen) == num_examples:
            break
    inputs = inputs_at(split, chosen)
    return [{"image": _scaled(inputs[i]), "label": int(labels[i]), "logits": logits[i].tolist()} for i in chosen]


def with_images(found: Disagreements, split: Split, value_range: tuple[float, float]) -> Disagreements | None:
    """The disagreements with their images; None if the examples are not images.

    Args:
        found: on this split.
        split: the test split.
        value_range: the values of black and white in the models' inputs.
    """
    if not is_image(split.example_shape) or split.scaling.dtype != "float32":
        return None
    if not found.examples:
        return found
    inputs = inputs_at(split, [example.index for example in found.examples])
    shown = shown_range(np.stack(list(inputs.values())), value_range)
    images = {index: as_png(to_pixels(image, shown)) for index, image in inputs.items()}
    examples = [dataclasses.replace(example, image=images[example.index]) for example in found.examples]
    return dataclasses.replace(found, examples=examples, shown_range=list(shown))


def inputs_at(split: Split, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """The model inputs of some examples by index; others are not read."""
    rows = sorted(indices)  # the order in which they are read, whatever the order of display
    inputs, _ = split.subset(np.array(rows), name="shown examples").arrays()
    return dict(zip(rows, inputs, strict=True))


def _scaled(image: np.ndarray) -> list:
    low, high = float(image.min()), float(image.max())
    return ((image - low) / max(high - low, 1e-12)).round(4).tolist()
