"""What a technique adds to a model besides functions of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from keras_kd.compression.inside import Inside
from keras_kd.surgery.cloning import Insert


class Output(NamedTuple):
    """What happens to the output of a layer or operation.

    Attributes:
        kind: the class of the layer.
        text: such as `"rounded"`, or why it is not.
        inside: what is left as it is inside the layer; empty if nothing is.
    """

    kind: str
    text: str
    inside: str = ""


@dataclasses.dataclass(frozen=True)
class Additions:
    """What a technique adds to a model besides functions of its weights.

    Attributes:
        insert: as in `surgery.clone`; None adds no layers.
        inside: what changes the computation of a layer, by the layer's id and the path inside it.
        outputs: what happens to the output of each layer and operation, by path.
    """

    insert: Insert | None = None
    inside: Mapping[int, Mapping[str, Inside]] = dataclasses.field(default_factory=dict)
    outputs: Mapping[str, Output] = dataclasses.field(default_factory=dict)
