"""Puts what an app would compute around a model into the model: scaling of pixels, softmax, the largest class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.export._saved_model import ModelInput, model_inputs, name_outputs, pack_inputs
from keras_kd.export.preparing.quantized import is_fake_quantized
from keras_kd.features import find_heads
from keras_kd.serialization import register

POSTPROCESSES = ("softmax", "argmax")
_WHITE = 255.0
_NAMES = {"softmax": "probabilities", "argmax": "class_index"}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """How a model's input follows from pixels: `(pixel - mean) / std`, with pixels from 0 to 255.

    Attributes:
        mean, std: in pixels, one number for all channels or one for each.

    >>> Pixels.of_range(-1, 1)
    Pixels(mean=(127.5,), std=(127.5,))
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (_WHITE,)

    def __post_init__(self):
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        sizes = {len(self.mean), len(self.std)} - {1}
        if len(sizes) > 1 or min(self.std) <= 0:
            raise ConfigurationError(
                explain(
                    "Invalid scaling of pixels.",
                    received=f"mean={self.mean}, std={self.std}",
                    expected="one number or one for each channel, and standard deviations above 0",
                )
            )

    @classmethod
    def of_range(cls, black: float, white: float) -> Pixels:
        """For a model that takes `black` for pixel 0 and `white` for pixel 255."""
        (black,), (white,) = _numbers("black", black), _numbers("white", white)
        if not black < white:
            problem, expected = "Invalid range of values.", "the value of black below that of white"
            raise ConfigurationError(explain(problem, received=f"{black:g}, {white:g}", expected=expected))
        std = _WHITE / (white - black)
        return cls(mean=0.0 if black == 0 else -black * std, std=std)  # -0.0 reads badly

    @property
    def num_channels(self) -> int:
        """1 if the numbers are for all channels."""
        return max(len(self.mean), len(self.std))

    def of_inputs(self, inputs: Any) -> np.ndarray:
        """The pixels of scaled model inputs `[..., channels]`, float32 and rounded to whole numbers of 0 to 255."""
        pixels = np.asarray(inputs, np.float64) * np.array(self.std) + np.array(self.mean)
        return np.clip(np.rint(pixels), 0, _WHITE).astype(np.float32)


def spanning(pixels: Any) -> np.ndarray:
    """Calibration samples in pixels of which the first has one value 0 and one value 255, in float32.

    The input of an integer file then has the scale 1: its int8 value is the pixel minus 128, whatever the brightest and
    the darkest pixel of the samples are.

    Args:
        pixels: `[n, ...]` from 0 to 255, of any number type; at least two values in each.

    Raises:
        ConfigurationError: no samples, values outside of 0 to 255, or none above 1, as in scaled images.

    >>> float(spanning(np.full((2, 2, 2, 1), 100, np.uint8)).max())
    255.0
    """
    array = np.array(pixels, np.float32)
    if not array.size or array.ndim < 2 or array[0].size < 2:
        expected = "images [n, height, width, channels]"
        raise ConfigurationError(explain("Invalid calibration.", received=f"shape {array.shape}", expected=expected))
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and 1 < high <= _WHITE):
        raise ConfigurationError(
            explain(
                "The calibration samples are not pixels.",
                received=f"values from {low:g} to {high:g}",
                expected="values from 0 to 255",
                fix="With pixels scaled in the file, samples are not scaled.",
            )
        )
    first = array[0].reshape(-1)
    first[0], first[-1] = 0, _WHITE
    return array


