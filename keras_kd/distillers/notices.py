"""What a distiller does on the user's behalf, said once."""

from __future__ import annotations

import warnings
from typing import Any

from keras_kd.errors import Notice
from keras_kd.features import Head
from keras_kd.losses import DistillationLoss
from keras_kd.teachers import Teacher


def say_where_logits_come_from(teacher: Teacher, heads: dict[str, Head], stacklevel: int) -> None:
    """Names the last activations before which logits are read."""
    student = {name: head.activation for name, head in heads.items()}
    ends = [
        f"the {role}'s {name!r} ends in {activation}"
        for role, activations in (("teacher", teacher.activations), ("student", student))
        for name, activation in activations.items()
        if activation != "linear"
    ]
    if ends:
        _say("Distillation works on logits, read from before the last activation: " + ", ".join(ends) + ".", stacklevel)


def say_what_was_projected(terms: list[DistillationLoss], stacklevel: int) -> None:
    """Names the projectors that were picked."""
    picked = [f"{term.name}: {term.projection}" for term in terms if term.projection]
    if picked:
        _say("Projectors from the student's features to the teacher's shape: " + "; ".join(picked) + ".", stacklevel)


def _say(message: str, stacklevel: Any) -> None:
    warnings.warn(message, Notice, stacklevel=stacklevel + 2)
