"""Augmentation of named inputs: the same draws for all of them, or some of them alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd.data import augmentation
from keras_kd.data.augmentation import Augmentation, Mixing, registry
from keras_kd.errors import ConfigurationError, explain
from keras_kd.serialization import nearest
from keras_kd.tasks import Inputs

Name = str | None
"""The name of an input; None for inputs of one part, which have no names."""


@registry.register
@dataclasses.dataclass(frozen=True)
class Only(Augmentation):
    """Augments some of the named inputs and leaves the others unchanged.

    Without it, an augmentation of a `Pipeline` changes all inputs with the same draws. If their resolutions differ,
    positions are drawn on the grid of the smallest, along each axis, and settings in pixels or steps count its cells:
    the other inputs move by whole multiples, so that each example stays aligned with itself to the pixel.

    Args:
        sides: the name of an input, or several.
        augmentation: an object, a name or a mapping; a mixture of two examples always changes all inputs.

    Raises:
        ConfigurationError: no names, or an augmentation that mixes or is itself an `Only`.

    >>> from keras_kd.data import GaussianNoise
    >>> Only("student", GaussianNoise(0.1)).get_config()
    {'sides': ['student'], 'augmentation': {'name': 'gaussian_noise', 'stddev': 0.1}}
    """

    sides: str | tuple[str, ...]
    augmentation: Any

    def __post_init__(self):
        sides = (self.sides,) if isinstance(self.sides, str) else self.sides
        inner = augmentation.get(self.augmentation)
        if not _are_names(sides) or isinstance(inner, (Only, Mixing)):
            raise ConfigurationError(
                explain(
                    "Invalid 'Only'.",
                    received=f"sides={self.sides!r}, augmentation={inner!r}",
                    expected="different names of inputs, and an augmentation that changes one example by itself",
                    fix="A mixture changes the labels, so it has to change all inputs: leave out Only."
                    if isinstance(inner, Mixing)
                    else None,
                )
            )
        self._set(sides=tuple(sides), augmentation=inner)

    @property
    def moves_positions(self) -> bool:
        return self.augmentation.moves_positions

    @property
    def moves_labels_of_any_size(self) -> bool:
        return self.augmentation.moves_labels_of_any_size

    @property
    def takes_token_ids(self) -> bool:
        return self.augmentation.takes_token_ids

    def __call__(self, x, draws):
        return self.augmentation(x, draws)

    def move_labels(self, y, draws):
        return self.augmentation.move_labels(y, draws)

    def get_config(self):
        return {"sides": list(self.sides), "augmentation": augmentation.describe([self.augmentation])[0]}


def by_name(x: Any) -> dict[Name, Any]:
    """The inputs by name; inputs of one part have the name None."""
    return dict(x) if isinstance(x, Mapping) else {None: x}


def select(x: Any, name: str) -> Any:
    """The input of that name in a batch.

    Raises:
        ConfigurationError: the batch has no named inputs, or none of that name.
    """
    if isinstance(x, Mapping) and name in x:
        return x[name]
    names = list(map(str, x)) if isinstance(x, Mapping) else []
    raise ConfigurationError(
        explain(
            f"The batch has no input {name!r}.",
            received=f"the inputs {', '.join(map(repr, sorted(names)))}" if names else f"x is {_describe(x)}",
            expected=f"a dict with the key {name!r}",
            fix=nearest(str(name), names)
            or f"Pass x={{{name!r}: ..., ...}}, as kd.data.pair(teacher_inputs, student_inputs) does.",
        )
    )


def check_is_no_pair(x: Any, expected: str) -> None:
    """Raises `ConfigurationError` if one model would be given the teacher's and the student's side of a pair."""
    if isinstance(x, Mapping) and set(x) == {"teacher", "student"}:
        raise ConfigurationError(
            explain(
                "The batch has an input for the teacher and one for the student, and a model would be given both.",
                received="the inputs 'student', 'teacher'",
                expected=expected,
                fix="To train or evaluate one model alone, use pipeline.side('student').",
            )
        )


def on_each(step: Augmentation, inputs: Mapping[Name, Any]) -> dict[Name, Augmentation]:
    """What an augmentation does to each input that it changes, so that equal draws change them alike.

    Args:
        step: the augmentation, or an `Only`.
        inputs: the inputs of some examples by name, each `[b, ...]`.

    Raises:
        ConfigurationError: no input has a name, the augmentation does not support an input, or it cannot change
            these inputs alike.
    """
    names = step.sides if isinstance(step, Only) else tuple(inputs)
    inner = step.augmentation if isinstance(step, Only) else step
    shapes = {name: _shape(inner, name, inputs) for name in names}
    cells = _cells(inner, shapes)
    for name, shape in shapes.items():
        _check(inner, name, _on_grid(shape, cells[name]))
    return {name: inner if set(cell) <= {1} else inner.with_cell(cell) for name, cell in cells.items()}


def _shape(step: Augmentation, name: Name, inputs: Mapping[Name, Any]) -> tuple[int, ...]:
    """The shape of one example of an input."""
    if name not in inputs:
        names = [str(key) for key in inputs if key is not None]
        raise ConfigurationError(
            explain(
                f"There is no input {name!r} to augment.",
                received=f"the inputs {', '.join(map(repr, sorted(names)))}" if names else "inputs without names",
                expected=f"x as a dict with the key {name!r}",
                fix=nearest(str(name), names) or None,
            )
        )
    x = inputs[name]
    if not isinstance(x, np.ndarray):
        raise ConfigurationError(
            explain(
                f"{_what(name)} with several parts cannot be augmented.",
                received=f"a {type(x).__name__}",
                expected="one array, or a dict of arrays by name" if name is None else "one array",
                fix=None if name is None else _advice(step),
            )
        )
    if Inputs(x.shape, x.dtype).are_token_ids and not step.takes_token_ids:
        raise ConfigurationError(
            explain(
                f"{type(step).__name__} does not apply to integer inputs such as token ids.",
                received=f"{_what(name).lower()} {x.dtype} of shape {('n', *x.shape[1:])}".replace("'n'", "n"),
                expected="floating-point inputs",
                fix="If these are numbers rather than ids, pass x.astype('float32')."
                + ("" if name is None else f" {_advice(step)}"),
            )
        )
    return x.shape[1:]


def _cells(step: Augmentation, shapes: Mapping[Name, tuple[int, ...]]) -> dict[Name, tuple[int, ...]]:
    """The size of a grid cell in each input, along `num_grid_axes` axes; the grid is that of the smallest input."""
    num_axes = step.num_grid_axes
    if len(set(shapes.values())) == 1:
        return dict.fromkeys(shapes, (1,) * (num_axes or 0))
    if num_axes is None:
        raise _not_alike(step, shapes, "inputs of equal shape, since its draws may depend on the shape")
    if any(len(shape) < num_axes for shape in shapes.values()):
        raise _not_alike(step, shapes, f"inputs with at least {num_axes} axes")
    grid = [min(shape[axis] for shape in shapes.values()) for axis in range(num_axes)]
    if any(size == 0 or shape[axis] % size for shape in shapes.values() for axis, size in enumerate(grid)):
        raise _not_alike(step, shapes, f"sizes that are whole multiples of the smallest, {tuple(grid)}")
    return {name: tuple(shape[axis] // grid[axis] for axis in range(num_axes)) for name, shape in shapes.items()}


def _on_grid(shape: tuple[int, ...], cell: tuple[int, ...]) -> tuple[int, ...]:
    return (*(length // size for length, size in zip(shape, cell, strict=False)), *shape[len(cell) :])


def _check(step: Augmentation, name: Name, shape: tuple[int, ...]) -> None:
    try:
        step.check(shape)
    except ConfigurationError as error:
        if name is None:
            raise
        raise ConfigurationError(f"{_what(name)}: {error} {_advice(step)}") from None


def _not_alike(step: Augmentation, shapes: Mapping[Name, tuple[int, ...]], expected: str) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"{type(step).__name__} cannot change these inputs alike.",
            received=", ".join(f"{name!r} of shape {shape}" for name, shape in shapes.items()),
            expected=expected,
            fix=_advice(step),
        )
    )


def _what(name: Name) -> str:
    return "Inputs" if name is None else f"The input {name!r}"


def _advice(step: Augmentation) -> str:
    if isinstance(step, Mixing):
        return "A mixture changes the labels, so it has to change all inputs."
    return f"To change some of the inputs alone, use Only(NAME, {type(step).__name__}(...))."


def _are_names(sides: Any) -> bool:
    is_list = isinstance(sides, (list, tuple)) and len(sides) > 0
    return is_list and all(isinstance(name, str) and name for name in sides) and len(set(sides)) == len(sides)


def _describe(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return f"a {type(x).__name__}" if shape is None else f"one array of shape {tuple(shape)}"
