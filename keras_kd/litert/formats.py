"""The formats of a LiteRT (`.tflite`) file: the single list for Python, recipes and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from keras_kd.errors import ConfigurationError, check_choice, explain

BLOCK_SIZES = (32, 64, 128, 256)


@dataclass(frozen=True)
class Format:
    """How a file stores its weights and computes. Choose one of the subclasses.

    Attributes:
        name: its name in Python, in recipes and on the command line.
        weights: the dtype of the stored weights.
        activations: the dtype in which operators compute if they have a kernel for it.
        io: the dtype of the float inputs and outputs of the model in the file.
        needs_quantizer: whether only ai-edge-quantizer writes it, from a float32 file.
        min_snr: the signal-to-noise ratio in dB below which rounding does not explain a difference from the float
            model; None for a format that is compared exactly.
    """

    @property
    def name(self) -> str:
        return type(self).__name__.lower()

    weights = "float32"
    activations = "float32"
    io = "float32"
    needs_quantizer = False
    min_snr: ClassVar[float | None] = 3.0

    @property
    def needs_calibration(self) -> bool:
        """Whether the ranges of the activations are measured on real samples."""
        return self.activations != "float32"

    @property
    def is_exact(self) -> bool:
        """Whether the file's outputs equal those of the float32 model, up to rounding."""
        return (self.weights, self.activations) == ("float32", "float32")


@dataclass(frozen=True)
class Float32(Format):
    """The weights as they were trained."""

    min_snr = None


@dataclass(frozen=True)
class Float16(Format):
    """Weights in float16, which the runtime expands or a GPU takes as they are: half the size."""

    weights = "float16"
    min_snr = 30.0


@dataclass(frozen=True)
class Dynamic(Format):
    """Weights in int8; a quarter of the size, without calibration.

    Dense layers and convolutions quantize their inputs while they run; the other operators compute in float.
    """

    weights = "int8"
    min_snr = 10.0


@dataclass(frozen=True)
class Int8(Format):
    """Integers throughout, with ranges from calibration: for the Edge TPU, NPUs and microcontrollers, and fast on CPUs.

    Args:
        io: the dtype of float inputs and outputs: "int8", which the app quantizes itself, or "float32".

    Raises:
        ConfigurationError: another `io`.
    """

    io: str = "int8"
    weights = "int8"
    activations = "int8"

    def __post_init__(self):
        check_choice("io", self.io, ("int8", "float32"))

    @property
    def name(self) -> str:
        return "int8" if self.io == "int8" else "int8_float_io"


@dataclass(frozen=True)
class Int16x8(Format):
    """int16 activations and int8 weights: more accurate than int8, for some NPUs; slow on CPUs, without fast
    kernels."""

    weights = "int8"
    activations = "int16"
    io = "int16"


@dataclass(frozen=True)
class Int4(Format):
    """Weights of dense layers and convolutions in 4 bits, the rest as in `Dynamic`: an eighth of the size.

    The table of an `Embedding` stays in float32, since ai-edge-quantizer quantizes it with integer activations only.

    Args:
        block_size: the number of weights of a dense layer that share a scale: 32, 64, 128 or 256, along its inputs,
            whose number the size must divide; other layers are as in `Dynamic`. None: one scale for each output
            channel.

    Raises:
        ConfigurationError: another size.
    """

    block_size: int | None = None
    weights = "int4"
    needs_quantizer = True

    def __post_init__(self):
        check_choice("block_size", self.block_size, (None, *BLOCK_SIZES))

    @property
    def name(self) -> str:
        return "int4" if self.block_size is None else f"int4_block{self.block_size}"


@dataclass(frozen=True)
class Mixed(Format):
    """A format for each operator.

    Args:
        rules: maps operators to formats. A key is an operator of LiteRT, such as "FULLY_CONNECTED", or a pattern with
            `*` and `?` for the name of a layer or tensor, such as "head" or "block_1*"; see `keras-kd inspect` for
            both. A value is "float32", "dynamic", "int4", "int8" or "int16x8". A later rule overrides an earlier one.
        default: the format of the operators that no rule names.

    Raises:
        ConfigurationError: no rules, or a format that an operator cannot have.

    >>> Mixed({"head": "float32", "SOFTMAX": "int16x8"}).needs_calibration
    True
    """

    rules: Any
    default: str = "int8"
    needs_quantizer = True
    choices = ("float32", "dynamic", "int4", "int8", "int16x8")

    def __post_init__(self):
        rules = self.rules.items() if isinstance(self.rules, Mapping) else self.rules
        is_list = isinstance(rules, Iterable) and not isinstance(rules, str | bytes)
        rules = tuple(tuple(rule) if isinstance(rule, Iterable) else (rule,) for rule in rules) if is_list else ()
        if not rules or any(len(rule) != 2 or not isinstance(rule[0], str) or not rule[0] for rule in rules):
            expected = "operators or layers, and a format for each, such as {'head': 'float32'}"
            raise ConfigurationError(explain("Invalid 'rules'.", received=repr(self.rules), expected=expected))
        for _, format in (*rules, ("default", self.default)):
            check_choice("format", format, self.choices)
        object.__setattr__(self, "rules", rules)

    @property
    def _parts(self) -> tuple[Format, ...]:
        return tuple(FORMATS[name] for name in (self.default, *(format for _, format in self.rules)))

    @property
    def weights(self) -> str:
        return FORMATS[self.default].weights

    @property
    def activations(self) -> str:
        return next((one.activations for one in self._parts if one.needs_calibration), "float32")

    @property
    def is_exact(self) -> bool:
        return all(one.is_exact for one in self._parts)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Float32(),
            Float16(),
            Dynamic(),
            Int8(),
            Int8(io="float32"),
            Int16x8(),
            Int4(),
            *(Int4(size) for size in BLOCK_SIZES),
        )
    }
)


def get_format(format: str | Format) -> Format:
    """The format with this name, or the format itself.

    Raises:
        ConfigurationError: an unknown name.

    >>> get_format("int8").needs_calibration, get_format("dynamic").needs_calibration
    (True, False)
    """
    return format if isinstance(format, Format) else FORMATS[check_choice("format", format, FORMATS)]
