"""A student's own averaged or earlier weights as its teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.features import ModelOutputs, find_heads, find_place, forward, inner_taps, output_shapes
from keras_kd.hyperparameters import Hyperparameter
from keras_kd.surgery import clone
from keras_kd.surgery.overlay import Overlay
from keras_kd.teachers.base import Batch, Teacher
from keras_kd.untracked import Untracked


def decay_at(step: Any, decay: Any) -> Any:
    """The decay of the average after `step` updates: `min(1 - 1 / (step + 1), decay)`.

    The first averages are over few weights, so that the initial ones are soon forgotten.

    Source: Tarvainen & Valpola, "Mean teachers are better role models", 2017, and its published code.

    >>> [round(float(decay_at(step, 0.99)), 3) for step in (1, 3, 1000)]
    [0.5, 0.75, 0.99]
    """
    return ops.minimum(1.0 - 1.0 / (ops.cast(step, "float32") + 1.0), decay)


class OtherWeights(keras.layers.Layer):
    """A second value of each float weight of a model, which starts as the weight itself.

    A model that holds this layer saves these values and carries them from step to step, but does not train them.
    """

    def __init__(self, model: keras.Model, **options: Any):
        super().__init__(**{"trainable": False, "dtype": "float32", "autocast": False} | options)
        self._own = Untracked([weight for weight in model.weights if keras.backend.is_float_dtype(weight.dtype)])
        self._others = Untracked([self._copy(index, weight) for index, weight in enumerate(self._own.value)])
        self.built = True

    def _copy(self, index: int, weight: Any) -> Any:
        value = ops.convert_to_numpy(weight)
        return self.add_weight(
            shape=weight.shape,
            dtype=weight.dtype,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype),
            trainable=False,
            aggregation="only_first_replica",
            name=f"weight_{index}",
        )

    def add_readiness(self) -> None:
        """Adds the variable `readiness`, 0 until it is set: whether the second values are worth reading."""
        self.readiness = self.add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="only_first_replica", name="readiness"
        )

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """Each weight of the model with its second value."""
        return list(zip(self._own.value, self._others.value, strict=True))

    def assign(self, function: Any) -> None:
        """Sets each second value to `function(second value, weight)`."""
        for weight, other in self.pairs:
            other.assign(ops.cast(function(ops.convert_to_tensor(other), ops.convert_to_tensor(weight)), other.dtype))


class _SameModel(Teacher):
    """The student run on the second value of its weights, in inference mode."""

    follows_student = True

    def __init__(self, student: keras.Model, outputs: str | None = None):
        self.student = student
        self.state = OtherWeights(student, name="teacher")
        self._heads = find_heads(student, outputs, role="student")

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        places = [find_place(self.student, path, role="teacher") for path in taps]
        with Overlay([(weight, ops.convert_to_tensor(other)) for weight, other in self.state.pairs]):
            _, logits, inner = forward(self.student, self._heads, batch.x, places=places)
        return keras.tree.map_structure(ops.stop_gradient, ModelOutputs(logits, inner))

    def as_model(self) -> keras.Model:
        """A copy of the student, with these weights.

        Raises:
            ConfigurationError: a student that cannot be copied, such as a subclassed model.
        """
        copy, others = clone(self.student), {id(weight): other for weight, other in self.state.pairs}
        for weight, own in zip(self.student.weights, copy.weights, strict=True):
            own.assign(ops.copy(others.get(id(weight), weight)))
        return copy

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        return inner_taps(self.student, names, role="teacher")

    @property
    def output_shapes(self) -> dict[str, tuple[int | None, ...]] | None:
        return output_shapes(self.student)

    def get_config(self) -> dict[str, Any]:
        return {}  # made again from the student

    @property
    def activations(self) -> dict[str, str]:
        return {name: head.activation for name, head in self._heads.items()}


class AveragedWeights(_SameModel):
    """The exponential moving average of the student's weights, moving statistics included.

        average <- d * average + (1 - d) * weight,  d = decay_at(step, decay)

    after each update. The teacher runs in inference mode.

    Source: Tarvainen & Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve
    semi-supervised deep learning results", 2017.

    Args:
        student: a built model.
        decay: a number from 0 to 1, or a schedule.
        outputs: as `student_outputs` of a `Distiller`.
    """

    def __init__(self, student: keras.Model, decay: Any = 0.999, outputs: str | None = None):
        super().__init__(student, outputs)
        self._decay = Hyperparameter("decay", decay, at_least=0.0, at_most=1.0)

    def after_update(self, step: Any) -> None:
        """Adds the student's weights to the average, after `step` updates."""
        decay = decay_at(step, self._decay.at(step))
        self.state.assign(lambda average, weight: decay * average + (1.0 - decay) * weight)

    @property
    def variables(self) -> list[Any]:
        return [self._decay.variable]

    @property
    def traced_settings(self) -> Any:
        return self._decay.schedule

    @property
    def fingerprint(self) -> str:
        return f"averaged weights, decay {self._decay.get_config()}"


class EarlierWeights(_SameModel):
    """The student's weights at the end of its previous epoch; without a part in the loss of the first.

    The epochs are those of `Distiller.fit`; a loop of your own calls `end_epoch`.

    Source: Kim, Ji, Yoon & Hwang, "Self-Knowledge Distillation with Progressive Refinement of Targets", 2021.

    Args:
        student: a built model.
        outputs: as `student_outputs` of a `Distiller`.
    """

    follows_student = False  # within an epoch

    def __init__(self, student: keras.Model, outputs: str | None = None):
        super().__init__(student, outputs)
        self.state.add_readiness()

    def end_epoch(self) -> None:
        """Takes over the student's weights."""
        self.state.assign(lambda earlier, weight: ops.copy(weight))  # JAX may not share a buffer that it donates
        self.state.readiness.assign(1.0)

    def callbacks(self) -> list[Any]:
        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.end_epoch())]

    @property
    def readiness(self) -> Any:
        return ops.convert_to_tensor(self.state.readiness)

    @property
    def fingerprint(self) -> str:
        return "weights of the previous epoch"
