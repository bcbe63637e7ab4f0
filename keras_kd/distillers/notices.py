"""Notices about choices that a distiller makes for the user, shown once."""

from __future__ import annotations

import warnings
from typing import Any

from keras_kd.errors import Notice
from keras_kd.features import Head
from keras_kd.losses import DistillationLoss
from keras_kd.teachers import Teacher


def say_where_logits_come_from(teacher: Teacher, heads: dict[str, Head], stacklevel: int) -> None:
    """Lists the final activations whose inputs are taken as the logits."""
    student = {name: head.activation for name, head in heads.items()}
    ends = [
        f"the {role}'s {name!r} ends in {activation}"
        for role, activations in (("teacher", teacher.activations), ("student", student))
        for name, activation in activations.items()
        if activation != "linear"
    ]
    if ends:
        _say("Distillation uses logits, taken before the final activation: " + ", ".join(ends) + ".", stacklevel)


def say_what_was_projected(terms: list[DistillationLoss], stacklevel: int) -> None:
    """Lists the chosen projectors."""
    picked = [f"{term.name}: {term.projection}" for term in terms if term.projection]
    if picked:
        _say("Projectors from the student's features to the teacher's shape: " + "; ".join(picked) + ".", stacklevel)


def _say(message: str, stacklevel: Any) -> None:
    warnings.warn(message, Notice, stacklevel=stacklevel + 2)
