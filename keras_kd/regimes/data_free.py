"""`DataFreeDistiller`: a student that learns from images which a generator makes for its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.adversaries.ascent import SeedAt
from keras_kd.distillers import Distiller
from keras_kd.distillers.contract import LogValue
from keras_kd.distillers.defaults import TermsBeside
from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features import ModelOutputs, forward
from keras_kd.losses import DistillationLoss
from keras_kd.losses.reduction import PerExample, Reduction
from keras_kd.regimes.grouped_optimizer import GroupedOptimizer
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import Batch, as_teacher

NO_DATA = "examples without data"


@register
class DataFreeDistiller(Distiller):
    """Distills a teacher without any data, from images of a generator that is trained in the same steps.

        distiller = kd.DataFreeDistiller(teacher, student, synthesizer=kd.synthesis.DAFL(features="pool"))
        distiller.compile("adam", synthesizer_optimizer=keras.optimizers.Adam(1e-3))
        distiller.fit(epochs=50, steps_per_epoch=120, batch_size=256, validation_data=(x_val, y_val))

    In each step, noise becomes images; the losses of the synthesizer train the generator through the teacher, and the
    terms train the student on these images, which have no gradient there. The noise depends on `seed` and the
    optimizer's step alone, so a resumed training repeats it. The logs contain the losses of the synthesizer.

    A synthesizer with several `student_steps` takes a step in one of so many: its optimizer accumulates gradients that
    are zero in the other steps. There its loss in the logs is 0; in its own step, the loss is multiplied by their
    number, so the logs are means over the steps of the generator.

    Sources: Chen et al., "Data-Free Learning of Student Networks", 2019; Micaelli & Storkey, "Zero-shot Knowledge
    Transfer via Adversarial Belief Matching", 2019.

    Args:
        teacher: a Keras classifier of images, the path of its `.keras` file, or a `FrozenTeacher`.
        student: the Keras model to train, on inputs of the same shape.
        synthesizer: `keras_kd.synthesis.DAFL`, `keras_kd.synthesis.ZSKT`, or another `keras_kd.synthesis.Synthesizer`.
        temperature, losses, student_outputs: as for `Distiller`; the default temperature of 1 is that of the papers.
        seed: of the noise.

    Raises:
        ConfigurationError: a generator that does not make the teacher's inputs, models with different inputs, a teacher
            without a gradient to its inputs or that is not a classifier, or `losses` beside those of the synthesizer;
            in `fit`, several replicas.
    """

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        *,
        synthesizer: Any,
        temperature: Any = 1.0,
        losses: Any = None,
        student_outputs: str | None = None,
        seed: int = 0,
        name: str = "data_free_distiller",
    ):
        teacher = as_teacher(teacher)
        self._shape = _image_shape(teacher, student)
        kept = synthesizer.terms(_num_classes(teacher))
        _check_losses(losses, kept)
        synthesizer.prepare(self._shape)
        super().__init__(
            teacher,
            student,
            alpha=1.0,
            temperature=temperature,
            losses=TermsBeside(kept) if losses is None else losses,
            student_outputs=student_outputs,
            name=name,
        )
        self.generator = synthesizer.generator
        self.seed = check_integer("seed", seed, at_least=0)
        self._synthesizer = synthesizer
        teacher.inner_taps(synthesizer.taps)  # raises for a layer that does not exist
        self._take_terms(self.terms)

    @property
    def regime_settings(self) -> dict[str, Any]:
        """The settings with which `Resume` identifies a training."""
        return {"seed": self.seed, **{k: v for k, v in self._synthesizer.get_config().items() if k != "generator"}}

    @property
    def _more_logs(self):
        own = getattr(self, "_synthesizer", None)
        return [*super()._more_logs, *(own.names if own is not None else [])]

    def compile(self, optimizer="adam", loss=None, *, synthesizer_optimizer="adam", **settings):
        """As `Distiller.compile`; the `loss` and metrics apply to validation data alone.

        Args:
            synthesizer_optimizer: of the generator. With several `student_steps`, its `gradient_accumulation_steps` is
                set to their number.

        Raises:
            ConfigurationError: an optimizer of the student that accumulates gradients, which would be of images from
                the same noise; or one of the generator that cannot accumulate them over a round.
        """
        if not isinstance(optimizer, GroupedOptimizer):
            optimizer = GroupedOptimizer([optimizer, synthesizer_optimizer])
        _follow_rounds(*optimizer.optimizers, self._synthesizer.student_steps)
        optimizer.groups = lambda: [self.student.trainable_variables, self.generator.trainable_variables]
        super().compile(optimizer=optimizer, loss=loss, **settings)

    def fit(self, x=None, *, batch_size=256, steps_per_epoch=None, **settings):
        """As `keras.Model.fit`, without data: `steps_per_epoch` steps on `batch_size` images each."""
        if x is not None or steps_per_epoch is None:
            raise ConfigurationError(
                explain(
                    "This distiller makes its own images.",
                    received="x=..." if x is not None else "steps_per_epoch=None",
                    expected="fit(epochs=50, steps_per_epoch=120, batch_size=256)",
                    fix="With data, use a Distiller.",
                )
            )
        strategy = getattr(self, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ConfigurationError(
                explain(
                    "Each replica would make the same images, since the noise follows from the seed and the step.",
                    received=f"a strategy with {strategy.num_replicas_in_sync} replicas",
                    expected="one device",
                )
            )
        steps = check_integer("steps_per_epoch", steps_per_epoch, at_least=1)
        size = check_integer("batch_size", batch_size, at_least=2)
        x = {NO_DATA: np.zeros((size * steps, 1), "float32")}
        return super().fit(x, batch_size=size, shuffle=False, **settings)

    def images(self, num_images: int, seed: int = 0) -> np.ndarray:
        """Images of the generator as it is now, `[n, height, width, channels]`."""
        noise = np.random.default_rng(seed).normal(size=(num_images, self._synthesizer.latent_size))
        return self.generator.predict(noise.astype("float32"), verbose=0)

    # The step.

    def batch_of(self, data: Any) -> Batch:
        batch = super().batch_of(data)
        if not isinstance(batch.x, dict) or NO_DATA not in batch.x:
            return batch
        return batch._replace(x=ops.zeros((ops.shape(batch.x[NO_DATA])[0], *self._shape)))

    def teach(self, batch: Batch) -> ModelOutputs:
        """Nothing: the images are made in the step, where the generator has a gradient."""
        return ModelOutputs({})

    def loss_and_parts(self, batch, targets, *, step, studied=None):
        images = self._draw(batch, step)
        taps = [*dict.fromkeys([*self._synthesizer.taps, *self._teacher_taps])]
        answered = self.teacher.differentiable(images, taps)
        fixed = keras.tree.map_structure(ops.stop_gradient, ModelOutputs(*answered))
        student = self._fixed_student(images) if self._synthesizer.reads_student else None
        own = self._synthesizer.losses(answered, student, self._temperature.at(step))
        own = {name: value * self._share(step) for name, value in own.items()}
        parts = super().loss_and_parts(batch._replace(x=ops.stop_gradient(images)), fixed, step=step, studied=studied)
        reduced = {name: Reduction(name=name)(PerExample(value)) for name, value in own.items()}
        size, loss = parts.logs["loss"].size, parts.loss + sum(reduced.values())
        logs = {name: LogValue(value, size) for name, value in {**reduced, "loss": loss}.items()}
        return parts._replace(loss=loss, logs=parts.logs | logs)

    def _draw(self, batch: Batch, step: Any) -> Any:
        return self.generator(self._noise(batch, step), training=True)

    def _noise(self, batch: Batch, step: Any) -> Any:
        """The noise of a round, the same in all its steps."""
        start = ops.maximum(step - self._place_in_round(step), 0)
        shape = (ops.shape(batch.x)[0], self._synthesizer.latent_size)
        return keras.random.normal(shape, seed=SeedAt(self.seed, start))

    def _place_in_round(self, step: Any) -> Any:
        """0 for the first step of a round, with which an accumulation of gradients ends, then 1 and so on."""
        return ops.mod(ops.convert_to_tensor(step) + 1, self._synthesizer.student_steps)

    def _share(self, step: Any) -> Any:
        """The factor of the generator's losses: the length of a round in its first step, 0 in the others."""
        is_first = ops.equal(self._place_in_round(step), 0)
        return ops.cast(is_first, "float32") * self._synthesizer.student_steps

    def _fixed_student(self, images: Any) -> ModelOutputs:
        """The student's logits in training mode, with a gradient to the images alone; its state does not change."""
        fixed = [(variable, ops.stop_gradient(variable)) for variable in self.student.variables]
        with keras.StatelessScope(fixed):
            _, logits, _ = forward(self, self._heads, images, training=True)
        return ModelOutputs(logits)

    def get_config(self):
        config = super().get_config()
        names = ("name", "teacher", "student", "temperature", "losses", "losses_are_default", "student_outputs")
        return {name: config[name] for name in names} | {"synthesizer": serialize(self._synthesizer), "seed": self.seed}

    @classmethod
    def from_config(cls, config):
        settings = {name: deserialize(value) for name, value in config.items()}
        if settings.pop("losses_are_default"):
            del settings["losses"]
        return cls(**settings)


