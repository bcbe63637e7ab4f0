"""Infers the task of a data set from its arrays; ambiguous labels require the name of the task."""

from __future__ import annotations

import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks.base import Inputs, Task, registry


def find(inputs: Inputs, labels: np.ndarray) -> tuple[Task, str]:
    """The only task that the arrays fit, and why.

    Args:
        inputs: shape and dtype of x.
        labels: y, as it is stored.

    Raises:
        ConfigurationError: no task fits, or more than one does.

    >>> task, reason = find(Inputs((4, 8, 8, 1), np.dtype("uint8")), np.array([0, 2, 1, 0]))
    >>> task.name, reason
    ('classification', 'one class number per example')
    """
    found = {member: reason for member in registry.members if (reason := member.found_in(inputs, labels)) is not None}
    if len(found) == 1:
        member, reason = found.popitem()
        return member(), reason
    received = f"x {inputs.shape} of {inputs.dtype}, y {labels.shape} of {labels.dtype}"
    if not found:
        raise ConfigurationError(
            explain(
                "No task fits these labels.",
                received=received,
                expected="class numbers [n], one-hot or multi-hot rows [n, C], floating point targets [n] or [n, d], "
                "masks of class numbers [n, height, width], or a class number for each token id [n, t]",
            )
        )
    choices = ", ".join(f"{member().name} ({reason})" for member, reason in found.items())
    raise ConfigurationError(
        explain(
            "These labels fit more than one task.",
            received=received,
            expected=f"the task by name: {choices}",
            fix="Set `task:` in the `data` section of the recipe, or open_source(..., task=...).",
        )
    )
