"""Softmax regression representation learning (Yang et al., 2021): the teacher's classifier reads the student."""

from __future__ import annotations

import math
from typing import Any

from keras import initializers, layers, ops

from keras_kd.errors import ConfigurationError, check_choice, check_number, explain
from keras_kd.features import Projector
from keras_kd.features.projectors import ACTIVATIONS, describe_projectors, pool_positions
from keras_kd.losses.base import DistillationLoss, registry, without_padding
from keras_kd.losses.logits import soft_targets
from keras_kd.losses.numerics import upcast
from keras_kd.serialization import deserialize, register, serialize

METRICS = ("mse", "kl")


def softmax_regression(
    teacher_features: Any,
    student_features: Any,
    kernel: Any,
    bias: Any = None,
    *,
    metric: str = "mse",
    feature_weight: float = 1.0,
    regression_weight: float = 1.0,
) -> Any:
    """Compares two models' features, and what the teacher's classifier makes of them.

        feature_weight * mean over channels of (student - teacher)^2
        + regression_weight * distance between the logits  features @ kernel + bias

    The distance is the mean over the classes of the squared difference (`"mse"`, as published), or the KL divergence of
    the softmax (`"kl"`).

    Source: Yang, Martinez, Bulat & Tzimiropoulos, "Knowledge distillation via softmax regression representation
    learning", ICLR 2021, section 3.

    Args:
        teacher_features, student_features: `[batch, channels]`, the inputs of the classifier.
        kernel: `[channels, classes]`, of the teacher's classifier.
        bias: `[classes]`, or None.
        metric: `"mse"` or `"kl"`.
        feature_weight, regression_weight: the weights of the two parts.

    Returns:
        `[batch]`.
    """
    check_choice("metric", metric, METRICS)
    teacher, student, kernel = upcast(teacher_features, student_features, kernel)
    bias = ops.zeros_like(kernel[0]) if bias is None else ops.cast(bias, kernel.dtype)
    matched = ops.mean(ops.square(student - teacher), axis=-1)
    if metric == "mse":  # the bias cancels out
        regressed = ops.mean(ops.square(ops.matmul(student - teacher, kernel)), axis=-1)
    else:
        teacher_logits, student_logits = (ops.matmul(features, kernel) + bias for features in (teacher, student))
        regressed = soft_targets(teacher_logits, student_logits, 1.0)
    return feature_weight * matched + regression_weight * regressed


@register
class FrozenClassifier(layers.Layer):
    """The kernel and bias of a teacher's classifier as weights that are saved but not trained; NaN until set."""

    def __init__(self, *, channels: int, classes: int, name: str = "classifier"):
        super().__init__(name=name, dtype="float32", trainable=False)
        self.channels, self.classes = channels, classes
        unset = initializers.Constant(math.nan)
        self.kernel = self.add_weight(shape=(channels, classes), initializer=unset, trainable=False, name="kernel")
        self.bias = self.add_weight(shape=(classes,), initializer=unset, trainable=False, name="bias")
        self.built = True

    @classmethod
    def copy_of(cls, kernel: Any, bias: Any) -> FrozenClassifier:
        copy = cls(channels=kernel.shape[0], classes=kernel.shape[1])
        copy.kernel.assign(ops.cast(kernel, "float32"))
        copy.bias.assign(ops.zeros(kernel.shape[1]) if bias is None else ops.cast(bias, "float32"))
        return copy

    def get_config(self):
        return {"channels": self.channels, "classes": self.classes, "name": self.name}


