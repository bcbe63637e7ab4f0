"""Notices of choices that a distiller makes for the user, each shown once."""

from __future__ import annotations

import warnings
from typing import Any

from keras_kd.errors import Notice
from keras_kd.features import Head
from keras_kd.losses import DistillationLoss
from keras_kd.teachers import Teacher


def show_where_logits_come_from(teacher: Teacher, heads: dict[str, Head], stacklevel: int) -> None:
    """Notifies of the final activations whose inputs are taken as the logits."""
    student = {name: head.activation for name, head in heads.items()}
    ends = [
        f"the {role}'s {name!r} ends in {activation}"
        for role, activations in (("teacher", teacher.activations), ("student", student))
        for name, activation in activations.items()
        if activation != "linear"
    ]
    if ends:
        _notify("Distillation uses logits, taken before the final activation: " + ", ".join(ends) + ".", stacklevel)


def show_projectors(terms: list[DistillationLoss], stacklevel: int) -> None:
    """Notifies of the chosen projectors."""
    chosen = [f"{term.name}: {term.projection}" for term in terms if term.projection]
    if chosen:
        _notify("Projectors from the student's features to the teacher's shape: " + "; ".join(chosen) + ".", stacklevel)


def _notify(message: str, stacklevel: Any) -> None:
    warnings.warn(message, Notice, stacklevel=stacklevel + 2)
