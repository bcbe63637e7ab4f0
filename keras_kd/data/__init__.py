"""Data sets, their splits, and the batches that training, calibration and evaluation read."""

from keras_kd.data.calibration import calibration_samples
from keras_kd.data.labels import few_labels, mark_unlabelled
from keras_kd.data.pipeline import batches, epoch_order, evaluation_batches, steps_per_epoch
from keras_kd.data.sources import open_source
from keras_kd.data.splits import UNLABELLED, DataSource, Split

__all__ = [
    "DataSource",
    "Split",
    "UNLABELLED",
    "batches",
    "calibration_samples",
    "epoch_order",
    "evaluation_batches",
    "few_labels",
    "mark_unlabelled",
    "open_source",
    "steps_per_epoch",
]
