"""Data sets, their splits, and batches for training, calibration and evaluation."""

from keras_kd.data.augmentation import Augmentation, Custom, GaussianNoise, Mixing, TimeShift
from keras_kd.data.batches import evaluation_batches, steps_per_epoch
from keras_kd.data.calibration import calibration_samples
from keras_kd.data.images import ColorJitter, Cutout, Flip, PadAndCrop, ResizedCrop
from keras_kd.data.labels import few_labels, mark_unlabeled
from keras_kd.data.mixing import CutMix, Mixup
from keras_kd.data.pairs.joining import pair
from keras_kd.data.pairs.sides import Only
from keras_kd.data.pipeline import Pipeline, epoch_order
from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.data.sources.opening import open_source
from keras_kd.data.splits import DataSource, Split
from keras_kd.tasks import UNLABELED

__all__ = [
    "Augmentation",
    "ColorJitter",
    "Custom",
    "CutMix",
    "Cutout",
    "DataSource",
    "Flip",
    "GaussianNoise",
    "Mixing",
    "Mixup",
    "Only",
    "PadAndCrop",
    "Pipeline",
    "PipelineInputs",
    "ResizedCrop",
    "Split",
    "TimeShift",
    "UNLABELED",
    "calibration_samples",
    "epoch_order",
    "evaluation_batches",
    "few_labels",
    "mark_unlabeled",
    "open_source",
    "pair",
    "steps_per_epoch",
]
