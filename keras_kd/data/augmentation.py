"""The augmentation interface: a pure function of a batch and of reproducible random draws.

Any view of any example can be reproduced bit for bit, in any order, batch or process. Image augmentations are in
`images.py`, those that mix two examples in `mixing.py`; those for audio and for any kind of input are in this module.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from keras_kd.data.draws import Draws
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.serialization import Registry, snake_case
from keras_kd.tasks.labels import UNLABELED

registry = Registry("augmentation")


@dataclasses.dataclass(frozen=True)
class Augmentation(abc.ABC):
    """Base class of all augmentations: `x = augmentation(x, draws)`.

    To write one, subclass it as a frozen dataclass whose fields are the settings, and take all randomness from `draws`,
    each draw under its own name. Decorate it with `@registry.register` to make it available by name in recipes.

    Attributes:
        moves_positions: whether pixels or time steps change position, so that per-position labels must move with them.
        moves_labels_of_any_size: whether `move_labels` is right for masks of another resolution than the inputs, too.
        takes_token_ids: whether it accepts token ids, integers `[b, t]`, and returns integers.
        num_grid_axes: the number of axes of the grid on which positions are drawn: 2 for the pixels of an image, 1 for
            time steps, 0 if no draw depends on the shape; None if that is unknown. Paired inputs share draws made on
            the grid of the smallest; with None, they must have equal shapes.
        cell: the size of a cell of that grid, in pixels or steps of the inputs; set by `with_cell`.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Dim(Augmentation):
    ...     strength: float = 0.5
    ...
    ...     def __call__(self, x, draws):
    ...         factor = 1 - self.strength * draws.uniform("factor").astype("float32")
    ...         return x * factor[:, None, None, None]
    >>> describe([Dim(strength=0.25)])
    [{'name': 'dim', 'strength': 0.25}]
    """

    moves_positions: ClassVar[bool] = True
    moves_labels_of_any_size: ClassVar[bool] = False
    takes_token_ids: ClassVar[bool] = False
    num_grid_axes: ClassVar[int | None] = None
    cell: ClassVar[tuple[int, ...]] = (1, 1)

    @abc.abstractmethod
    def __call__(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        """Augments a batch.

        Args:
            x: float32 `[b, ...]`, not modified.
            draws: the draws for the `b` examples.

        Returns:
            A new array, float32 `[b, ...]` of the same shape.
        """

    def move_labels(self, y: np.ndarray, draws: Draws) -> np.ndarray:
        """Moves per-position labels in the same way as `__call__` moves the positions.

        Args:
            y: class ids of pixels `[b, H, W]` or steps `[b, T]`, int32; of one-hot masks one class at a time, float32.
            draws: the draws that the inputs were augmented with.

        Returns:
            A new array of the same shape; -1 for positions without a label.

        Raises:
            ConfigurationError: this augmentation cannot move labels.
        """
        raise ConfigurationError(
            explain(
                f"{type(self).__name__} moves positions but cannot move their labels.",
                received=f"labels of shape {('n', *y.shape[1:])}".replace("'", ""),
                expected="an augmentation that keeps positions, or one that implements `move_labels`, such as Flip",
            )
        )

    def move_shares(self, y: np.ndarray, draws: Draws) -> np.ndarray:
        """Moves one-hot masks, or shares of classes, as `move_labels` moves class ids.

        Args:
            y: float32 `[b, ..., C]`.
            draws: the draws that the inputs were augmented with.

        Returns:
            A new array of the same shape; rows of zeros for positions without a label.

        Raises:
            ConfigurationError: this augmentation cannot move labels.
        """
        moved = [self.move_labels(y[..., number], draws) for number in range(y.shape[-1])]
        return np.maximum(np.stack(moved, axis=-1), 0)

    def with_cell(self, cell: tuple[int, ...]) -> Augmentation:
        """The same augmentation for inputs of a higher resolution: equal draws change the same part of an example.

        Args:
            cell: the size of a grid cell, in pixels or steps of the inputs, for each of the `num_grid_axes` axes.
                Positions are drawn in cells, and settings such as a number of pixels count cells.
        """
        other = copy.copy(self)
        other._set(cell=tuple(cell))
        return other

    def check(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - most support any shape
        """Raises `ConfigurationError` if examples of this shape (without the batch axis) are not supported."""

    def get_config(self) -> dict[str, Any]:
        """The settings as plain JSON data."""
        return {field.name: _plain(self, getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Augmentation:
        return cls(**config)

    def _set(self, **settings: Any) -> None:
        """For `__post_init__`: stores checked settings in one form, so that equal settings compare equal."""
        for name, value in settings.items():
            object.__setattr__(self, name, value)


class Mixing(Augmentation):
    """An augmentation that mixes each example and its label with a partner from the data set.

    Attributes:
        pastes: whether each value of the mixture comes from one of the two examples, so that masks of class ids can be
            mixed in the same way.
    """

    pastes: ClassVar[bool] = False

    def __call__(self, x: np.ndarray, draws: Draws) -> np.ndarray:
        raise ConfigurationError(
            explain(
                f"{type(self).__name__} mixes two examples and their labels.",
                received="one batch",
                expected="`mix(x, partner_x, draws)`, with the partners of `partners(draws, num_examples)`",
            )
        )

    def partners(self, draws: Draws, num_examples: int) -> np.ndarray:
        """The ids of the partners, int64 `[b]`: uniformly drawn, never the example itself unless it is the only one.

        Args:
            draws: the draws for the batch's examples, whose ids are positions in the data set, starting at 0.
            num_examples: the size of the data set.

        Raises:
            ConfigurationError: an id that is not in the data set.
        """
        ids, num_examples = draws.ids, check_integer("num_examples", num_examples, at_least=1)
        if len(ids) and not 0 <= ids.min() <= ids.max() < num_examples:
            raise ConfigurationError(
                explain(
                    "An example id is outside the data set.",
                    received=f"ids {ids.min()} to {ids.max()}",
                    expected=f"0 to {num_examples - 1}",
                )
            )
        if num_examples == 1:
            return ids.copy()
        others = draws.integers("partner", num_examples - 1)
        return others + (others >= ids)

    @abc.abstractmethod
    def mix(self, x: np.ndarray, partner_x: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Mixes a batch with the batch of its partners.

        Args:
            x, partner_x: float32 `[b, ...]`, not modified.
            draws: the draws for the examples of `x`.

        Returns:
            The mixture, float32 `[b, ...]`, and the share of `x` in it, float32 `[b]` in 0..1: the label is
            `share * y + (1 - share) * y_partner`.
        """

    def mix_positions(self, y: np.ndarray, partner_y: np.ndarray, draws: Draws) -> np.ndarray:
        """Mixes the labels of pixels or steps as `mix` mixes the pixels or steps themselves.

        Args:
            y, partner_y: class ids `[b, ...]`, -1 without a label, if the augmentation pastes; or one-hot rows or
                shares of classes, float32 `[b, ..., C]`, zeros without a label.
            draws: the draws that the inputs were mixed with.

        Returns:
            A new array of the same shape. A mixture of shares has no label where one of the two has none.

        Raises:
            ConfigurationError: class ids, if the augmentation does not paste.
        """
        if self.pastes:
            return self._pasted(y, partner_y, draws)
        if y.dtype.kind != "f":
            raise ConfigurationError(
                explain(
                    f"{type(self).__name__} computes shares of classes, which masks of class ids cannot hold.",
                    received=f"class ids of shape {('n', *y.shape[1:])}".replace("'", ""),
                    expected=f"one-hot masks {('n', *y.shape[1:], 'C')}, or CutMix".replace("'", ""),
                    fix="Pass keras.ops.one_hot(y, num_classes) as y, and compile CategoricalCrossentropy.",
                )
            )
        mixed = self.mix(y, partner_y, draws)[0]
        are_known = (y.sum(axis=-1) > 0) & (partner_y.sum(axis=-1) > 0)
        return np.where(are_known[..., None], mixed, 0).astype(np.float32)

    def _pasted(self, y: np.ndarray, partner_y: np.ndarray, draws: Draws) -> np.ndarray:
        if y.dtype.kind == "f":
            return self.mix(y, partner_y, draws)[0]
        return self.mix(y[..., None], partner_y[..., None], draws)[0][..., 0]


def get(identifier: Any) -> Augmentation:
    """An augmentation from a name or from a mapping with `name` and settings; augmentations are returned unchanged.

    >>> get({"name": "gaussian_noise", "stddev": 0.2})
    GaussianNoise(stddev=0.2)
    """
    return identifier if isinstance(identifier, Augmentation) else registry.get(identifier)


def describe(augmentations: Iterable[Any]) -> list[dict[str, Any]]:
    """The configs of augmentations, in order, as JSON data for a manifest.

    `get` restores each augmentation from its entry, except a `Custom`, whose function is stored by name only.

    >>> describe(["gaussian_noise", TimeShift(1600)])
    [{'name': 'gaussian_noise', 'stddev': 0.1}, {'name': 'time_shift', 'steps': 1600}]
    """
    return [_describe(get(augmentation)) for augmentation in augmentations]


def _describe(augmentation: Augmentation) -> dict[str, Any]:
    config = augmentation.get_config()
    if "name" in config:
        raise ConfigurationError(
            explain(
                f"A field of {type(augmentation).__name__} may not be called 'name'.",
                received=repr(augmentation),
                expected="fields with other names: `name` identifies the augmentation",
            )
        )
    return {"name": snake_case(type(augmentation).__name__), **config}


def _plain(owner: Augmentation, value: Any) -> Any:
    """A setting as JSON data: tuples become lists, NumPy numbers become Python numbers."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(owner, item) for item in value]
    raise ConfigurationError(
        explain(
            f"A setting of {type(owner).__name__} cannot be described.",
            received=repr(value),
            expected="numbers, text, or lists of them",
            fix="Override get_config and from_config.",
        )
    )


def check_shape(owner: Augmentation, shape: tuple[int, ...], fits: bool, expected: str) -> None:
    """Raises `ConfigurationError` if an augmentation does not support the examples."""
    if not fits:
        raise ConfigurationError(
            explain(f"The examples do not fit {owner!r}.", received=f"shape {tuple(shape)}", expected=expected)
        )


# Augmentations for inputs of any kind, and for audio.


@registry.register
@dataclasses.dataclass(frozen=True)
class GaussianNoise(Augmentation):
    """Adds Gaussian noise to each value, for inputs of any shape.

    Args:
        stddev: the standard deviation of the noise, in the units of the input.
    """

    moves_positions: ClassVar[bool] = False
    stddev: float = 0.1

    def __post_init__(self):
        self._set(stddev=check_number("stddev", self.stddev, at_least=0.0))

    def __call__(self, x, draws):
        return x + np.float32(self.stddev) * draws.normal("noise", x.shape[1:])


@registry.register
@dataclasses.dataclass(frozen=True)
class TimeShift(Augmentation):
    """Shifts audio, `[T]` or `[T, C]`, by a random number of steps in either direction; the gap is filled with 0.

    Args:
        steps: the largest shift in each direction.
    """

    num_grid_axes: ClassVar[int | None] = 1
    cell: ClassVar[tuple[int, ...]] = (1,)
    steps: int

    def __post_init__(self):
        self._set(steps=check_integer("steps", self.steps, at_least=0))

    def __call__(self, x, draws):
        shifted = np.zeros_like(x)
        length = x.shape[1]
        shifts = (draws.integers("shift", 2 * self.steps + 1) - self.steps) * self.cell[0]
        for row, shift in enumerate(shifts):
            shifted[row, max(shift, 0) : length + min(shift, 0)] = x[row, max(-shift, 0) : length - max(shift, 0)]
        return shifted

    def move_labels(self, y, draws):
        return self(y - UNLABELED, draws) + UNLABELED  # the gap becomes 0, then -1

    def check(self, shape):
        fits = len(shape) in (1, 2) and shape[0] > self.steps
        check_shape(self, shape, fits, f"[T] or [T, C] with more than {self.steps} steps T")


@registry.register
@dataclasses.dataclass(frozen=True)
class Custom(Augmentation):
    """A user-defined augmentation, applied to one example at a time.

    It is identified by its name alone: change the name when the function changes, so that teacher outputs stored for
    the old function are rejected.

    Args:
        function: `(x, rng) -> x`: takes one example, float32 `[...]`, and a `numpy.random.Generator` seeded for this
            example and view; returns an example of the same shape. All randomness must come from `rng`. Token ids are
            passed unchanged, and the result must be integers.
        name: its name in manifests.
        keeps_positions: whether pixels or time steps keep their positions, as required for per-position labels.

    >>> def invert(x, rng):
    ...     return 1 - x if rng.random() < 0.5 else x
    >>> Custom(invert, "invert").get_config()
    {'function_name': 'invert'}
    """

    function: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    name: str
    keeps_positions: bool = False

    takes_token_ids: ClassVar[bool] = True

    @property
    def moves_positions(self) -> bool:
        return not self.keeps_positions

    def __post_init__(self):
        if not callable(self.function) or not isinstance(self.name, str) or not self.name:
            self._refuse(f"function={self.function!r}, name={self.name!r}")

    def __call__(self, x, draws):
        changed = np.empty_like(x)
        for row, key in enumerate(draws.bits("key", (2,))):
            rng = np.random.Generator(np.random.Philox(key=key))
            changed[row] = self._one(x[row].copy(), rng)
        return changed

    def _one(self, example: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shape, dtype = example.shape, example.dtype
        example = np.asarray(self.function(example, rng))
        if example.shape != shape:
            raise ConfigurationError(
                explain(
                    f"The augmentation {self.name!r} changed the shape of an example.",
                    received=f"shape {example.shape}",
                    expected=f"shape {shape}",
                )
            )
        if dtype.kind in "iu" and example.dtype.kind not in "iu":
            raise ConfigurationError(
                explain(
                    f"The augmentation {self.name!r} turned integers into fractions.",
                    received=f"dtype {example.dtype}",
                    expected=f"dtype {dtype}, that of the inputs",
                )
            )
        return example

    def get_config(self):
        return {"function_name": self.name}

    @classmethod
    def from_config(cls, config):
        cls._refuse(repr(dict(config)))

    @staticmethod
    def _refuse(received: str) -> None:
        raise ConfigurationError(
            explain(
                "Custom needs a function and a name.",
                received=received,
                expected="a function (x, rng) of one example, and a name that identifies it",
                fix="Pass Custom(function, name) itself: a function cannot be restored from its description.",
            )
        )
