"""The training step on the JAX backend: gradient, loss scale, update, and the state passed into a compiled step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import keras

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features.tracing import trace
from keras_kd.keras_private import all_layers, clear_losses, compiled_loss, compiled_metrics
from keras_kd.untracked import Untracked

State = tuple[list[Any], list[Any], list[Any], list[Any]]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["frozen", "data"], meta_fields=["trace"])
@dataclasses.dataclass(frozen=True)
class FedBatch:
    """A batch, with the values that the step reads but never changes.

    They are passed in with the batch because Keras donates the buffers of its own four groups of state.

    Attributes:
        frozen: the values of the distiller's frozen variables.
        data: an item of a Keras iterator.
        trace: identifies the train function. `jax.jit` reuses the program of an equal function, which a bound method
            is, for equal static arguments: without this a function made again would not be traced again.
    """

    frozen: list[Any]
    data: Any
    trace: Any = None


class TrainingStep:
    """The methods of a `Distiller` that Keras calls on JAX. Every variable read by a step is a program argument."""

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force=True)
            self._passed_in = Untracked(self.frozen_state)
            self.train_function = _with_frozen_state(self, self.train_function)

    def attach_state(self, state, iterator):
        """Assigns the state to the variables, which Keras empties during an epoch and reads to make a function."""
        _put_back(self, state)

    @staticmethod
    def input_gradient(function, x):
        """The gradient of a scalar function at `x`; what the function assigns to variables is dropped."""

        def inside(x):
            with _Discarding():
                return function(x)

        return jax.grad(inside)(x)

    @staticmethod
    def compiled(function, variables):
        """A compiled function of tensors that reads `variables`, whose values are arguments of the program."""

        @jax.jit
        def program(values, *inputs):
            with keras.StatelessScope(_pairs(variables, values)):
                return function(*inputs)

        return lambda *inputs: program([variable.value for variable in variables], *inputs)

    def train_step(self, state, data):
        """Takes one step, from `(state, batch)` to `(logs, new state)`, with the state in Keras' order."""
        trainable, non_trainable, optimizer_state, metrics = state
        frozen, data = (data.frozen, data.data) if isinstance(data, FedBatch) else ([], data)
        batch = self.prepare_batch(data)
        self._check_labels_are_known(batch)
        passed_in = _pairs(self._passed_in.value, frozen) if frozen else []
        fixed = [
            *passed_in,
            *_pairs(self.non_trainable_variables, non_trainable),
            *_pairs(self.optimizer.variables, optimizer_state),
        ]
        unknown: dict[int, Any] = {}
        with _Scope([*fixed, *_pairs(self.trainable_variables, trainable)], unknown):
            batch, targets = self.attack(batch, self.teach(batch), step=self.optimizer.iterations)

        reached: set[int] = set()

        def scaled_loss(trainable):
            recorded = [_recorded(value, index, reached) for index, value in enumerate(trainable)]
            mapping = [
                *fixed,
                *_pairs(self.trainable_variables, recorded),
                *_pairs(self.metrics_variables, metrics),  # the compiled loss tracks a mean per output
            ]
            with _Scope(mapping, unknown) as scope:
                clear_losses(self)
                parts = self.loss_and_parts(batch, targets, step=self.optimizer.iterations)
                scaled = self.optimizer.scale_loss(parts.loss)
            return scaled, (
                parts,
                scope.values(self.non_trainable_variables),
                scope.values(self.metrics_variables),
            )

        gradients, (parts, non_trainable, metrics) = jax.grad(scaled_loss, has_aux=True)(trainable)
        if unknown and frozen:
            raise _NotPassedIn(list(unknown.values()))
        if trainable:
            gradients = [gradient if index in reached else None for index, gradient in enumerate(gradients)]
            trainable, optimizer_state = self.optimizer.stateless_apply(optimizer_state, gradients, trainable)
        with _Scope([*passed_in, *self._state(trainable, non_trainable, optimizer_state)], unknown) as scope:
            self.after_update()
        non_trainable = scope.values(self.non_trainable_variables)
        with _Scope(_pairs(self.metrics_variables, metrics), unknown) as scope:
            logs = self.update_logs(batch, parts)
        return logs, (trainable, non_trainable, optimizer_state, scope.values(self.metrics_variables))

    def _state(self, trainable, non_trainable, optimizer_state):
        """The variables of a step that change, with their values."""
        return [
            *_pairs(self.trainable_variables, trainable),
            *_pairs(self.non_trainable_variables, non_trainable),
            *_pairs(self.optimizer.variables, optimizer_state),
        ]

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Creates all variables from the shapes of the first batch, since a compiled step cannot create any."""
        if not self._needs_a_batch():
            super()._symbolic_build(iterator, data_batch)
            return
        data_batch = _first(iterator) if data_batch is None else data_batch
        batch = self.prepare_batch(data_batch)
        if batch.y is None:
            trace(self, batch.x)
        else:
            super()._symbolic_build(data_batch=tuple(part for part in batch[:3] if part is not None))
        if self.teacher.output_shapes is None or not all(term.built for term in self.terms):
            with contextlib.suppress(TeacherError):  # the step raises it
                trace(self._symbolic_step, tuple(part for part in data_batch if part is not None))
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def _needs_a_batch(self):
        labeled = (compiled_metrics(self), compiled_loss(self))
        return (
            not self._student_is_known
            or not all(layer.built for layer in all_layers(self))
            or any(part is not None and not part.built for part in labeled)
        )

    def _symbolic_step(self, data):
        batch = self.batch_of(data)
        batch, targets = self.attack(batch, self.teach(batch), step=self.optimizer.iterations)
        return self.loss_and_parts(batch, targets, step=self.optimizer.iterations).loss

    def _check_labels_are_known(self, batch):
        """Raises `ConfigurationError` if labels first appear after the variables were created."""
        metrics = compiled_metrics(self)
        if batch.y is not None and metrics is not None and not metrics.built:
            raise ConfigurationError(
                explain(
                    "The first batch had no labels, and a later one has.",
                    received="a labeled batch after an unlabeled one, and compiled metrics",
                    expected="a labeled batch first, from which the variables of the metrics are made on JAX",
                    fix="Reorder the batches, or call distiller.test_on_batch(x, y) with one labeled batch first.",
                )
            )


class _Scope(keras.StatelessScope):
    """A scope that records in `unknown` the variables that are read without a value passed in.

    Their values would become constants of the compiled program, and later changes would have no effect.
    """

    def __init__(self, mapping: list[tuple[Any, Any]], unknown: dict[int, Any]):
        super().__init__(mapping, collect_losses=True)
        self._unknown = unknown

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None:
            self._unknown[id(variable)] = variable
        return value

    def values(self, variables: Iterable[Any]) -> list[Any]:
        """The values of variables, including updates made in the scope."""
        return [self.get_current_value(variable) for variable in variables]


class _Discarding(keras.StatelessScope):
    """A scope that reads through to the enclosing one, and drops assignments when it ends.

    The enclosing scope would keep values of a gradient's or a loop's inner trace, which must not leave it.
    """

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value


class _NotPassedIn(Exception):
    """A step read variables that are not arguments of the program."""

    def __init__(self, variables: list[Any]):
        super().__init__(", ".join(variable.path for variable in variables))
        self.variables = variables


def _recorded(value: Any, index: int, reached: set[int]) -> Any:
    """The value, unchanged; adds `index` to `reached` when a gradient flows back to it.

    The gradient of a variable without a path to the loss is None on TensorFlow, and Keras' optimizers leave the
    variable as it is. JAX returns zeros, with which weight decay and momentum would change it.
    """

    def backward(_, gradient):
        reached.add(index)
        return (gradient,)

    identity = jax.custom_vjp(lambda value: value)
    identity.defvjp(lambda value: (value, None), backward)
    return identity(value)


def _with_frozen_state(distiller: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A train function that passes in the current values of the frozen variables with each batch.

    If a step fails before it runs (wrong shapes, a missing teacher), the values that Keras took out of the variables
    are restored.
    """

    frozen, trace = distiller._passed_in.value, object()
    _place(frozen)

    def train_function(state: State, iterator: Iterator[Any]) -> tuple[Any, State]:
        seen: list[Any] = []
        try:
            while True:
                _own_buffers(frozen, state)
                try:
                    values = [variable.value for variable in frozen]
                    return function(state, (FedBatch(values, data, trace) for data in _batches(iterator, seen)))
                except _NotPassedIn as error:  # the first time the step is traced
                    frozen.extend(error.variables)
        except BaseException:
            _put_back(distiller, state)
            raise

    return train_function


