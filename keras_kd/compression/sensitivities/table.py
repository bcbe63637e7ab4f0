"""What each setting of each layer costs, as a table."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from keras_kd.tables import format_table


@dataclasses.dataclass(frozen=True)
class LayerCosts:
    """The costs of compressing one layer, all others left as they are.

    Attributes:
        path: of the layer, as in `kd.taps`.
        kind: its class.
        num_weights: in its kernels.
        by_sparsity: the drop of the measure by the fraction of zeros.
        by_bits: the drop by the number of bits of a weight.
    """

    path: str
    kind: str
    num_weights: int
    by_sparsity: dict[float, float]
    by_bits: dict[int, float]


@dataclasses.dataclass(frozen=True)
class SensitivityTable:
    """How sensitive each layer of a model is to compression; prints as a table.

    Attributes:
        measure: the name of the measure.
        unit: of the drops: `"points"` of a hundred for shares such as accuracy, else empty.
        baseline: the value of the measure without compression.
        num_examples: how many examples it was measured on.
        layers: the costs by layer, in the order of the model.
    """

    measure: str
    unit: str
    baseline: float
    num_examples: int
    layers: tuple[LayerCosts, ...]

    def __getitem__(self, path: str) -> LayerCosts:
        return {layer.path: layer for layer in self.layers}[path]

    @property
    def columns(self) -> tuple[str, ...]:
        """The settings: `"50% zeros"`, `"4 bits"`."""
        first = self.layers[0]
        return (*(f"{100 * s:g}% zeros" for s in first.by_sparsity), *(f"{bits} bits" for bits in first.by_bits))

    @property
    def drops(self) -> list[list[float]]:
        """A row for each layer, with the drop for each of `columns`."""
        return [[*layer.by_sparsity.values(), *layer.by_bits.values()] for layer in self.layers]

    def __str__(self) -> str:
        rows = [
            (layer.path, layer.kind, f"{layer.num_weights:,}", *(f"{drop:.2f}" for drop in drops))
            for layer, drops in zip(self.layers, self.drops, strict=True)
        ]
        unit = f" in {self.unit}" if self.unit else ""
        title = f"Drop of {self.measure}{unit}, from {self.baseline:.4g} on {self.num_examples:,} examples"
        return f"{title}\n{format_table([('layer', 'class', 'weights', *self.columns), *rows])}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data; sparsities and bits are strings, as JSON has them."""
        data = dataclasses.asdict(self)
        for layer in data["layers"]:
            for key in ("by_sparsity", "by_bits"):
                layer[key] = {str(setting): drop for setting, drop in layer[key].items()}
        data["layers"] = list(data["layers"])
        return data

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)
