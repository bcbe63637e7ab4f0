"""A teacher's own checkpoints, one after another, as the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd import files
from keras_kd.errors import ConfigurationError, TeacherError, check_integer, explain
from keras_kd.features import ModelOutputs
from keras_kd.keras_private import all_layers
from keras_kd.serialization import register
from keras_kd.surgery.cloning import clone
from keras_kd.teachers.absent import AbsentTeacher, check_fingerprint
from keras_kd.teachers.base import Batch, Teacher
from keras_kd.teachers.frozen import FrozenTeacher


@register
class Route(Teacher):
    """Checkpoints of one teacher from early to final: the student follows the way that the teacher took.

        route = kd.teachers.Route(["early.keras", "middle.keras", "final.keras"], every_epochs=20)
        distiller = kd.Distiller(route, student)
        distiller.fit(pipeline, epochs=60)

    `Distiller.fit` selects the checkpoint by epoch or step, so a resumed training continues the route; the last one
    stays. One model runs, whose weights are exchanged between two steps, without a retrace; the weights of the others
    are in the memory of the host. Nothing else selects a checkpoint: outside of `fit`, call `go_to` first.

    The optimizer is not reset between checkpoints.

    Source: X. Jin et al., "Knowledge Distillation via Route Constrained Optimization", 2019.

    Args:
        checkpoints: at least two Keras models of one architecture, or paths of `.keras` files.
        every_epochs: epochs at each checkpoint but the last, counted from epoch 0.
        boundaries: instead, the optimizer steps from which each checkpoint but the first is used, increasing. With
            `steps_per_execution`, a change waits for the next execution.
        outputs, batch_size: see `FrozenTeacher`.

    Raises:
        ConfigurationError: fewer than two checkpoints, several architectures, or not exactly one of `every_epochs` and
            `boundaries`.
        TeacherError: a file is missing or damaged; in a step, that no checkpoint has been selected.

    Attributes:
        current: the number of the selected checkpoint; None before the first selection.

    >>> models = [keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]) for _ in range(3)]
    >>> route = Route(models, every_epochs=10)
    >>> [route.at(epoch=epoch) for epoch in (0, 9, 10, 29, 30)]
    [0, 0, 1, 2, 2]
    """

    def __init__(
        self,
        checkpoints: Sequence[Any],
        *,
        every_epochs: int | None = None,
        boundaries: Sequence[int] | None = None,
        outputs: str | None = None,
        batch_size: int | None = None,
    ):
        self.every_epochs = None if every_epochs is None else check_integer("every_epochs", every_epochs, at_least=1)
        members = _members(checkpoints, outputs)
        self.boundaries = _boundaries(boundaries, self.every_epochs, len(members))
        self.paths = [member.path for member in members]
        self._fingerprints = [member.fingerprint for member in members]
        self._weights = [member.model.get_weights() for member in members]
        # a model from a file belongs to this teacher, a model of the user's stays as it is
        model = members[0].model if members[0].path is not None else _copy(members[0].model)
        self._running = FrozenTeacher(model, outputs=outputs, batch_size=batch_size)
        self.current: int | None = None

    def __len__(self) -> int:
        return len(self._weights)

    def at(self, *, epoch: int = 0, step: int = 0) -> int:
        """The number of the checkpoint for an epoch and an optimizer step; only one of them counts."""
        if self.every_epochs is not None:
            return min(epoch // self.every_epochs, len(self) - 1)
        return sum(step >= boundary for boundary in self.boundaries)

    def go_to(self, number: int) -> None:
        """Selects a checkpoint, from 0; a compiled step uses it at once."""
        number = check_integer("number", number, at_least=0, at_most=len(self) - 1)
        if number != self.current:
            self._running.model.set_weights(self._weights[number])
            self.current = number

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """What selects the checkpoints during a `fit`."""
        return [_Selection(self)]

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        if self.current is None:
            raise TeacherError(
                explain(
                    "No checkpoint of the route has been selected.",
                    received="a step outside of Distiller.fit",
                    expected="Distiller.fit, which selects one by epoch or step",
                    fix="Call route.go_to(0) first.",
                )
            )
        return self._running(batch, taps)

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        return self._running.inner_taps(names)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the checkpoints' fingerprints and the schedule, as `sha256:` and 64 hex digits."""
        identity = ["Route", self._fingerprints, self.every_epochs, self.boundaries]
        return files.fingerprint(files.digest_of_json(identity))

    @property
    def output_shapes(self):
        return self._running.output_shapes

    @property
    def activations(self) -> dict[str, str]:
        return self._running.activations

    @property
    def variables(self) -> list[Any]:
        return self._running.variables

    @property
    def supports_jit(self) -> bool:
        return self._running.supports_jit

    def get_config(self) -> dict[str, Any]:
        return {
            "checkpoints": [None if path is None else str(path.resolve()) for path in self.paths],
            "every_epochs": self.every_epochs,
            "boundaries": self.boundaries,
            "outputs": self._running.outputs,
            "batch_size": self._running.batch_size,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The route if its files still exist, else an `AbsentTeacher` that raises when called.

        Raises:
            TeacherError: the files contain another route.
        """
        settings = dict(config)
        expected = settings.pop("fingerprint")
        missing = [path for path in config["checkpoints"] if path is None or not Path(path).exists()]
        if missing:
            return AbsentTeacher(missing[0], config["outputs"], expected)
        route = cls(settings.pop("checkpoints"), **settings)
        check_fingerprint(route, expected)
        return route


class _Selection(keras.callbacks.Callback):
    """Selects the checkpoint of a route before each epoch, and before each batch if it depends on the step."""

    def __init__(self, route: Route):
        super().__init__()
        self._route = route
        self._first_step = 0

    def on_epoch_begin(self, epoch, logs=None):
        iterations = self.model.optimizer.iterations  # current between epochs, on JAX as well
        self._first_step = int(keras.ops.convert_to_numpy(iterations))
        self._route.go_to(self._route.at(epoch=epoch, step=self._first_step))

    def on_train_batch_begin(self, batch, logs=None):
        if self._route.every_epochs is None:
            self._route.go_to(self._route.at(step=self._first_step + batch))


def _members(checkpoints: Any, outputs: str | None) -> list[FrozenTeacher]:
    """The checkpoints as teachers of one architecture."""
    if not isinstance(checkpoints, (list, tuple)) or len(checkpoints) < 2:
        received = f"{len(checkpoints)}" if isinstance(checkpoints, (list, tuple)) else repr(checkpoints)
        raise ConfigurationError(
            explain("A route needs checkpoints.", received=received, expected="a list of at least two models or paths")
        )
    members = [FrozenTeacher(checkpoint, outputs=outputs) for checkpoint in checkpoints]
    first = _architecture(members[0].model)
    for number, member in enumerate(members):
        if _architecture(member.model) != first:
            raise ConfigurationError(
                explain(
                    "The checkpoints of a route belong to one architecture.",
                    received=f"other layers or weights in checkpoint {number} than in checkpoint 0",
                    expected="one model at several times of its training",
                    fix="For teachers of several architectures, see keras_kd.distill_chain.",
                )
            )
    return members


def _architecture(model: keras.Model) -> list[Any]:
    layers = [type(layer).__name__ for layer in all_layers(model)]
    activations = [getattr(getattr(layer, "activation", None), "__name__", None) for layer in all_layers(model)]
    return [layers, activations, [(tuple(weight.shape), str(weight.dtype)) for weight in model.weights]]


def _copy(model: keras.Model) -> keras.Model:
    try:
        return clone(model)
    except ConfigurationError as error:
        raise ConfigurationError(
            explain(
                f"The first checkpoint cannot be copied, and the weights of your model are not exchanged: {error}",
                fix="Pass the paths of .keras files.",
            )
        ) from error


def _boundaries(boundaries: Any, every_epochs: int | None, num_checkpoints: int) -> tuple[int, ...] | None:
    if (boundaries is None) == (every_epochs is None):
        raise ConfigurationError(
            explain(
                "A route changes its checkpoint by epochs or by steps.",
                received=f"every_epochs={every_epochs!r}, boundaries={boundaries!r}",
                expected="one of the two",
            )
        )
    if boundaries is None:
        return None
    is_list = isinstance(boundaries, (list, tuple, np.ndarray))
    steps = tuple(check_integer("boundaries", step, at_least=1) for step in boundaries) if is_list else ()
    if list(steps) != sorted(set(steps)) or len(steps) != num_checkpoints - 1:
        raise ConfigurationError(
            explain(
                "Invalid 'boundaries'.",
                received=repr(boundaries),
                expected=f"{num_checkpoints - 1} increasing steps, one fewer than the checkpoints",
            )
        )
    return steps