def _image_shape(teacher: Any, student: Any) -> tuple[int, ...]:
    """The shape of an input of both models."""
    if not teacher.is_differentiable:
        raise ConfigurationError(
            explain(
                "Without data, the teacher must have a gradient to its inputs.",
                received=type(teacher).__name__,
                expected="a Keras model, or a FrozenTeacher",
            )
        )
    shapes = [getattr(model, "input_shape", None) for model in (teacher.model, student)]
    if shapes[0] is None or shapes[0] != shapes[1] or None in shapes[0][1:]:
        raise ConfigurationError(
            explain(
                "Teacher and student need inputs of the same, fixed shape.",
                received=f"teacher {shapes[0]}, student {shapes[1]}",
                expected="(None, height, width, channels) for both",
            )
        )
    return tuple(shapes[0][1:])


def _num_classes(teacher: Any) -> int:
    """The classes of a teacher."""
    shapes, ends = teacher.output_shapes or {}, teacher.activations
    sizes = [shape[-1] for shape in shapes.values() if len(shape) == 2]
    if len(shapes) != 1 or len(sizes) != 1 or sizes[0] < 2 or "sigmoid" in ends.values():
        raise ConfigurationError(
            explain(
                "Without data, the teacher must be a classifier of exclusive classes.",
                received=f"outputs {shapes}, which end in {', '.join(ends.values()) or 'unknown'}",
                expected="one output (None, classes), of logits or after a softmax, with at least 2 classes",
            )
        )
    return sizes[0]


