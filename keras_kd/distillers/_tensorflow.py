"""The training step on the TensorFlow backend: gradient, loss scale, update and replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


class TrainingStep:
    """The methods of a `Distiller` that Keras calls on TensorFlow."""

    def attach_state(self, iterator: Any) -> None:
        """Does nothing: on TensorFlow, the variables always hold their values."""

    @staticmethod
    def input_gradient(function: Callable[[Any], Any], x: Any) -> Any:
        """The gradient of a scalar function at `x`, a tensor of the same shape; None if it does not depend on it."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x)

    @staticmethod
    def compiled(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
        """A compiled function of tensors that reads `variables`."""
        return tf.function(function)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step and returns the logs. Teacher and attack run outside the tape, the student inside it."""
        optimizer = self.optimizer
        batch = self.prepare_batch(data)
        batch, targets = self.attack(batch, self.teach(batch), step=optimizer.iterations)
        with tf.GradientTape() as tape:
            parts = self.loss_and_parts(batch, targets, step=optimizer.iterations)
            scaled = optimizer.scale_loss(parts.loss)
        variables = self.trainable_variables  # read here, since a student may be built on the first batch
        if variables:
            optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        self.after_update()
        return self.update_logs(batch, parts, num_replicas=tf.distribute.get_strategy().num_replicas_in_sync)
