"""The rules of recurrent layers, of attention, and of the layers around them."""

from __future__ import annotations

import keras
import numpy as np

from keras_kd.compression.structured.flow import Flow
from keras_kd.compression.structured.visit import SUMMED, Visit, product

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def recurrent(visit: Visit) -> list[Flow]:
    """LSTM, GRU and SimpleRNN: a unit is one slice of each gate."""
    sequence = visit.inputs[0]
    units, gates = visit.layer.units, _GATES[type(visit.layer).__name__]
    visit.use("cell/kernel", 0, visit.read(sequence, 2), "input")
    ids = _units(visit, gates, units)
    for state in _states(visit):
        visit.channels.unite(visit.read(state, 1), ids, SUMMED)
    for name in ("cell/kernel", "cell/recurrent_kernel"):
        visit.work(name, [sequence.shape[1]])
    return [Flow.along(len(shape) - 1, ids, shape) for shape in visit.shapes]


def _states(visit: Visit) -> list[Flow]:
    """The initial states of a call, which are among its inputs with the mask, if any."""
    states = visit.args[1] if len(visit.args) > 1 else visit.kwargs.get("initial_state")
    return [state for state in keras.tree.flatten(states) if isinstance(state, Flow)]


def _units(visit: Visit, gates: int, units: int) -> np.ndarray:
    known = visit.record.uses.get(("cell/recurrent_kernel", 0))
    ids = visit.channels.fresh(units, visit.path) if known is None else known.ids
    visit.use("cell/recurrent_kernel", 0, ids, "input")
    visit.use("cell/recurrent_kernel", 1, np.tile(ids, gates), "output")
    visit.use("cell/kernel", 1, np.tile(ids, gates), "output")
    bias = visit.weights().get("cell/bias")
    if bias is not None:  # two rows in a GRU with reset_after
        visit.use("cell/bias", len(bias.shape) - 1, np.tile(ids, gates), "other")
    visit.size("units", ids)
    return ids


def attention(visit: Visit) -> list[Flow]:
    """Multi-head attention: heads leave as a whole; the sizes of a head stay."""
    query, value, key = _queries(visit)
    if any(axis != len(flow.shape) - 1 for flow in (query, value, key) for axis in flow.axes) or len(query.shape) != 3:
        return visit.stay(f"enters {visit.path!r} with other axes than [batch, positions, channels]")
    layer = visit.layer
    if getattr(layer, "use_gate", False):
        return visit.stay(f"enters {visit.path!r}, whose outputs are gated")
    heads = visit.computed("query/kernel", 1, layer.num_heads, "heads")
    visit.size("num_heads", heads)
    for name, flow in (("query", query), ("key", key), ("value", value)):
        visit.use(f"{name}/kernel", 0, visit.read(flow, 2), "input")
        visit.use(f"{name}/kernel", 1, heads, "output")
        if layer.use_bias:
            visit.use(f"{name}/bias", 0, heads, "other")
        visit.work(f"{name}/kernel", [flow.shape[1]])
    visit.use("attention_output/kernel", 0, heads, "input")
    visit.work("attention_output/kernel", [query.shape[1]])
    visit.record.scores.append(
        (heads, product([visit.times, query.shape[1], value.shape[1], layer.key_dim + layer.value_dim]))
    )
    if len(visit.shapes) > 1:
        visit.channels.fix(heads, f"the scores of {visit.path!r} are an output")
    ids = visit.read(query, 2)
    if layer.get_config()["output_shape"] is None:  # as many channels as the query
        visit.use("attention_output/kernel", 2, ids, "output")
    else:
        ids = visit.computed("attention_output/kernel", 2, visit.shapes[0][-1])
        visit.size("output_shape", (ids,))
    if layer.use_bias:
        visit.use("attention_output/bias", 0, ids, "other")
    return [Flow.along(2, ids, visit.shapes[0]), *(Flow.fixed(shape) for shape in visit.shapes[1:])]


def _queries(visit: Visit) -> tuple[Flow, Flow, Flow]:
    """Query, value and key of a call."""
    names = dict(zip(("query", "value", "key"), visit.args, strict=False)) | visit.kwargs
    value = names["value"]
    return names["query"], value, value if names.get("key") is None else names["key"]


def time_distributed(visit: Visit) -> list[Flow]:
    """The layer inside, on every step: axis 1 is left out."""
    flow, shape = visit.inputs[0], visit.shapes[0]
    if 1 in flow.axes:
        return visit.stay(f"enters {visit.path!r} with its axes reordered")
    inside = Flow(np.squeeze(flow.ids, 1), (flow.shape[0], *flow.shape[2:]))
    times = product([visit.times, shape[1]])
    inner_shape = (shape[0], *shape[2:])
    layer = visit.layer.layer
    (made,) = visit.inner(layer, f"{visit.path}/{layer.name}", [inside], (inside,), {}, [inner_shape], times)
    return [Flow(np.expand_dims(made.ids, 1), shape)]


def bidirectional(visit: Visit) -> list[Flow]:
    """Two recurrent layers, whose outputs are joined or summed."""
    layer, flow, shape = visit.layer, visit.inputs[0], visit.shapes[0]
    if len(visit.shapes) > 1 or _states(visit) or layer.merge_mode not in ("concat", "sum", "mul", "ave"):
        return visit.stay(f"enters {visit.path!r}, whose states are read or whose outputs are not merged")
    made_shape = (*shape[:-1], shape[-1] // 2 if layer.merge_mode == "concat" else shape[-1])
    made = [
        visit.inner(one, f"{visit.path}/{one.name}", [flow], (flow,), {}, [made_shape], visit.times)[0]
        for one in (layer.forward_layer, layer.backward_layer)
    ]
    axis = len(shape) - 1
    forward, backward = (visit.read(one, axis) for one in made)
    visit.channels.unite(forward, backward, SUMMED)  # Keras takes both directions to be of the same size
    ids = np.concatenate([forward, backward]) if layer.merge_mode == "concat" else forward
    return [Flow.along(axis, ids, shape)]