def _check_losses(losses: Any, kept: Sequence[DistillationLoss]) -> None:
    if losses is not None and kept:
        raise ConfigurationError(
            explain(
                "The synthesizer has terms for the student, and so have the 'losses'.",
                received=f"{', '.join(term.name for term in kept)} beside losses=...",
                expected="either",
                fix="Put kd.losses.AttentionTransfer in the list, and leave 'attention' of the synthesizer out.",
            )
        )


def _follow_rounds(student: Any, generator: Any, num_steps: int) -> None:
    """Makes the optimizer of the generator accumulate its gradients over a round."""
    if student.gradient_accumulation_steps:
        raise ConfigurationError(
            explain(
                "The noise follows the student's updates, so accumulated gradients would be of the same images.",
                received=f"gradient_accumulation_steps={student.gradient_accumulation_steps}",
                expected="an optimizer of the student that does not accumulate gradients",
                fix="Use a larger batch_size.",
            )
        )
    given = generator.gradient_accumulation_steps
    if num_steps == 1 or given == num_steps:
        return
    if given or generator.built:
        raise ConfigurationError(
            explain(
                f"The generator takes one step for {num_steps} of the student.",
                received=f"gradient_accumulation_steps={given}" if given else "an optimizer that has been used before",
                expected="a new optimizer without gradient_accumulation_steps",
            )
        )
    generator.gradient_accumulation_steps = num_steps
