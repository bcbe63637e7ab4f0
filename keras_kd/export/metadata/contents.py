"""What an app needs to know about a model, besides the file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from keras_kd.errors import ConfigurationError, check_choice, explain


@dataclasses.dataclass(frozen=True)
class InputInfo:
    """An input of a model: what it is, and how raw data become the numbers that the model takes.

    Attributes:
        description: what it is, for people.
        mean, std: `(raw - mean) / std` is the model's input, with one number for all channels or one for each. For
            pixels of 0 to 255 and a model that takes 0 to 1: 0 and 255. Empty if the raw data are the input. An int8
            file takes these numbers quantized by the scale and zero point of its input.
        is_image: whether it is an image `[1, height, width, channels]` with 1 or 3 channels, grayscale or RGB.
    """

    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    is_image: bool = False

    def __post_init__(self):
        _check_description(self.description)
        if not isinstance(self.is_image, bool):
            expected = "True or False"
            raise ConfigurationError(explain("Invalid 'is_image'.", received=repr(self.is_image), expected=expected))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        if len(self.mean) != len(self.std) or 0.0 in self.std:
            raise ConfigurationError(
                explain(
                    "Invalid normalization.",
                    received=f"mean={self.mean}, std={self.std}",
                    expected="as many means as standard deviations, and none of these 0",
                )
            )


@dataclasses.dataclass(frozen=True)
class OutputInfo:
    """An output of a model.

    Attributes:
        description: what it is, for people.
        labels: the name of each class, in the order of the output's last dimension; empty if it has none.
        labels_are_of_values: whether the output contains numbers of classes, counted from 0, which the labels name.
    """

    description: str = ""
    labels: tuple[str, ...] = ()
    labels_are_of_values: bool = False

    def __post_init__(self):
        _check_description(self.description)
        is_list = isinstance(self.labels, Iterable) and not isinstance(self.labels, str | bytes)
        labels = tuple(self.labels) if is_list else (self.labels,)
        check_choice("labels_are_of_values", self.labels_are_of_values, (False, True))
        object.__setattr__(self, "labels", labels)
        wrong = [label for label in labels if not isinstance(label, str) or label and label.splitlines() != [label]]
        if wrong:
            expected = "text of one line each: the file with the labels has a line for each class"
            raise ConfigurationError(explain("Invalid label.", received=repr(wrong[0]), expected=expected))


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is written into a LiteRT file besides the model.

    Attributes:
        name: of the model.
        description: what it does, for people.
        version: of the model.
        author: who made it.
        license: a name or text.
        inputs, outputs: by name as in the signature of the file. A single `InputInfo` or `OutputInfo` is that of the
            only input or output.
        provenance: how it was made, such as a recipe and the fingerprint of a teacher: anything that JSON can hold.
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: InputInfo | Mapping[str, InputInfo] = dataclasses.field(default_factory=dict)
    outputs: OutputInfo | Mapping[str, OutputInfo] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name in ("name", "description", "version", "author", "license"):
            if not isinstance(getattr(self, name), str):
                problem = f"Invalid {name!r} of the metadata."
                raise ConfigurationError(explain(problem, received=repr(getattr(self, name)), expected="text"))
        for name, kind in (("inputs", InputInfo), ("outputs", OutputInfo)):
            given = getattr(self, name)
            values = list(given.values()) if isinstance(given, Mapping) else [given]
            if not all(isinstance(value, kind) for value in values):
                expected = f"one {kind.__name__}, or a dictionary of them by name"
                raise ConfigurationError(
                    explain(f"Invalid {name!r} of the metadata.", received=repr(given), expected=expected)
                )
        try:
            json.dumps(dict(self.provenance), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            expected = f"plain data that JSON can hold ({error})"
            received = repr(self.provenance)[:200]
            raise ConfigurationError(explain("Invalid 'provenance'.", received=received, expected=expected)) from error


def check_metadata(metadata: Any) -> None:
    """Raises `ConfigurationError` if this is not `Metadata`."""
    if not isinstance(metadata, Metadata):
        expected = "kd.export.Metadata(name=..., inputs=..., outputs=...)"
        raise ConfigurationError(explain("Invalid 'metadata'.", received=repr(metadata)[:200], expected=expected))


def _check_description(description: Any) -> None:
    if not isinstance(description, str):
        raise ConfigurationError(explain("Invalid 'description'.", received=repr(description), expected="text"))


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    try:
        found = (
            tuple(map(float, values))
            if isinstance(values, (tuple, list)) or hasattr(values, "tolist") and values.ndim
            else (float(values),)
        )
    except (TypeError, ValueError):
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        expected = "a number, or one for each channel"
        raise ConfigurationError(explain(f"Invalid {name!r} of an input.", received=repr(values), expected=expected))
    return found
