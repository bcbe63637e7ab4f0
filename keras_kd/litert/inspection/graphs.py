"""The facts about a graph of a LiteRT file."""

from __future__ import annotations

from keras_kd.litert.file import File, Graph, StoredOperator, StoredTensor
from keras_kd.litert.inspection.costs import multiply_adds
from keras_kd.litert.inspection.facts import GraphFacts, OperatorFacts, TensorFacts

_STORAGE_FORMS = ("DEQUANTIZE", "DENSIFY")
_NOT_WEIGHTS = ("int32", "int64", "uint32", "bool", "string")
_MAX_RANK = 8


def graph_facts(file: File, number: int, named: set[int]) -> GraphFacts:
    """The facts about a graph.

    Args:
        file: the file.
        number: the index of the graph.
        named: the indices of the tensors that signatures name.
    """
    graph = file.graphs[number]
    tensors = tuple(_tensor(file, graph, index) for index in range(len(graph.tensors)))
    stored = _stored_forms(graph, tensors)
    used = _used_tensors(graph) | named
    return GraphFacts(
        name=graph.name,
        tensors=tensors,
        operators=tuple(_operator(graph, index, tensors, stored) for index in range(len(graph.operators))),
        inputs=tuple(tensors[index] for index in graph.inputs),
        outputs=tuple(tensors[index] for index in graph.outputs),
        has_open_dimensions=any(None in tensor.shape for tensor in tensors),
        unused_tensors=tuple(tensor for tensor in tensors if tensor.index not in used),
    )


def _tensor(file: File, graph: Graph, index: int) -> TensorFacts:
    stored = graph.tensors[index]
    is_per_tensor = stored.quantization == "per tensor"
    return TensorFacts(
        index=index,
        name=stored.name,
        dtype=stored.dtype,
        shape=stored.open_shape,
        quantization=stored.quantization,
        num_scales=_num_scales(graph, stored),
        scale=stored.scales[0] if is_per_tensor else None,
        zero_point=(*stored.zero_points, 0)[0] if is_per_tensor else None,
        block_size=stored.block_size,
        num_bytes=file.stored_bytes(stored),
        is_sparse=stored.is_sparse,
    )


def _num_scales(graph: Graph, stored: StoredTensor) -> int:
    if stored.scale_tensors and len(graph.tensors[stored.scale_tensors[0]].shape) <= _MAX_RANK:
        return graph.tensors[stored.scale_tensors[0]].num_elements
    return len(stored.scales)


def _stored_forms(graph: Graph, tensors: tuple[TensorFacts, ...]) -> dict[int, TensorFacts]:
    """The constants behind tensors that are only constants in another form."""
    found: dict[int, TensorFacts] = {}
    for operator in graph.operators:
        if operator.name in _STORAGE_FORMS and len(operator.inputs) == len(operator.outputs) == 1:
            source = found.get(operator.inputs[0]) or (tensors[operator.inputs[0]] if operator.inputs[0] >= 0 else None)
            if source is not None and source.num_bytes:
                found[operator.outputs[0]] = source
    return found


def _operator(
    graph: Graph, index: int, tensors: tuple[TensorFacts, ...], stored: dict[int, TensorFacts]
) -> OperatorFacts:
    operator = graph.operators[index]
    outputs = tuple(tensors[one] for one in operator.outputs)
    constants = _constants(operator, tensors, stored)
    weights = max((one for one in constants if one.dtype not in _NOT_WEIGHTS), key=_num_bytes, default=None)
    quantized = weights or (outputs[0] if outputs else None)
    kind = quantized.quantization if quantized else "none"
    return OperatorFacts(
        index=index,
        name=operator.name,
        version=operator.version,
        is_custom=operator.is_custom,
        inputs=tuple(tensors[one] if one >= 0 else None for one in operator.inputs),
        outputs=outputs,
        weights=weights,
        quantization=kind,
        num_channels=quantized.num_scales if quantized and kind == "per channel" else 0,
        constant_bytes=sum(map(_num_bytes, constants)),
        multiply_adds=multiply_adds(operator, graph),
    )


def _num_bytes(tensor: TensorFacts) -> int:
    return tensor.num_bytes


def _constants(
    operator: StoredOperator, tensors: tuple[TensorFacts, ...], stored: dict[int, TensorFacts]
) -> list[TensorFacts]:
    """The different constants that an operator reads; none for one that only changes the form of a constant."""
    if any(index in stored for index in operator.outputs):
        return []
    read = [stored.get(index, tensors[index]) for index in sorted(set(operator.inputs) - {-1})]
    return [one for one in {one.index: one for one in read}.values() if one.num_bytes]


def _used_tensors(graph: Graph) -> set[int]:
    """The tensors that operators, the graph and the quantization of other tensors name."""
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used |= {*operator.inputs, *operator.outputs, *operator.intermediates}
    for tensor in graph.tensors:
        used |= {*tensor.scale_tensors}
    return used
