"""Applies augmentations to examples with ids: any view of any example, including its labels, is reproducible."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_kd.data import augmentation
from keras_kd.data.augmentation import Augmentation, Mixing
from keras_kd.data.draws import Draws
from keras_kd.data.examples import Examples
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
        if self.steps:
            self._check()

    def __call__(self, ids: np.ndarray, view: int, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        """Augments the parts `(x[, y[, sample_weight]])` of the examples with these ids for a view."""
        if not self.steps:
            return parts
        x, y = self._apply(self.steps, ids, view, parts[0], parts[1] if len(parts) > 1 else None)
        return (x, *((y,) if len(parts) > 1 else ()), *parts[2:])

    def _apply(self, steps: tuple[Augmentation, ...], ids: np.ndarray, view: int, x: Any, y: Any) -> tuple[Any, Any]:
        """Applies `steps` in order; a mixing partner is augmented by the preceding steps with its own draws."""
        draws = Draws(self.seed, ids, view)
        x = x if _are_token_ids(x) else np.asarray(x, np.float32)
        for number, step in enumerate(steps):
            own = draws.under(f"{number}")
            if isinstance(step, Mixing):
                x, y = self._mix(steps[:number], step, own, view, x, y)
                continue
            x = step(x, own)
            if y is not None and step.moves_positions and self._has_positions:
                y = self._moved(step, y, own)
        return x, y

    def _moved(self, step: Augmentation, y: np.ndarray, draws: Draws) -> np.ndarray:
        if self._has_shares:
            return step.move_shares(np.asarray(y, np.float32), draws)
        return step.move_labels(self._task.read(y), draws)

    def _mix(
        self, before: tuple[Augmentation, ...], step: Mixing, draws: Draws, view: int, x: np.ndarray, y: Any
    ) -> tuple[np.ndarray, Any]:
        partners = step.partners(draws, self._examples.num_examples)
        fetched = self._examples.fetch(partners)
        other = fetched[1] if y is not None else None
        partner_x, partner_y = self._apply(before, partners, view, fetched[0], other)
        x, share = step.mix(x, partner_x, draws)
        if y is None:
            return x, None
        if self._has_positions:
            return x, self._mixed_positions(step, y, partner_y, draws)
        return x, self._mixed(np.asarray(y), np.asarray(partner_y), share)

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
        x = parts[0]
        if not isinstance(x, np.ndarray):
            raise ConfigurationError(
                explain(
                    "Inputs with several parts cannot be augmented.",
                    received=f"inputs in a {type(x).__name__}",
                    expected="one array",
                )
            )
        for step in self.steps:
            step.check(x.shape[1:])
            if _are_token_ids(x) and not step.takes_token_ids:
                raise _not_for_token_ids(step, x)
        if len(parts) > 1:
            self._check_labels(x, parts[1])

    def _check_labels(self, x: np.ndarray, y: Any) -> None:
        """Checks that the labels can be moved and mixed along with the inputs, and that partners can be fetched."""
        mixes = any(isinstance(step, Mixing) for step in self.steps)
        moves = any(step.moves_positions for step in self.steps)
        if self._task is None and isinstance(y, np.ndarray) and (mixes or moves):
            self._task = _found(x, y, mixes)
        if self._has_positions:
            self._has_shares = _are_shares(y)
            self._check_positions(x[:1], y[:1])
        elif mixes:
            self._check_mixing()

    def _check_positions(self, x: np.ndarray, y: np.ndarray) -> None:
        """Checks that every augmentation can treat the labels of positions as it treats the positions."""
        draws = Draws(self.seed, [0], 0)
        for step in self.steps:
            if not step.moves_positions:
                continue
            if not step.moves_labels_of_any_size:
                self._check_resolution(step, x, y)
            if isinstance(step, Mixing):
                self._mixed_positions(step, y, y, draws)
                self._examples.fetch(np.arange(1))  # partners are read by id
            else:
                self._moved(step, y, draws)

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


def _are_token_ids(x: Any) -> bool:
    return isinstance(x, np.ndarray) and Inputs(x.shape, x.dtype).are_token_ids


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


def _not_for_token_ids(step: Augmentation, x: np.ndarray) -> ConfigurationError:
    return ConfigurationError(
        explain(
            f"{type(step).__name__} does not apply to integer inputs such as token ids.",
            received=f"inputs {x.dtype} of shape {('n', *x.shape[1:])}".replace("'", ""),
            expected="floating-point inputs",
            fix="If these are numbers rather than ids, pass x.astype('float32').",
        )
    )
