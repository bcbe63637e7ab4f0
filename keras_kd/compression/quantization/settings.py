"""How the activations of a model are rounded: the settings that all its quantizers share."""

from __future__ import annotations

import dataclasses

from keras_kd.compression.quantization.activations import ActivationQuantizer

FIXED = ("softmax", "sigmoid", "tanh")
"""The activations whose range LiteRT's integer kernels prescribe."""


@dataclasses.dataclass(frozen=True)
class QuantizerSettings:
    """Makes the quantizers of one model.

    Attributes:
        bits: 8 or 16.
        momentum, warmup, freeze: as in `ActivationQuantizer`.
        kind: `ActivationQuantizer` or a subclass of it.
    """

    bits: int = 8
    momentum: float = 0.99
    warmup: int = 0
    freeze: int | None = None
    kind: type[ActivationQuantizer] = ActivationQuantizer

    def make(self, name: str, calls: int, activation: str | None = None) -> ActivationQuantizer:
        """A quantizer for a tensor, with a fixed range after an activation whose integers have a fixed scale.

        Args:
            name: of the quantizer.
            calls: how often it observes a tensor in one step.
            activation: the name of the function that makes the tensor.
        """
        fixed = fixed_range(activation, self.bits)
        kind = self.kind if fixed is None else ActivationQuantizer
        return kind(
            bits=self.bits,
            momentum=self.momentum,
            warmup=self.warmup,
            freeze=self.freeze,
            calls=calls,
            fixed=fixed,
            name=name,
        )


def fixed_range(activation: str | None, bits: int) -> tuple[float, float] | None:
    """The range of an activation for which LiteRT's integer kernels prescribe one; None for the others.

    In 8 bits a softmax or sigmoid has a scale of 1/256 from 0 on, and a tanh one of 1/128 around 0; in 16 bits all have
    a scale of 1/32768 around 0.

    >>> fixed_range("softmax", 8), fixed_range("tanh", 8), fixed_range("relu", 8)
    ((0.0, 0.99609375), (-1.0, 0.9921875), None)
    """
    if activation not in FIXED:
        return None
    if bits > 8:
        largest = 2.0 ** (bits - 1)
        return -(largest - 1) / largest, (largest - 1) / largest
    steps = 2.0**bits
    return (-1.0, 1.0 - 2.0 / steps) if activation == "tanh" else (0.0, 1.0 - 1.0 / steps)
