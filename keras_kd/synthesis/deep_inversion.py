"""Images from a trained classifier alone: DeepInversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.distillers.checks import check_backend, training_step
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.features import Place, find_heads, forward
from keras_kd.features.paths import layers_by_path
from keras_kd.progress import bar
from keras_kd.synthesis.objectives import agreement, batch_norm_loss, total_variation

BETAS, EPSILON = (0.9, 0.999), 1e-8


class DeepInversion:
    """Optimizes noise until a teacher takes it for images of given classes with the statistics of its training data.

        loss = cross_entropy + batch_norm * batch_norm_loss + variation * total_variation + l2 * ||images||
               + competition * mean(agreement with the student)

    Each batch of images is optimized by itself, by Adam; in each step the images are moved by up to `shift` pixels and,
    with `flip`, in half of the steps, flipped. Without batch normalization, the statistics are unknown: the images are
    then noise that the teacher is sure of, and `batch_norm` must be 0.

    Source: Yin, Molchanov, Li, Alvarez, Mallya, Hoiem, Jha & Kautz, "Dreaming to Distill: Data-free Knowledge Transfer
    via DeepInversion", 2020; the defaults are those of its published code for CIFAR-10, which returns the images of the
    last step, as here. The competition is that of the paper; the code clips the probabilities to 0.01 to 0.99.

    Args:
        teacher: a Keras classifier of images, with one input and one output.
        student: a Keras model: `competition` then favors images on which it disagrees with the teacher (Adaptive
            DeepInversion).
        steps: of the optimization of each batch.
        learning_rate: of Adam.
        batch_norm, variation, l2, competition: the weights, at least 0.
        shift: the largest shift, in pixels.
        flip: whether to flip images.
        batch_size: images that are optimized at once: their statistics are compared with the stored ones.
        value_range: the smallest and the largest value of an image, to which they are clipped in the end; None does
            not clip.
        outputs: `"logits"` or `"probabilities"`, if the teacher's last layer does not determine it.

    Raises:
        ConfigurationError: settings out of range, a teacher without a fixed image size, or without batch normalization
            while `batch_norm` is not 0.
    """

    def __init__(
        self,
        teacher: keras.Model,
        *,
        student: keras.Model | None = None,
        steps: int = 2000,
        learning_rate: float = 0.1,
        batch_norm: float = 100.0,
        variation: float = 2.5e-5,
        l2: float = 0.0,
        competition: float = 0.0,
        shift: int = 2,
        flip: bool = False,
        batch_size: int = 256,
        value_range: tuple[float, float] | None = None,
        outputs: str | None = None,
    ):
        check_backend()
        self.teacher, self.student, self.flip, self.value_range = teacher, student, bool(flip), value_range
        self.steps = check_integer("steps", steps, at_least=1)
        self.shift = check_integer("shift", shift, at_least=0)
        self.batch_size = check_integer("batch_size", batch_size, at_least=2)
        self.learning_rate = check_number("learning_rate", learning_rate, at_least=1e-12)
        weights = {"batch_norm": batch_norm, "variation": variation, "l2": l2, "competition": competition}
        self._weights = {name: check_number(name, value, at_least=0.0) for name, value in weights.items()}
        self._shape, self._num_classes = _shapes(teacher)
        self._heads = find_heads(teacher, outputs, role="teacher")
        self._student_heads = None if student is None else find_heads(student, role="student")
        self._norms = {
            path: layer
            for path, layer in layers_by_path(teacher).items()
            if isinstance(layer, keras.layers.BatchNormalization)
        }
        self._check()

    def images(self, num_images: int, *, labels: Any = None, seed: int = 0, progress: bool = True) -> tuple[Any, Any]:
        """Images and the classes that they were made for.

        Args:
            num_images: how many.
            labels: class numbers `[n]`; None takes each class equally often, in random order.
            seed: of the noise, the labels and the shifts; the same seed gives the same images.
            progress: whether to show a bar.

        Returns:
            float32 `[n, height, width, channels]` and int64 `[n]`.
        """
        total = self.num_batches(num_images) * self.steps
        with bar("images", total, unit="steps", shown=progress, after_seconds=2.0) as advance:
            made = list(self.batches(num_images, labels=labels, seed=seed, advance=advance))
        images, labels = zip(*made, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    def num_batches(self, num_images: int) -> int:
        """The number of batches in which this many images are optimized."""
        return -(-check_integer("num_images", num_images, at_least=1) // self.batch_size)

    def batches(
        self,
        num_images: int,
        *,
        labels: Any = None,
        seed: int = 0,
        first: int = 0,
        advance: Callable[[int], None] = lambda steps: None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The images and classes of `images`, batch by batch, for a long synthesis that is to be resumed.

        Args:
            num_images, labels, seed: as for `images`.
            first: the number of the batch to begin with; those from there are the same as without it.
            advance: receives the number of finished steps.
        """
        check_integer("num_images", num_images, at_least=1)
        check_integer("first", first, at_least=0)
        labels = self._labels(num_images, labels, seed)
        step = training_step().compiled(self._step, self._variables())
        for number in range(first, self.num_batches(num_images)):
            part = labels[number * self.batch_size : (number + 1) * self.batch_size]
            made = self._optimized(part, np.random.default_rng([seed, number]), step, advance)[: len(part)]
            yield (made if self.value_range is None else made.clip(*self.value_range)), part

    def _optimized(self, labels: Any, random: Any, step: Callable, advance: Callable) -> np.ndarray:
        """A batch of images after all steps."""
        batch = np.resize(labels, max(2, len(labels)))  # the statistics of a single image are none
        images = ops.convert_to_tensor(random.normal(size=(len(batch), *self._shape)).astype("float32"))
        first, second = ops.zeros_like(images), ops.zeros_like(images)
        one_hot = ops.one_hot(batch, self._num_classes, dtype="float32")
        for count in range(1, self.steps + 1):
            moves = random.integers(-self.shift, self.shift + 1, size=2).astype("int32")
            flipped = bool(self.flip and random.random() < 0.5)
            images, first, second = step(images, first, second, one_hot, moves, np.bool_(flipped), np.float32(count))
            advance(1)
        return ops.convert_to_numpy(images)

    def _step(self, images: Any, first: Any, second: Any, one_hot: Any, moves: Any, flipped: Any, count: Any) -> Any:
        """One step of Adam on the images."""
        gradient = training_step().input_gradient(lambda x: self.loss(self._moved(x, moves, flipped), one_hot), images)
        first = BETAS[0] * first + (1.0 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1.0 - BETAS[1]) * ops.square(gradient)
        mean, scale = first / (1.0 - BETAS[0] ** count), second / (1.0 - BETAS[1] ** count)
        return images - self.learning_rate * mean / (ops.sqrt(scale) + EPSILON), first, second

    def _moved(self, images: Any, moves: Any, flipped: Any) -> Any:
        """The images, moved by some pixels (what leaves on one side enters on the other) and flipped."""
        height, width = self._shape[:2]
        rows = ops.mod(ops.arange(height, dtype="int32") + moves[0], height)
        columns = ops.mod(ops.arange(width, dtype="int32") + moves[1], width)
        columns = ops.where(flipped, columns[::-1], columns)
        return ops.take(ops.take(images, rows, axis=1), columns, axis=2)

    def loss(self, images: Any, one_hot: Any) -> Any:
        """The loss of a batch, a scalar.

        Args:
            images: `[batch, height, width, channels]`.
            one_hot: the classes that they are made for, `[batch, classes]`.
        """
        places = [Place(f"{path}:input", layer, "input") for path, layer in self._norms.items()]
        weights = self._weights
        if not weights["batch_norm"]:
            places = []
        _, outputs, taps = forward(self.teacher, self._heads, images, places=places)
        (logits,) = outputs.values()
        total = ops.mean(-ops.sum(one_hot * ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1))
        if places:
            means, variances = zip(
                *((one.moving_mean, one.moving_variance) for one in self._norms.values()), strict=True
            )
            total += weights["batch_norm"] * batch_norm_loss(list(taps.values()), means, variances)
        total += weights["variation"] * total_variation(images)
        total += weights["l2"] * ops.sqrt(ops.sum(ops.square(images)) + 1e-12)
        if self.student is not None and weights["competition"]:
            _, own, _ = forward(self.student, self._student_heads, images)
            total += weights["competition"] * ops.mean(agreement(logits, next(iter(own.values()))))
        return total

    def _variables(self) -> list[Any]:
        return [*self.teacher.variables, *(self.student.variables if self.student is not None else [])]

    def _labels(self, count: int, labels: Any, seed: int) -> np.ndarray:
        if labels is None:
            even = np.arange(count) % self._num_classes
            return np.random.default_rng([seed, count]).permutation(even).astype("int64")
        labels = np.asarray(labels)
        is_class = labels.shape == (count,) and labels.dtype.kind in "iu" and labels.size
        if not is_class or labels.min() < 0 or labels.max() >= self._num_classes:
            raise ConfigurationError(
                explain(
                    "Invalid labels.",
                    received=f"{labels.dtype} of shape {labels.shape}",
                    expected=f"{count} whole numbers from 0 to {self._num_classes - 1}",
                )
            )
        return labels.astype("int64")

    def _check(self) -> None:
        if self._weights["batch_norm"] and not self._norms:
            raise ConfigurationError(
                explain(
                    "The teacher has no batch normalization, so it stores no statistics of its training data.",
                    received=f"{self.teacher.name!r}, batch_norm={self._weights['batch_norm']:g}",
                    expected="a teacher with batch normalization, or batch_norm=0, which makes images that only the "
                    "teacher recognizes",
                )
            )
        if self._weights["competition"] and self.student is None:
            raise ConfigurationError(explain("The competition needs a student.", received="student=None"))


def _shapes(teacher: Any) -> tuple[tuple[int, int, int], int]:
    """The shape of an image, and the number of classes."""
    shape = tuple(getattr(teacher, "input_shape", None) or ()) if isinstance(teacher, keras.Model) else ()
    output = getattr(teacher, "output_shape", None) if shape else None
    is_image = len(shape) == 4 and None not in shape[1:]
    if not is_image or not isinstance(output, tuple) or len(output) != 2 or output[-1] < 2:
        raise ConfigurationError(
            explain(
                "DeepInversion needs a classifier of images of a fixed size.",
                received=f"a {type(teacher).__name__} from {shape or 'unknown'} to {output}",
                expected="a Keras model from (None, height, width, channels) to (None, classes)",
            )
        )
    return shape[1:], output[-1]