@register
class LargestIndex(keras.layers.Layer):
    """The index of the largest of `[..., n]` values, `[...]` in int32; the first of several.

    `keras.ops.argmax` tells 0 from -0 by operations that LiteRT does not have.
    """

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.argmax(inputs, axis=-1, output_type=tf.int32)
        return keras.ops.cast(keras.ops.argmax(inputs, axis=-1), "int32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape[:-1], dtype="int32")


def with_processing(
    model: keras.Model,
    *,
    preprocess: Pixels | Mapping[str, Pixels] | None = None,
    postprocess: str | Mapping[str, str] | None = None,
    outputs: str | None = None,
) -> keras.Model:
    """A model that takes raw pixels, or returns probabilities or classes, around a model that does not.

    It shares the layers and weights of the model; inputs keep their names. A saved one that ends in argmax is loaded
    after `import keras_kd.export`. A scaled input is float32, so that a file in
    any format needs no cast: an int8 file takes the pixel minus 128 if its calibration spans 0 to 255 (`spanning`). The
    scaling costs no operator if the mean is 0 and a convolution follows, and one if mean and std are the same for
    all channels.

    Args:
        model: a built model.
        preprocess: the scaling of its only input, or of some inputs by name.
        postprocess: `"softmax"` or `"argmax"` for its only output, or for some outputs by name, over the last axis. An
            output that is a softmax already stays as it is under `"softmax"`. The new output is called `probabilities`,
            or `class_index` (int32, without the last axis), with the old name in front if there are several outputs.
        outputs: `"logits"` or `"probabilities"` if the layers of the model do not tell.

    Raises:
        ConfigurationError: an unknown name, an input or output that the processing does not fit, a model whose
            outputs are of unknown kind, or a fake-quantized model whose input would be scaled.

    >>> scores = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> app = with_processing(scores, preprocess=Pixels.of_range(0, 1), postprocess="argmax")
    >>> app(np.full((2, 4, 4, 1), 255)).shape
    TensorShape([2])
    """
    ends = model_inputs(model)
    check_choice("outputs", outputs, (None, "logits", "probabilities"))
    scalings = _by_name("preprocess", preprocess, [end.name for end in ends])
    for end in ends:
        if end.name in scalings:
            _check_scaling(model, end, scalings[end.name])
    _check_names(model, ends)
    tensors = [keras.Input(end.shape, dtype=end.dtype, name=end.key) for end in ends]
    scaled = [_scale(tensor, scalings.get(end.name)) for tensor, end in zip(tensors, ends, strict=True)]
    old = name_outputs(model, model(pack_inputs(model, scaled)))
    choices = _by_name("postprocess", postprocess, list(old))
    heads = _activations(model, choices, list(old), outputs)
    taken = {model.name, *(end.key for end in ends)}
    new = dict(
        _finish(name, tensor, choices.get(name), heads.get(name), len(old), taken) for name, tensor in old.items()
    )
    is_single = len(new) == 1 and not new.keys() & taken  # else the name of a layer cannot be that of the output
    return keras.Model(pack_inputs(model, tensors), next(iter(new.values())) if is_single else new, name=model.name)


def _by_name(what: str, given: Any, names: Sequence[str]) -> dict[str, Any]:
    """What is given for each name; a single value is that of the only name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        given = {names[0] if len(names) == 1 else "": given}
    if not given.keys() <= set(names):
        raise ConfigurationError(
            explain(
                f"`{what}` does not fit the model.",
                received=", ".join(map(repr, given))
                if "" not in given
                else f"one for {len(names)}: {', '.join(names)}",
                expected=f"a dictionary with some of {', '.join(map(repr, names))}",
            )
        )
    for value in given.values():
        if what == "postprocess":
            check_choice(what, value, POSTPROCESSES)
        elif not isinstance(value, Pixels):
            expected = "kd.export.Pixels(mean=..., std=...)"
            raise ConfigurationError(explain(f"Invalid {what!r}.", received=repr(value), expected=expected))
    return dict(given)


def _check_names(model: keras.Model, ends: Sequence[ModelInput]) -> None:
    if model.name in {end.key for end in ends}:
        problem, expected = "The model has the name of one of its inputs.", "different names"
        fix = "Rename the model: `keras.Model(model.inputs, model.outputs, name=...)`."
        raise ConfigurationError(explain(problem, received=repr(model.name), expected=expected, fix=fix))


def _check_scaling(model: keras.Model, end: ModelInput, pixels: Pixels) -> None:
    received = expected = fix = None
    channels = end.shape[-1] if end.shape else None
    if np.dtype(end.dtype).kind != "f":
        received, expected = f"dtype {end.dtype}", "a floating-point input"
    elif pixels.num_channels not in (1, channels):
        received = f"shape {end.shape}, and {pixels.num_channels} numbers"
        expected = "one number for all channels, or one for each"
    elif is_fake_quantized(model):
        received, expected = "a fake-quantized model, with trained ranges from its input on", "a plain model"
        fix = "Its int8 file takes pixels by the scale of its input; or pass `kd.compression.strip(model)`."
    if received:
        problem = f"Input {end.name!r} cannot be scaled from pixels."
        raise ConfigurationError(explain(problem, received=received, expected=expected, fix=fix))


def _scale(tensor: Any, pixels: Pixels | None) -> Any:
    """Scales as a subtraction and a product in this order, of which converters move the product into a convolution."""
    if pixels is None:
        return tensor
    mean, variance = np.array(pixels.mean), np.square(pixels.std)
    if pixels.num_channels > 1:
        mean, variance = (np.broadcast_to(values, pixels.num_channels) for values in (mean, variance))
        layer = keras.layers.Normalization(axis=-1, mean=mean, variance=variance, dtype="float32")
    else:
        layer = keras.layers.Normalization(axis=None, mean=float(mean[0]), variance=float(variance[0]), dtype="float32")
    return layer(tensor)


def _activations(
    model: keras.Model, choices: Mapping[str, str], names: Sequence[str], outputs: str | None
) -> dict[str, str]:
    """The activation of each output if a softmax depends on it; of a model without a graph, the same for all."""
    if "softmax" not in choices.values():
        return {}
    try:
        heads = find_heads(model, outputs)
    except ConfigurationError as error:
        raise ConfigurationError(
            explain(
                f"{str(error).partition(' Received: ')[0]}",
                received=f"postprocess='softmax' for {model.name!r}",
                expected="an output that is known to be logits or probabilities",
                fix="Say outputs='logits' or 'probabilities'.",
            )
        ) from error
    if "*" in heads:
        return dict.fromkeys(names, heads["*"].activation)
    return {name: head.activation for name, head in zip(names, heads.values(), strict=True)}


def _finish(
    name: str, tensor: Any, choice: str | None, activation: str | None, num_outputs: int, taken: set[str]
) -> tuple[str, Any]:
    """The name and tensor of an output after its processing."""
    if choice is not None:
        _check_scores(name, tensor, choice, activation)
    layer, new, dtype = keras.layers.Identity, name, tensor.dtype
    if choice is not None and not (choice == "softmax" and activation in ("softmax", "probabilities")):
        layer, dtype = keras.layers.Softmax if choice == "softmax" else LargestIndex, "float32"
        new = _NAMES[choice] if num_outputs == 1 else f"{name}_{_NAMES[choice]}"
    return new, layer(name=None if new in taken else new, dtype=dtype)(tensor)


def _check_scores(name: str, tensor: Any, choice: str, activation: str | None) -> None:
    received = None
    size = tensor.shape[-1] if len(tensor.shape) > 1 else 1
    if np.dtype(keras.backend.standardize_dtype(tensor.dtype)).kind != "f":
        received = f"dtype {tensor.dtype}"
    elif size == 1:
        received = f"shape {tuple(tensor.shape)}, a single value"
    elif activation == "sigmoid":
        received = "probabilities of a sigmoid, which are not exclusive"
    if received:
        problem = f"Output {name!r} cannot end in {choice}."
        expected = "floating-point scores of two or more classes in the last axis"
        raise ConfigurationError(explain(problem, received=received, expected=expected))


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        found = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        found = np.array([np.nan])
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        expected = "a number, or one for each channel"
        raise ConfigurationError(explain(f"Invalid {name!r} of pixels.", received=repr(values), expected=expected))
    return tuple(found.tolist())
