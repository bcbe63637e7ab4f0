"""One call of a layer while a model is traced: what its rule reads, and what the rule records."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_kd.compression.structured.channels import FIXED, Channels
from keras_kd.compression.structured.flow import Flow, Shape
from keras_kd.surgery.weights import weights_by_name

Role = Literal["output", "input", "scale", "other"]
SUMMED = "joined with channels that stay"


@dataclasses.dataclass
class Use:
    """An axis of a weight, and the channel of each of its slices; `role` says what the weight does with them."""

    weight: str
    axis: int
    ids: np.ndarray
    role: Role


@dataclasses.dataclass
class LayerTrace:
    """What the rules recorded of one layer.

    Attributes:
        layer, path: the layer, and where it is.
        uses: the axes of its weights that follow channels.
        sizes: keys of its configuration that are numbers of channels, with these channels; for a shape, a tuple of
            channels or of sizes that stay.
        work: per call, a weight and how often each of its elements is multiplied.
        scores: further multiplications per channel: the channels, and how many for each.
        reason: why at least one of its calls is not followed, so that the channels of all its calls stay; or empty.
    """

    layer: Any
    path: str
    uses: dict[tuple[str, int], Use] = dataclasses.field(default_factory=dict)
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)
    work: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)
    scores: list[tuple[np.ndarray, int | None]] = dataclasses.field(default_factory=list)
    reason: str = ""

    def ids(self) -> list[np.ndarray]:
        """The channels that its weights and its configuration follow."""
        sizes = [item for value in self.sizes.values() for item in (value if isinstance(value, tuple) else (value,))]
        return [use.ids for use in self.uses.values()] + [size for size in sizes if isinstance(size, np.ndarray)]


@dataclasses.dataclass
class Visit:
    """One call of a layer.

    Attributes:
        layer, path: the layer or operation, and where it is.
        inputs: the flows among the arguments.
        args, kwargs: the arguments of the call, with a `Flow` for each tensor.
        shapes: of the outputs.
        times: how often the call runs in one forward pass, as inside `TimeDistributed`; None if unknown.
        record: what is known about the layer.
        channels: all channels of the model.
        inner: runs the rule of a layer inside this one.
    """

    layer: Any
    path: str
    inputs: list[Flow]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: list[Shape]
    times: int | None
    record: LayerTrace
    channels: Channels
    inner: Callable[..., list[Flow]]

    def read(self, flow: Flow, axis: int) -> np.ndarray:
        """The channels along an axis, int [size]; fixed if they change along another axis as well."""
        ids = flow.one_axis(axis)
        if ids is not None:
            return ids
        self.keep([flow], f"enters {self.path!r} with its axes reordered")
        return np.full(flow.shape[axis] or 1, FIXED)

    def use(self, weight: str, axis: int, ids: np.ndarray, role: Role) -> None:
        """Records that an axis of a weight follows channels; those of an earlier call of the layer are the same."""
        known = self.record.uses.get((weight, axis))
        if known is not None:
            self.channels.unite(known.ids, ids, SUMMED)
        else:
            self.record.uses[weight, axis] = Use(weight, axis, np.asarray(ids), role)

    def computed(self, weight: str, axis: int, count: int, what: str = "") -> np.ndarray:
        """The channels that the layer computes, along an axis of a weight, int [count]; `what` they are in a report."""
        known = self.record.uses.get((weight, axis))
        if known is not None:
            return known.ids
        ids = self.channels.fresh(count, f"{self.path} ({what})" if what else self.path)
        self.use(weight, axis, ids, "output")
        return ids

    def size(self, key: str, value: Any) -> None:
        """Records a number of channels, or a shape, in the layer's configuration."""
        known = self.record.sizes.setdefault(key, value)
        if known is not value:
            pairs = zip(known, value, strict=True) if isinstance(value, tuple) else [(known, value)]
            for one, other in pairs:
                ids = (item if isinstance(item, np.ndarray) else np.array(FIXED) for item in (one, other))
                self.channels.unite(*ids, SUMMED)

    def work(self, weight: str, positions: Iterable[int | None]) -> None:
        """Records how often each element of a weight is multiplied."""
        self.record.work.append((weight, product([self.times, *positions])))

    def keep(self, flows: Sequence[Flow], reason: str) -> None:
        for flow in flows:
            self.channels.fix(flow.ids, reason)

    def stay(self, reason: str) -> list[Flow]:
        """Outputs with fixed channels, of inputs that are kept for this reason."""
        self.keep(self.inputs, reason)
        self.give_up(reason)
        return [Flow.fixed(shape) for shape in self.shapes]

    def give_up(self, reason: str) -> None:
        """Keeps all channels of the layer, those of its other calls as well; the report lists a layer with weights."""
        if getattr(self.layer, "weights", None) and not (self.record.reason or self.record.uses):
            self.channels.fix(self.channels.fresh(self.shapes[0][-1] or 1, self.path), reason)
        self.record.reason = self.record.reason or reason

    def same(self) -> list[Flow]:
        """Outputs with the channels of the first input."""
        return [Flow(self.inputs[0].ids, shape) for shape in self.shapes]

    def weights(self) -> dict[str, keras.Variable]:
        return weights_by_name(self.layer)


def product(sizes: Iterable[int | None]) -> int | None:
    """
    >>> product([2, 3]), product([2, None])
    (6, None)
    """
    sizes = list(sizes)
    return None if None in sizes else math.prod(sizes)
