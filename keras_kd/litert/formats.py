"""The formats of a LiteRT (`.tflite`) file: the single list for Python, recipes and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from keras_kd.errors import check_choice


@dataclass(frozen=True)
class Format:
    """The dtypes in which a file stores its weights and computes.

    Attributes:
        name: its name in Python and in recipes.
        weights: the dtype of the stored weights.
        activations: the dtype in which operators compute if they have a kernel for it.
    """

    name: str
    weights: str
    activations: str

    @property
    def needs_calibration(self) -> bool:
        """Whether the ranges of the activations are measured on real samples."""
        return self.activations != "float32"

    @property
    def is_exact(self) -> bool:
        """Whether the file's outputs equal those of the float32 model, up to rounding."""
        return (self.weights, self.activations) == ("float32", "float32")


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("float32", weights="float32", activations="float32"),
            Format("float16", weights="float16", activations="float32"),
            Format("dynamic", weights="int8", activations="float32"),
            Format("int8", weights="int8", activations="int8"),
            Format("int16x8", weights="int8", activations="int16"),
        )
    }
)


def get_format(name: str) -> Format:
    """The format with this name.

    Raises:
        ConfigurationError: an unknown name.

    >>> get_format("int8").needs_calibration, get_format("dynamic").needs_calibration
    (True, False)
    """
    return FORMATS[check_choice("format", name, FORMATS)]
