"""One class per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_kd.tasks import measures
from keras_kd.tasks.base import Inputs, registry
from keras_kd.tasks.measures import Measure
from keras_kd.tasks.members.positions import PositionTask


@registry.register
@dataclass(frozen=True)
class Segmentation(PositionTask):
    """One class per pixel. Labels: masks of class numbers `[n, H, W]`, -1 (or `ignore_class`) for an unlabeled pixel.
    A model ends in logits `[n, H, W, C]`, or in their softmax.

    Args:
        ignore_class: the class number that the stored masks give to unlabeled pixels, such as 255.

    >>> mask = np.array([[[0, 1], [255, 1]]])
    >>> outputs = np.eye(2)[[[[0, 1], [0, 0]]]]
    >>> Segmentation(ignore_class=255).measure(outputs, mask)["pixel_accuracy"].__round__(3)
    0.667
    """

    measures = (
        Measure("mean_iou", "Mean IoU", measures.mean_iou, "mIoU", is_share=True),
        Measure("pixel_accuracy", "Pixel accuracy", measures.accuracy, "Pixels", is_share=True),
    )
    unit, position_unit = "images", "pixels"
    num_axes = 3

    @classmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        is_mask = labels.dtype.kind in "biu" and (labels.ndim == 3 or (labels.ndim == 4 and labels.shape[-1] == 1))
        return "masks of class numbers" if is_mask else None
