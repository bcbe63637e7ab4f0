"""What a teacher is: a plain callable that turns a batch into named targets."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Batch(NamedTuple):
    """One batch as `fit` hands it over: `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""

    x: Any
    y: Any = None
    sample_weight: Any = None


class Teacher(abc.ABC):
    """Where the targets come from: `(batch) -> {name: tensor}`.

    A teacher is a plain object and never a tracked attribute of a model: it is not trained, not changed, and not
    written into the student's checkpoints. The names are those of its outputs (`"output"` for a single one), the
    tensors logits; and the paths of inner layers that were asked for.
    """

    @abc.abstractmethod
    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> dict[str, Any]:
        """The targets of a batch, each `[batch, ...]`, without a gradient.

        Args:
            batch: as `fit` hands it over.
            taps: paths of inner layers whose outputs are wanted besides, of those that `inner_taps` knows.
        """

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        """Those of `names` that are inner layers rather than outputs, with their shapes (None where not known yet).

        Raises:
            ConfigurationError: a path that leads nowhere.
        """
        return {}

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """What tells this teacher from any other: a hash that is the same in another process."""

    @property
    @abc.abstractmethod
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        """The shape of each target where it is known before the first batch, else None."""

    @property
    def activations(self) -> dict[str, str]:
        """The activation of each output of the model behind, `"linear"` where it gives logits."""
        return {}

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile the teacher."""
        return True

    def get_config(self) -> dict[str, Any]:
        """What names this teacher in a saved distiller; its weights are not in it."""
        raise NotImplementedError(f"{type(self).__name__} cannot be named in a saved file.")
