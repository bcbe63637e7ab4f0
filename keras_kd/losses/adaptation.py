"""Knowledge adaptation (He et al., 2019): matches a compressed code of the teacher's feature map."""

from __future__ import annotations

from typing import Any

from keras import layers, ops

from keras_kd.errors import ConfigurationError, check_choice, check_integer, check_number, explain
from keras_kd.features.projectors import BATCH_NORM, normalize, published_uniform, resize_map
from keras_kd.losses.affinity import affinity_kd
from keras_kd.losses.base import DistillationLoss, registry
from keras_kd.losses.feature_maps import check_feature_maps
from keras_kd.losses.numerics import l2_normalize, safe_sqrt, upcast
from keras_kd.losses.reconstruction import NUM_LAYERS, AutoEncoder, reconstruction
from keras_kd.losses.reduction import expand_like, refuse_padding
from keras_kd.losses.trained import fixed_copy, unset
from keras_kd.serialization import deserialize, serialize


def adaptation(code: Any, adapted: Any, norm: int = 1) -> Any:
    """The mean over the positions of `||adapted / ||adapted||_2 - code / ||code||_2||_norm`, norms over the channels.

    A position of zeros stays zero. torchdistill normalizes the map as one vector and averages over the channels too.

    Source: He et al., "Knowledge Adaptation for Efficient Semantic Segmentation", 2019, section 3.1.

    Args:
        code, adapted: `[batch, ..., channels]`, of equal shape.
        norm: 1 or 2, the paper's p.

    Returns:
        `[batch]`.
    """
    code, adapted = (l2_normalize(features) for features in upcast(code, adapted))
    check_choice("norm", norm, (1, 2))
    difference = adapted - code
    if norm == 1:
        distances = ops.sum(ops.abs(difference), axis=-1)
    else:
        distances = safe_sqrt(ops.sum(ops.square(difference), axis=-1))
    return ops.mean(distances, axis=tuple(range(1, len(distances.shape))))


