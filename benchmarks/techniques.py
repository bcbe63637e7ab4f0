"""The techniques of `compression_techniques.py`, with keras_kd and with TFMOT on the tf_keras twin of a student.

Each takes the trained float student, fine-tunes it, and leaves a file: float32, or int8 for the quantized ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_kd as kd
from keras_kd import compression
from keras_kd.compression.tfmot.importing import import_tf_keras

RAMP = 0.5  # of the fine-tuning, in which the sparsity rises
CLUSTERS = 16
Make = Callable[[int, keras.Model], compression.Transform]


@dataclasses.dataclass(frozen=True)
class Technique:
    """One or more transforms, one after the other, each with an equal share of the fine-tuning steps.

    Attributes:
        transforms: from the number of steps of its part and the model to each transform; none for the float student.
        format: of the file.
        tfmot: the name of the counterpart in `TFMOT`; None if it has none.
    """

    transforms: tuple[Make, ...] = ()
    format: str = "float32"
    tfmot: str | None = None


def pruning(sparsity: float, pattern: str = "unstructured") -> Make:
    """Sparsity that rises from 0, or a pattern from the first step on, which TFMOT's does whatever its schedule.

    Depthwise kernels stay dense, as TFMOT leaves them.
    """

    def make(steps: int, model: keras.Model) -> compression.Transform:
        ramp = max(1, int(RAMP * steps))
        skip = [layer.name for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
        rise = kd.schedules.Polynomial(0.0 if pattern == "unstructured" else sparsity, sparsity, steps=ramp)
        return compression.Pruning(rise, pattern=pattern, frequency=max(1, ramp // 20), skip=skip)

    return make


def clustering(steps: int, model: keras.Model) -> compression.Transform:
    return compression.Clustering(CLUSTERS)


def quantizing(steps: int, model: keras.Model) -> compression.Transform:
    return compression.QuantizationAware()


def channels(steps: int, model: keras.Model) -> compression.Transform:
    return compression.ChannelPruning(operations=0.5, multiple_of=8)


TECHNIQUES = {
    "float": Technique(tfmot="float"),
    "50% sparse": Technique((pruning(0.5),), tfmot="50% sparse"),
    "80% sparse": Technique((pruning(0.8),), tfmot="80% sparse"),
    "90% sparse": Technique((pruning(0.9),), tfmot="90% sparse"),
    "2:4 sparse": Technique((pruning(0.5, "2:4"),), tfmot="2:4 sparse"),
    "channels, 50% of operations": Technique((channels,)),
    "16 clusters": Technique((clustering,), tfmot="16 clusters"),
    "int8 after training": Technique(format="int8", tfmot=None),
    "int8 while training": Technique((quantizing,), format="int8", tfmot="int8 while training"),
    "80% sparse, 16 clusters, int8": Technique((pruning(0.8), clustering, quantizing), format="int8"),
}


@dataclasses.dataclass(frozen=True)
class TfmotTechnique:
    """A technique of TFMOT: how it wraps a tf_keras model, its callbacks, and how it unwraps it."""

    wrap: Callable[[Any, Any, int], Any]
    strip: Callable[[Any, Any], Any] | None
    updates_masks: bool = False


def _tfmot_pruning(sparsity: float, m_by_n: tuple[int, int] | None = None) -> TfmotTechnique:
    def wrap(tfmot, model, steps):
        ramp = max(1, int(RAMP * steps))
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, sparsity, 0, ramp, frequency=max(1, ramp // 20))
        settings = {} if m_by_n is None else {"sparsity_m_by_n": m_by_n}
        return tfmot.sparsity.keras.prune_low_magnitude(model, schedule, **settings)

    return TfmotTechnique(wrap, lambda tfmot, model: tfmot.sparsity.keras.strip_pruning(model), updates_masks=True)


def _tfmot_clustering(tfmot, model, steps):
    """With the mean of a cluster's gradients for its centroid: by their sum, the default, centroids diverge here."""
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_config import GradientAggregation

    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    mean = GradientAggregation.AVG
    return tfmot.clustering.keras.cluster_weights(model, CLUSTERS, start, cluster_gradient_aggregation=mean)


TFMOT = {
    "float": TfmotTechnique(lambda tfmot, model, steps: model, None),
    "50% sparse": _tfmot_pruning(0.5),
    "80% sparse": _tfmot_pruning(0.8),
    "90% sparse": _tfmot_pruning(0.9),
    "2:4 sparse": _tfmot_pruning(0.5, (2, 4)),
    "16 clusters": TfmotTechnique(
        _tfmot_clustering, lambda tfmot, model: tfmot.clustering.keras.strip_clustering(model)
    ),
    "int8 while training": TfmotTechnique(
        lambda tfmot, model, steps: tfmot.quantization.keras.quantize_model(model), None
    ),
}


def finetuned_with_tfmot(name: str, student: keras.Model, batches: Any, epochs: int, rate: float) -> Any:
    """The tf_keras twin of a student, trained with a technique of TFMOT on the same batches in the same order."""
    tfmot, tf_keras = compression.import_tfmot(), import_tf_keras()
    technique, steps = TFMOT[name], batches.steps_per_epoch * epochs
    model = technique.wrap(tfmot, compression.to_tf_keras(student), steps)
    schedule = tf_keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    callback = tfmot.sparsity.keras.UpdatePruningStep() if technique.updates_masks else None
    if callback is not None:
        callback.set_model(model)
        callback.on_train_begin()
    step = 0
    for epoch in range(epochs):
        for x, y in batches.epoch(epoch):
            if callback is not None:
                callback.on_train_batch_begin(step)
            model.train_on_batch(x, y)
            step += 1
        if callback is not None:
            callback.on_epoch_end(epoch)
    return model if technique.strip is None else technique.strip(tfmot, model)


def write_tf_keras(model: Any, path: Path, *, quantized: bool) -> None:
    """The file of a tf_keras model, int8 with the ranges of its fake quantization, or float32."""
    import tensorflow as tf

    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: model(x, training=False), input_signature=[signature]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    if quantized:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(converter.convert())


def zeros(model: Any) -> float:
    """The fraction of exact zeros among the kernels of a model of Keras 3 or tf_keras."""
    kernels = [np.asarray(weight) for weight in model.get_weights() if np.ndim(weight) >= 2]
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)
