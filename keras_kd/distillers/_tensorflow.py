"""The training step on the TensorFlow backend: gradient, loss scale, update and replicas."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def train_step(distiller: Any, data: Any) -> dict[str, Any]:
    """Takes one step and returns the logs. The teacher runs before the tape starts, the student once inside it."""
    optimizer = distiller.optimizer
    batch = distiller.prepare_batch(data)
    targets = distiller.teach(batch)
    with tf.GradientTape() as tape:
        parts = distiller.loss_and_parts(batch, targets, step=optimizer.iterations)
        scaled = optimizer.scale_loss(parts.loss)
    variables = distiller.trainable_variables  # here, since a student may build itself in the first batch
    if variables:
        optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
    return distiller.update_logs(batch, parts, num_replicas=tf.distribute.get_strategy().num_replicas_in_sync)
