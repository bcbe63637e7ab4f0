"""A student as its own teacher: some of its outputs are the targets of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.features import ModelOutputs, find_heads, inner_taps, output_shapes
from keras_kd.teachers.base import Batch, Teacher

Combine = Callable[[dict[str, Any], Any], Any]
COMBINED = "ensemble"


class OwnOutputs(Teacher):
    """The outputs of the student itself, from the same forward pass and without a gradient.

    Args:
        student: a model with several outputs, of which some teach others.
        combine: a function of all logits by name and the labels that returns further targets, as an output named
            `"ensemble"`; None adds none.
        outputs: as `student_outputs` of a `Distiller`.
    """

    reads_student = True

    def __init__(self, student: keras.Model, combine: Combine | None = None, outputs: str | None = None):
        self._student, self._combine, self._outputs = student, combine, outputs

    def targets(self, student: ModelOutputs, labels: Any) -> ModelOutputs:
        """The targets for a batch.

        Args:
            student: what the student returned for the batch, in training mode.
            labels: of the batch, with -1 for a missing one; by output or for all; or None.
        """
        outputs, taps = (dict(part) for part in keras.tree.map_structure(ops.stop_gradient, tuple(student)))
        if self._combine is not None:
            labels = labels if labels is None else keras.tree.flatten(labels)[0]
            outputs[COMBINED] = ops.stop_gradient(self._combine(outputs, labels))
        return ModelOutputs(outputs, taps)

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        """Nothing: the targets follow from the student's forward pass, see `targets`."""
        return ModelOutputs({})

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        return inner_taps(self._student, [name for name in names if name != COMBINED], role="student")

    @property
    def fingerprint(self) -> str:
        return f"own outputs{'' if self._combine is None else f', {self._combine!r}'}"

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]]:
        shapes = dict(output_shapes(self._student))
        return shapes if self._combine is None else {**shapes, COMBINED: next(iter(shapes.values()))}

    @property
    def activations(self) -> dict[str, str]:
        activations = {name: head.activation for name, head in find_heads(self._student, self._outputs).items()}
        return activations if self._combine is None else {**activations, COMBINED: next(iter(activations.values()))}

    def get_config(self) -> dict[str, Any]:
        return {}  # made again from the student

    @property
    def traced_settings(self) -> Any:
        return self._combine
