"""What a transform does with each layer of a model, as a table."""

from __future__ import annotations

import dataclasses

from keras_kd.tables import format_table


@dataclasses.dataclass(frozen=True)
class Row:
    """What a transform does with one layer.

    Attributes:
        path: of the layer, as in `kd.taps`.
        kind: its class.
        weights: the names of the weights that are compressed.
        kept: the structure that they have already and keep, such as `"80% zeros"`.
        reason: why the others, or all of them, are not; empty if there are none.
        output: what happens to the layer's output; empty if the technique leaves outputs alone.
    """

    path: str
    kind: str
    weights: tuple[str, ...]
    kept: str = ""
    reason: str = ""
    output: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """Which weights of each layer are compressed, and why others are not; prints as a table."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        header = ("layer", "class", "compressed", "kept", "not compressed", "output")
        cells = [(row.path, row.kind, ", ".join(row.weights), row.kept, row.reason, row.output) for row in self.rows]
        num_columns = len(header) if any(row.output for row in self.rows) else len(header) - 1
        return format_table(
            [row[:num_columns] for row in (header, *(tuple(cell or "-" for cell in row) for row in cells))]
        )