def _batches(iterator: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    """The batches `seen` in an earlier attempt, then those of the iterator, which are added to `seen`."""
    yield from tuple(seen)
    for data in iterator:
        seen.append(data)
        yield data


def _put_back(distiller: Any, state: State) -> None:
    groups = (
        distiller.trainable_variables,
        distiller.non_trainable_variables,
        distiller.optimizer.variables,
        distiller.metrics_variables,
    )
    for variables, values in zip(groups, state, strict=True):
        for variable, value in zip(variables, values, strict=len(variables) == len(values)):
            if not value.is_deleted():
                variable.assign(value)


def _place(variables: Iterable[Any]) -> None:
    """Moves variables that were created before `keras.distribution.set_distribution` to all of its devices."""
    distribution = keras.distribution.distribution()
    for variable in variables if distribution is not None else ():
        if isinstance(variable.value.sharding, jax.sharding.SingleDeviceSharding):
            layout = distribution.get_variable_layout(variable)
            variable.assign(keras.distribution.distribute_tensor(variable.value, layout))


def _own_buffers(frozen: Iterable[Any], state: State) -> None:
    """Copies frozen values that share a buffer with the state (`assign` shares), since the state's are donated."""
    donated = {id(value) for group in state for value in group}
    for variable in frozen:
        if id(variable.value) in donated:
            variable.assign(jax.numpy.copy(variable.value))


def _first(iterator: Any) -> Any:
    """The first batch of a Keras epoch iterator, which Keras resets afterwards.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        _, _, batches = next(iter(iterator))
        return batches[0] if isinstance(batches, (list, tuple)) else next(batches)
    except StopIteration:
        raise ConfigurationError(
            explain("The data have no batches.", received="no examples", expected="at least one example")
        ) from None


def _pairs(variables: Iterable[Any], values: Iterable[Any]) -> list[tuple[Any, Any]]:
    return list(zip(variables, values, strict=True))
