"""Several teachers whose outputs stay separate, each with its own loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_kd.errors import ConfigurationError, explain
from keras_kd.features import ModelOutputs
from keras_kd.serialization import register
from keras_kd.teachers.base import Batch
from keras_kd.teachers.several.group import Group


@register
class Panel(Group):
    """Several teachers whose outputs stay separate: each member's logits are returned under its own name.

    The names default to `"teacher_1"`, `"teacher_2"`, ...; outputs are named `"name/output"` if a member has several,
    and inner layers `"name/path"`. Each output may have its own loss, for example when a student learns from its
    teacher and the teacher's assistants at once (Son, Na, Choi & Hwang, "Densely Guided Knowledge Distillation Using
    Multiple Teacher Assistants", 2021).

    Args:
        members: teachers, Keras models, or paths of `.keras` files.
        names: one name per member.
        inputs: functions from the batch's `x` to each member's, or None, see `Ensemble`.

    Raises:
        ConfigurationError: names that are empty, duplicated or contain `/`; a member that runs outside the training
            step.

    >>> import keras
    >>> models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]) for _ in range(2)]
    >>> Panel(models).output_shapes
    {'teacher_1': (None, 3), 'teacher_2': (None, 3)}
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        names: Sequence[str] | None = None,
        inputs: Sequence[Callable[[Any], Any] | None] | None = None,
    ):
        super().__init__(members, inputs=inputs)
        names = self.one_for_each("names", names)
        self.labels = [name or f"teacher_{number}" for number, name in enumerate(names, start=1)]
        _check_names(self.labels)

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        outputs, inner = self.run_members(batch, taps)
        return ModelOutputs(self._named(outputs), inner)

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        shapes = [member.output_shapes for member in self.members]
        return None if None in shapes else self._named(shapes)

    @property
    def activations(self) -> dict[str, str]:
        return self._named(member.activations for member in self.members)

    def get_settings(self) -> dict[str, Any]:
        return {"names": self.labels, **super().get_settings()}

    def _named(self, values: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Merges one dict per member (by output name) into one dict by the panel's names."""
        return {
            label if len(named) == 1 else f"{label}/{name}": value
            for label, named in zip(self.labels, values, strict=True)
            for name, value in named.items()
        }


def _check_names(names: list[Any]) -> None:
    if all(isinstance(name, str) and "/" not in name for name in names) and len(set(names)) == len(names):
        return
    raise ConfigurationError(
        explain("'names' are the members' prefixes in paths.", received=repr(names), expected="unique text without '/'")
    )