@registry.register
class SoftmaxRegression(DistillationLoss):
    """Trains the student's features to be read by the teacher's classifier as the teacher's are.

    See `softmax_regression`. The student's features pass through a learned 1x1 convolution (for vectors and sequences,
    a linear layer) to the teacher's channels, batch normalization and a ReLU, as published, and are averaged over the
    positions. The classifier is copied into the loss when the loss is made: it is saved with the distiller and never
    trained, and works with any teacher that provides the features, a cached one included.

    Args:
        classifier: the teacher's last `keras.layers.Dense`, or its `(kernel, bias)` as arrays, with None for no bias.
            Its activation is not applied.
        teacher: what enters the classifier, `[batch, channels]`, or the map before the average pooling. None is
            `"name:input"` for a Dense layer of that name.
        student: the student's last features, a map or a vector.
        metric: `"mse"` between the logits, or `"kl"`.
        feature_weight, regression_weight: the weights of the two parts, both 1 in the published code.
        projector_activation: `"relu"`, or None for a teacher whose features may be negative.
        options: `name`, `reduction`, see `DistillationLoss`.

    >>> import keras
    >>> classifier = keras.layers.Dense(10, name="logits")
    >>> classifier.build((None, 64))
    >>> loss = SoftmaxRegression(classifier, student="stage_3")
    >>> loss.teacher
    'logits:input'
    >>> value = loss(ops.ones((2, 64)), ops.ones((2, 8, 8, 32)))
    >>> [tuple(weight.shape) for weight in loss.trainable_weights]
    [(1, 1, 32, 64), (64,), (64,)]
    """

    excludes_padding = True

    def __init__(
        self,
        classifier: Any,
        *,
        metric: str = "mse",
        feature_weight: float = 1.0,
        regression_weight: float = 1.0,
        projector_activation: str | None = "relu",
        **options: Any,
    ):
        if isinstance(classifier, layers.Dense) and options.get("teacher") is None:
            options["teacher"] = f"{classifier.name}:input"
        super().__init__(**options)
        self.metric = check_choice("metric", metric, METRICS)
        self.feature_weight = check_number("feature_weight", feature_weight, at_least=0.0)
        self.regression_weight = check_number("regression_weight", regression_weight, at_least=0.0)
        self.projector_activation = check_choice("projector_activation", projector_activation, ACTIVATIONS)
        self._classifier = _frozen(classifier)
        self._project: Projector | None = None

    def build(self, teacher_shape, student_shape):
        self._check(tuple(teacher_shape), tuple(student_shape))
        # the authors' initialization, normal with variance 2 / outputs
        start = initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
        shape = (*student_shape[:-1], teacher_shape[-1])
        self._project = Projector(shape, "conv", activation=self.projector_activation, kernel_initializer=start)
        self._project.build(tuple(student_shape))

    @property
    def projection(self):
        return None if self._project is None else describe_projectors([self._project])

    @property
    def trained_layers(self):
        return [self._classifier]

    def call(self, teacher, student, context):
        included = context.included(student)
        if len(teacher.shape) > 2:
            teacher, _ = without_padding(teacher, student, context)
            teacher = pool_positions(teacher, included)
        student = self._project(student, included=included, training=context.training)
        student = pool_positions(student, self._project.arranged(included))
        weights = {"feature_weight": self.feature_weight, "regression_weight": self.regression_weight}
        kernel, bias = map(ops.convert_to_tensor, (self._classifier.kernel, self._classifier.bias))
        return softmax_regression(teacher, student, kernel, bias, metric=self.metric, **weights)

    def validate_outputs(self, teacher_outputs, student_outputs):
        self._check(tuple(teacher_outputs.shape), tuple(student_outputs.shape))

    def _check(self, teacher: tuple, student: tuple) -> None:
        channels = self._classifier.channels
        fits = 2 <= len(teacher) <= 4 and 2 <= len(student) <= 4 and student[-1] is not None
        if not fits or teacher[-1] != channels:
            raise ConfigurationError(
                explain(
                    f"The loss {self.name!r} needs the features that enter the teacher's classifier.",
                    received=f"teacher {teacher}, student {student}",
                    expected=f"vectors, sequences or maps; {channels} channels of the teacher, as its classifier reads",
                    fix="Name what enters the classifier, such as teacher='logits:input', and the student's features.",
                )
            )

    def get_config(self):
        return {
            **super().get_config(),
            "classifier": serialize(self._classifier),
            "metric": self.metric,
            "feature_weight": self.feature_weight,
            "regression_weight": self.regression_weight,
            "projector_activation": self.projector_activation,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "classifier": deserialize(config["classifier"])})


def _frozen(classifier: Any) -> FrozenClassifier:
    """The classifier's values as fixed weights.

    Raises:
        ConfigurationError: neither a built and unquantized Dense layer, nor a matrix and a vector that fit.
    """
    if isinstance(classifier, FrozenClassifier):  # from a config
        return classifier
    if isinstance(classifier, layers.Dense):
        values = (classifier.kernel, classifier.bias) if classifier.built and not classifier.quantization_mode else None
    else:
        values = classifier if isinstance(classifier, (tuple, list)) and len(classifier) == 2 else None
    values = values and [None if value is None else ops.convert_to_tensor(value) for value in values]
    fits = values and values[0] is not None and len(values[0].shape) == 2
    if not fits or (values[1] is not None and tuple(values[1].shape) != tuple(values[0].shape[1:])):
        raise ConfigurationError(
            explain(
                "Invalid 'classifier'.",
                received=f"shapes {[value if value is None else tuple(value.shape) for value in values]}"
                if values
                else f"a {type(classifier).__name__}",
                expected="a Dense layer that has been built and is not quantized, or (kernel, bias): "
                "[channels, classes] and [classes] or None",
                fix="Pass the teacher's last Dense layer, such as teacher.get_layer('logits').",
            )
        )
    return FrozenClassifier.copy_of(*values)