@registry.register
class KnowledgeAdaptation(DistillationLoss):
    """Compresses the teacher's map with an auto-encoder, and trains the student to match the code and its affinities.

        loss = adaptation_weight * adaptation(code, relu(batch_norm(conv3x3(student))))
               + affinity_weight * affinity_kd(code, conv3x3(student))
               + reconstruction(teacher, decoder(code), code)

    The paper trains the auto-encoder first and then keeps it fixed: pass it as `autoencoder`, and the last term is
    left out. By default it is learned in the same steps. Either way, the last term is all that trains it: the others
    stop their gradients at the code. As many of its three convolutions have stride 2 as bring the teacher's map to the
    size of the student's; the student's map is resized to what remains.

    Args:
        code_channels: the channels of the code; None is half of the teacher's.
        autoencoder: a trained `AutoEncoder` of the teacher's map, of which a copy is used; None learns one.
        adaptation_weight, affinity_weight: the paper's beta and gamma.
        norm: 1 or 2, see `adaptation`.
        options: `teacher`, `student`, `name`, `reduction`, see `DistillationLoss`.

    >>> loss = KnowledgeAdaptation(teacher="stage_3", student="stage_2", code_channels=2)
    >>> loss.build((None, 8, 8, 4), (None, 4, 4, 3))
    >>> loss.projection
    'auto-encoder to a code of 4x4x2'
    """

    def __init__(
        self,
        *,
        code_channels: int | None = None,
        autoencoder: AutoEncoder | None = None,
        adaptation_weight: float = 50.0,
        affinity_weight: float = 1.0,
        norm: int = 1,
        **options: Any,
    ):
        super().__init__(**options)
        self.code_channels = (
            None if code_channels is None else check_integer("code_channels", code_channels, at_least=1)
        )
        self.adaptation_weight = check_number("adaptation_weight", adaptation_weight, at_least=0.0)
        self.affinity_weight = check_number("affinity_weight", affinity_weight, at_least=0.0)
        self.norm = check_choice("norm", norm, (1, 2))
        self._code_shape: tuple | None = None
        self.learns_code = autoencoder is None
        self._autoencoder = None if autoencoder is None else self._checked(autoencoder)

    def build(self, teacher_shape, student_shape):
        check_feature_maps(self.name, teacher_shape, student_shape)
        if self.learns_code:
            channels = self.code_channels or max(teacher_shape[-1] // 2, 1)
            self._autoencoder = AutoEncoder(channels, strides=_strides(teacher_shape, student_shape))
            self._autoencoder.build(tuple(teacher_shape))
        self._check_channels(teacher_shape)
        code = _code_shape(self._autoencoder, teacher_shape)
        shape = (*code[:-1], student_shape[-1])
        settings = {"padding": "same", "kernel_initializer": published_uniform(), "dtype": "float32"}
        self._adapter = layers.Conv2D(code[-1], 3, use_bias=False, **settings)
        self._norm = layers.BatchNormalization(**BATCH_NORM)
        self._affinity_adapter = layers.Conv2D(code[-1], 3, **settings)
        for layer, layer_shape in ((self._adapter, shape), (self._norm, code), (self._affinity_adapter, shape)):
            layer.build(layer_shape)
        self._code_shape = code

    def _checked(self, autoencoder: Any) -> AutoEncoder:
        if self.code_channels is None and isinstance(autoencoder, AutoEncoder):
            return fixed_copy(autoencoder, "autoencoder")
        raise ConfigurationError(
            explain(
                "'autoencoder' cannot be used.",
                received=f"a {type(autoencoder).__name__}, code_channels={self.code_channels}",
                expected="a trained keras_kd.losses.AutoEncoder, without code_channels",
            )
        )

    def _check_channels(self, teacher_shape: Any) -> None:
        trained_for = self._autoencoder.encoder[0].kernel.shape[-2]
        if trained_for != teacher_shape[-1]:
            raise ConfigurationError(
                explain(
                    "The auto-encoder was trained for another layer.",
                    received=f"one of {trained_for} channels, and a teacher's map {tuple(teacher_shape)}",
                    expected="one trained for the layer that the loss reads",
                )
            )

    @property
    def projection(self):
        if self._code_shape is None:
            return None
        return "auto-encoder to a code of " + "x".join(map(str, self._code_shape[1:]))

    @property
    def trained_layers(self):
        return [] if self.learns_code else [self._autoencoder]

    def call(self, teacher, student, context):
        if context.mask is not None:
            refuse_padding(self.name, context.mask, "convolutions over the map")
        rows = None if context.present is None else expand_like(context.present, student)
        learns = self.learns_code and context.training
        features, student = upcast(teacher, student)
        code, decoded = self._autoencoder(features, included=rows, training=learns)
        fixed = ops.stop_gradient(code)
        if student.shape[1:3] != fixed.shape[1:3]:
            student = resize_map(student, fixed.shape[1:3])
        adapted = ops.relu(normalize(self._norm, self._adapter(student), rows, context.training))
        losses = self.adaptation_weight * adaptation(fixed, adapted, self.norm)
        losses += self.affinity_weight * affinity_kd(fixed, self._affinity_adapter(student))
        return losses + reconstruction(features, decoded, code) if self.learns_code else losses

    def validate_outputs(self, teacher_outputs, student_outputs):
        check_feature_maps(self.name, teacher_outputs.shape, student_outputs.shape)

    def get_config(self):
        return {
            **super().get_config(),
            "code_channels": self.code_channels,
            "autoencoder": None if self.learns_code else serialize(self._autoencoder),
            "adaptation_weight": self.adaptation_weight,
            "affinity_weight": self.affinity_weight,
            "norm": self.norm,
        }

    @classmethod
    def from_config(cls, config):
        return unset(cls(**{**config, "autoencoder": deserialize(config["autoencoder"])}))


def _code_shape(autoencoder: AutoEncoder, shape: Any) -> tuple:
    for layer in autoencoder.encoder:
        shape = layer.compute_output_shape(tuple(shape))
    return tuple(shape)


def _strides(teacher_shape: Any, student_shape: Any) -> tuple[int, ...]:
    """A stride of 2 for each time that the teacher's map can be halved without falling below the student's."""
    sizes = zip(teacher_shape[1:3], student_shape[1:3], strict=True)
    ratio = min(1 if None in pair else pair[0] // pair[1] for pair in sizes)
    halvings = min(max(ratio, 1).bit_length() - 1, NUM_LAYERS)
    return (2,) * halvings + (1,) * (NUM_LAYERS - halvings)
