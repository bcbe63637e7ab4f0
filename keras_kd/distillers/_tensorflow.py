"""The training step on the TensorFlow backend: the one place where the Distiller meets gradients and replicas."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.distillers import objective


def train_step(distiller: Any, batch: Any) -> dict[str, Any]:
    """One step of the student; returns the logs.

    The teacher runs before the tape starts, the student once inside it.
    """
    optimizer = distiller.optimizer
    targets = distiller.teach(batch)
    with tf.GradientTape() as tape:
        outputs, loss, parts = _forward(distiller, batch, targets)
        scaled = optimizer.scale_loss(loss)
    variables = distiller.trainable_variables  # a student that builds itself on the first batch has them only now
    if variables:
        optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
    alpha = parts.pop("alpha")
    logs = {}
    if batch.y is not None:
        logs = distiller.compute_metrics(batch.x, batch.y, outputs, sample_weight=batch.sample_weight)
    # a loss that was divided among replicas counts whole in the logs
    values = {name: value * _num_replicas() for name, value in {"loss": loss, **parts}.items()}
    size = ops.shape(keras.tree.flatten(batch.x)[0])[0]
    return logs | distiller.trackers.update(values, size) | {"alpha": alpha}


def _forward(distiller: Any, batch: Any, targets: objective.Said) -> tuple[Any, Any, dict[str, Any]]:
    """The student's outputs, the loss, and its parts by name."""
    outputs, said = distiller.study(batch.x)
    step = distiller.optimizer.iterations
    alpha, temperature = distiller.hyperparameters_at(step)
    terms = objective.distillation_terms(
        distiller.terms,
        targets,
        said,
        labels=batch.y,
        sample_weight=batch.sample_weight,
        step=step,
        temperature=temperature,
    )
    distillation = objective.total(terms)
    supervised = distiller.supervised_loss(batch, outputs)
    regularization = sum((tf.reduce_sum(tf.cast(loss, "float32")) for loss in distiller.losses), start=0.0)
    loss = objective.combine(
        0.0 if supervised is None else supervised, distillation, regularization / _num_replicas(), alpha
    )
    parts = {"distillation_loss": distillation, **terms, "alpha": alpha}
    return outputs, loss, parts if supervised is None else {"student_loss": supervised, **parts}


def _num_replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync
