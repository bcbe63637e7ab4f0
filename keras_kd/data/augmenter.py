"""Applies augmentations to examples with ids: any view of any example, including its labels, is reproducible."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd.data import augmentation
from keras_kd.data.augmentation import Augmentation, Mixing
from keras_kd.data.draws import Draws
from keras_kd.data.examples import Examples
from keras_kd.data.pairs.sides import Name, by_name, on_each, select
from keras_kd.errors import ConfigurationError, explain
from keras_kd.tasks import Classification, Inputs, Regression, Segmentation, Task, find


class Augmenter:
    """Creates the augmented views of a set of examples.

    Args:
        examples: the examples to augment.
        steps: the augmentations, applied in order.
        seed: the seed of their draws.
        num_outputs: the size of mixed labels; None infers it from the labels.

    Raises:
        ConfigurationError: augmentations that do not support the inputs or the labels.
    """

    def __init__(self, examples: Examples, steps: Any, seed: int, num_outputs: int | None = None):
        self.steps = _augmentations(steps)
        self.seed = seed
        self._examples = examples
        self._task: Task | None = examples.task  # inferred from the labels if an augmentation needs it
        self._num_outputs = num_outputs
        self._has_shares = False  # whether labels of positions are one-hot rows or shares rather than class ids
        self._on_each: list[dict[Name, Augmentation]] = []  # for each step, what it does to each input
        self._labeled: Name = None  # the input with the resolution of labels of positions
        self._side: str | None = None
        if self.steps:
            self._check()

    def of_side(self, name: str) -> Augmenter:
        """The same views, of one named input alone."""
        other = copy.copy(self)
        other._side = name
        return other

    def __call__(self, ids: np.ndarray, view: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Augments the parts `(x[, y[, sample_weight]])` of the examples with these ids for a view."""
        if self.steps:
            x, y = self._apply(len(self.steps), ids, view, by_name(parts[0]), parts[1] if len(parts) > 1 else None)
            x = x if isinstance(parts[0], Mapping) else x[None]
            parts = (x, *((y,) if len(parts) > 1 else ()), *parts[2:])
        return parts if self._side is None else (select(parts[0], self._side), *parts[1:])

    def _apply(
        self, num_steps: int, ids: np.ndarray, view: int, inputs: dict[Name, Any], y: Any
    ) -> tuple[dict[Name, Any], Any]:
        """Applies the first steps in order; a mixing partner is augmented by the preceding steps with its own draws."""
        draws = Draws(self.seed, ids, view)
        changed = {name for on_inputs in self._on_each for name in on_inputs}
        inputs = {name: _as_floats(x) if name in changed else x for name, x in inputs.items()}
        for number in range(num_steps):
            own, step, on_inputs = draws.under(f"{number}"), self.steps[number], self._on_each[number]
            if isinstance(step, Mixing):
                inputs, y = self._mix(number, own, view, inputs, y)
                continue
            inputs = inputs | {name: on_one(inputs[name], own) for name, on_one in on_inputs.items()}
            if y is not None and step.moves_positions and self._has_positions:
                y = self._moved(on_inputs[self._labeled], y, own)
        return inputs, y

    def _moved(self, step: Augmentation, y: np.ndarray, draws: Draws) -> np.ndarray:
        if self._has_shares:
            return step.move_shares(np.asarray(y, np.float32), draws)
        return step.move_labels(self._task.read(y), draws)

    def _mix(
        self, number: int, draws: Draws, view: int, inputs: dict[Name, Any], y: Any
    ) -> tuple[dict[Name, Any], Any]:
        on_inputs = self._on_each[number]
        partners = self.steps[number].partners(draws, self._examples.num_examples)
        fetched = self._examples.fetch(partners)
        other = fetched[1] if y is not None else None
        others, partner_y = self._apply(number, partners, view, by_name(fetched[0]), other)
        mixed = {name: step.mix(inputs[name], others[name], draws) for name, step in on_inputs.items()}
        inputs = {name: x for name, (x, _) in mixed.items()}
        if y is None:
            return inputs, None
        if self._has_positions:
            return inputs, self._mixed_positions(on_inputs[self._labeled], y, partner_y, draws)
        _, share = next(iter(mixed.values()))  # equal draws, so the same for all inputs
        return inputs, self._mixed(np.asarray(y), np.asarray(partner_y), share)

    def _mixed_positions(self, step: Mixing, y: np.ndarray, partner_y: np.ndarray, draws: Draws) -> np.ndarray:
        read = np.float32 if self._has_shares else self._task.read
        return step.mix_positions(read(y), read(partner_y), draws)

    def _mixed(self, labels: np.ndarray, partners: np.ndarray, share: np.ndarray) -> np.ndarray:
        task = self._task
        if not isinstance(task, Classification):  # labels of a classification may already be shares
            labels, partners = task.read(labels), task.read(partners)
        return task.mixed(labels, partners, share, self._outputs())

    def _outputs(self) -> int:
        if self._num_outputs is None:
            labels = np.asarray(self._examples.labels())
            is_share = isinstance(self._task, Classification) and _are_rows(labels)
            self._num_outputs = labels.shape[-1] if is_share else self._task.num_outputs(self._task.read(labels))
        return self._num_outputs

    @property
    def _has_positions(self) -> bool:
        return self._task is not None and self._task.has_positions

    # Checks before the first batch.

    def _check(self) -> None:
        parts = next(iter(self._examples.stream()))[1]
        inputs = by_name(parts[0])
        self._on_each = [on_each(step, inputs) for step in self.steps]
        if len(parts) > 1:
            self._check_labels(inputs, parts[1])

    def _check_labels(self, inputs: dict[Name, Any], y: Any) -> None:
        """Checks that the labels can be moved and mixed along with the inputs, and that partners can be fetched."""
        mixes = any(isinstance(step, Mixing) for step in self.steps)
        moves = any(step.moves_positions for step in self.steps)
        self._labeled = _same_positions(inputs, y)
        if self._task is None and isinstance(y, np.ndarray) and (mixes or moves):
            self._task = _found(inputs[self._labeled], y, mixes)
        if self._has_positions:
            self._has_shares = _are_shares(y)
            self._check_positions(inputs, y[:1])
        elif mixes:
            self._check_mixing()

    def _check_positions(self, inputs: dict[Name, Any], y: np.ndarray) -> None:
        """Checks that every augmentation can treat the labels of positions as it treats the positions."""
        draws = Draws(self.seed, [0], 0)
        for step, on_inputs in zip(self.steps, self._on_each, strict=True):
            if not step.moves_positions:
                continue
            if set(on_inputs) != set(inputs):
                raise _moves_a_part(step, inputs)
            if not step.moves_labels_of_any_size:
                self._check_resolution(step, inputs[self._labeled], y)
            if isinstance(step, Mixing):
                self._mixed_positions(on_inputs[self._labeled], y, y, draws)
                self._examples.fetch(np.arange(1))  # partners are read by id
            else:
                self._moved(on_inputs[self._labeled], y, draws)

    def _check_resolution(self, step: Augmentation, x: np.ndarray, y: np.ndarray) -> None:
        num_axes = y.ndim - 1 if self._has_shares else self._task.read(y).ndim
        if x.shape[1:num_axes] != y.shape[1:num_axes]:
            raise ConfigurationError(
                explain(
                    f"{type(step).__name__} cannot augment labels of another resolution than the inputs.",
                    received=f"inputs of shape {x.shape[1:]}, labels of shape {y.shape[1:]}",
                    expected=f"labels of {x.shape[1:num_axes]} for each example",
                    fix="Resize the labels to the inputs (nearest neighbor), or use Flip alone.",
                )
            )

    def _check_mixing(self) -> None:
        (x, y, *_) = self._examples.fetch(np.arange(1))
        labels = np.asarray(self._examples.labels())
        if not (isinstance(self._task, Classification) and _are_rows(labels)):
            self._task.read(labels, num_outputs=self._num_outputs)
        self._mixed(np.asarray(y), np.asarray(y), np.ones(1, np.float32))


def _augmentations(augment: Any) -> tuple[Augmentation, ...]:
    steps = augment if isinstance(augment, (list, tuple)) else [] if augment is None else [augment]
    return tuple(augmentation.get(step) for step in steps)


def _as_floats(x: np.ndarray) -> np.ndarray:
    """The inputs in float32, except token ids."""
    return x if Inputs(x.shape, x.dtype).are_token_ids else np.asarray(x, np.float32)


def _are_rows(labels: np.ndarray) -> bool:
    """Whether labels are rows (one-hot or shares) rather than scalars."""
    return labels.ndim > 1 and labels.shape[-1] > 1


def _are_shares(y: np.ndarray) -> bool:
    """Whether labels are one-hot masks or shares of classes `[n, H, W, C]`; zeros for pixels without a label."""
    if y.ndim != 4 or y.shape[-1] < 2:
        return False
    total = y.sum(axis=-1)
    return bool(y.min() >= 0 and np.all((total == 0) | (np.abs(total - 1) < 1e-4)))


def _found(x: np.ndarray, y: np.ndarray, mixes: bool) -> Task | None:
    """Infers the task from arrays as far as augmentations need it: label mixing, and whether labels have positions."""
    if y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
        is_class = y.dtype.kind in "biu" or np.array_equal(y, np.round(y))
        return Classification() if is_class else Regression()
    if y.ndim == 2 and np.allclose(y.sum(axis=-1) * (y.sum(axis=-1) - 1), 0, atol=1e-5) and y.min() >= 0:
        return Classification()  # one-hot rows or shares; zeros for unlabeled rows
    if _are_shares(y):
        return Segmentation()
    return find(Inputs(x.shape, x.dtype), y)[0] if mixes or y.ndim > 2 else None


def _same_positions(inputs: dict[Name, Any], y: Any) -> Name:
    """The name of the first input with as many positions as the labels have, or else of the first one."""
    arrays = {name: x for name, x in inputs.items() if isinstance(x, np.ndarray)}
    num_axes = min(np.ndim(y), 3)
    matches = (name for name, x in arrays.items() if num_axes > 1 and x.shape[1:num_axes] == y.shape[1:num_axes])
    return next(matches, next(iter(arrays or inputs)))


def _moves_a_part(step: Augmentation, inputs: dict[Name, Any]) -> ConfigurationError:
    return ConfigurationError(
        explain(
            "An augmentation of some inputs alone would separate the others from the labels of their positions.",
            received=repr(step),
            expected=f"one that moves all inputs ({', '.join(map(repr, inputs))}), or keeps positions",
            fix="Leave out Only.",
        )
    )
