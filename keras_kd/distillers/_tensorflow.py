"""The training step on the TensorFlow backend: the one place where the Distiller meets gradients and replicas."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_kd.distillers import objective
from keras_kd.distillers.unlabelled import Unlabelled
from keras_kd.features import ModelOutputs


def train_step(distiller: Any, batch: Any) -> dict[str, Any]:
    """One step of the student; returns the logs.

    The teacher runs before the tape starts, the student once inside it.
    """
    optimizer = distiller.optimizer
    targets = distiller.teach(batch)
    unlabelled = distiller.unlabelled(batch)
    with tf.GradientTape() as tape:
        outputs, loss, parts = _forward(distiller, batch, targets, unlabelled)
        scaled = optimizer.scale_loss(loss)
    variables = distiller.trainable_variables  # a student that builds itself on the first batch has them only now
    if variables:
        optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
    alpha = parts.pop("alpha")
    logs = {}
    if batch.y is not None:
        weights = unlabelled.metric_weights(batch.sample_weight)
        logs = distiller.compute_metrics(batch.x, batch.y, outputs, sample_weight=weights)
    # a loss that was divided among replicas counts whole in the logs
    values = {name: value * _num_replicas() for name, value in {"loss": loss, **parts}.items()}
    size = ops.cast(ops.shape(keras.tree.flatten(batch.x)[0])[0], "float32")
    sizes = {"student_loss": size * unlabelled.loss_share()}
    for name, value in values.items():
        logs |= distiller.trackers.update({name: value}, sizes.get(name, size))
    return logs | {"alpha": alpha}


def _forward(
    distiller: Any, batch: Any, targets: ModelOutputs, unlabelled: Unlabelled
) -> tuple[Any, Any, dict[str, Any]]:
    """The student's outputs, the loss, and its parts by name."""
    outputs, said = distiller.study(batch.x)
    step = distiller.optimizer.iterations
    alpha, temperature = distiller.hyperparameters_at(step)
    terms, distillation, stand_in = _distillation(
        distiller.terms,
        targets,
        said,
        labels=unlabelled.labels_for_terms(batch.y),
        sample_weight=batch.sample_weight,
        step=step,
        temperature=temperature,
        unlabelled=unlabelled,
    )
    if batch.y is None:
        stand_in = distillation
    supervised = distiller.supervised_loss(batch, outputs, unlabelled)
    regularization = sum((tf.reduce_sum(tf.cast(loss, "float32")) for loss in distiller.losses), start=0.0)
    loss = objective.combine(
        0.0 if supervised is None else supervised, distillation, regularization / _num_replicas(), alpha, stand_in
    )
    parts = {"distillation_loss": distillation, **terms, "alpha": alpha}
    return outputs, loss, parts if supervised is None else {"student_loss": supervised, **parts}


def _distillation(*models: Any, unlabelled: Unlabelled, **about: Any) -> tuple[dict[str, Any], Any, Any]:
    """The terms, their sum, and what the examples without a label have in it, from one computation."""
    if not unlabelled:
        terms = objective.distillation_terms(*models, **about)
        return terms, objective.total(terms), 0.0
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        extra = tf.zeros(())
        tape.watch(extra)
        terms = objective.distillation_terms(*models, **about, unlabelled=unlabelled, extra=extra)
        total = objective.total(terms)
    return terms, total, tape.gradient(total, extra, unconnected_gradients="zero")


def _num_replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync
