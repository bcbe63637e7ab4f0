"""The memory that LiteRT for Microcontrollers (TFLM) needs for a file.

Source: github.com/tensorflow/tflite-micro at commit 90b983c of 2026-08-20; paths are below tensorflow/lite/micro.
"""

from __future__ import annotations

from collections.abc import Iterator

from keras_kd.export.microcontroller.planning import Buffer, planned_bytes
from keras_kd.litert import File, Graph, StoredOperator

_ALIGNMENT = 16  # MicroArenaBufferAlignment() in micro_arena_constants.h

# Structures of the interpreter in bytes, as a 64-bit compiler lays them out; on a microcontroller, pointers are half as
# large.
_FIXED = 1024  # allocators, planner, inputs and outputs
_PER_TENSOR = 24  # TfLiteEvalTensor
_PER_OPERATOR = 64 + 128  # NodeAndRegistration; its options and what its kernel keeps
_PER_CHANNEL = 4 + 4  # multiplier and shift (kernels/conv_common.cc, fully_connected_common.cc)
_INT16_SOFTMAX = 2 * 513 * 2  # two tables of int16 (kernels/softmax_common.cc)
_WHILE_PLANNING = 32 + 40  # AllocationInfo and GreedyMemoryPlanner::per_buffer_size() of a tensor

_REDUCTIONS = ("MEAN", "REDUCE_ALL", "REDUCE_MAX", "REDUCE_MIN", "SUM")
_WITH_CHANNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def arena_bytes(file: File) -> tuple[int, int]:
    """How large TFLM's arena has to be, and how much of it is for tensors.

    The second number is TFLM's own plan with its reference kernels. The first adds an upper bound for the structures of
    the interpreter. Kernels that are optimized for a processor (CMSIS-NN, ESP-NN) may need more; the memory in use is
    known on the device (`MicroInterpreter::arena_used_bytes()`).

    Args:
        file: as `keras_kd.litert.read_file` returns it. Open dimensions count as 1. The graphs of control flow are
            planned side by side, although TFLM lets them share memory.
    """
    planned = sum(planned_bytes(list(buffers(file, graph))) for graph in file.graphs)
    structures = _FIXED + sum(_structures(graph) for graph in file.graphs)
    while_planning = _WHILE_PLANNING * sum(len(graph.tensors) for graph in file.graphs)
    return _aligned(structures + max(planned, while_planning)), planned


def buffers(file: File, graph: Graph) -> Iterator[Buffer]:
    """The memory of the tensors of a graph and of its kernels, and when it is in use (micro_allocation_info.cc)."""
    uses: dict[int, list[int]] = {index: [-1] for index in graph.inputs}
    for place, operator in enumerate(graph.operators):
        for index in (*operator.inputs, *operator.outputs):
            uses.setdefault(index, []).append(place)
    for index in graph.outputs:
        uses.setdefault(index, []).append(len(graph.operators) - 1)
    for index, tensor in enumerate(graph.tensors):
        if tensor.num_bytes and not (file.stored_bytes(tensor) or tensor.is_variable):
            places = uses.get(index, [-1])
            yield Buffer(_aligned(tensor.num_bytes), min(places), max(places))
    for place, operator in enumerate(graph.operators):
        for num_bytes in _scratch(graph, operator):
            yield Buffer(_aligned(num_bytes), place, place)


def _scratch(graph: Graph, operator: StoredOperator) -> Iterator[int]:
    """The bytes of each scratch buffer of a kernel: kernels/reduce_common.cc, transpose_conv.cc,
    unidirectional_sequence_lstm.cc."""
    outputs = [graph.tensors[index] for index in operator.outputs]
    elements, dtypes = sum(one.num_elements for one in outputs), {one.dtype for one in outputs}
    is_int = "float32" not in dtypes
    if operator.name in ("MEAN", "SUM") and is_int:
        yield 4 * elements
    if operator.name in _REDUCTIONS:
        tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
        yield from (4 * len(tensors[0].shape), 4 * tensors[-1].num_elements) if tensors else ()
    if operator.name == "TRANSPOSE_CONV" and is_int:
        yield (8 if "int16" in dtypes else 4) * elements
    if operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        yield from [4 * elements] * 4


def _structures(graph: Graph) -> int:
    variables = sum(_aligned(tensor.num_bytes) for tensor in graph.tensors if tensor.is_variable)
    operators = sum(_PER_OPERATOR + _kept(graph, operator) for operator in graph.operators)
    return _PER_TENSOR * len(graph.tensors) + variables + operators


def _kept(graph: Graph, operator: StoredOperator) -> int:
    """What the kernel of an operator keeps, besides a structure of less than 128 bytes."""
    outputs = [graph.tensors[index] for index in operator.outputs]
    if operator.name in _WITH_CHANNELS:
        return sum(_PER_CHANNEL * one.shape[-1] for one in outputs if one.shape)
    if operator.name == "BATCH_MATMUL":  # transposed copies of its inputs
        return sum(_aligned(graph.tensors[index].num_bytes) for index in operator.inputs if index >= 0)
    return _INT16_SOFTMAX if operator.name == "SOFTMAX" and "int16" in {one.dtype for one in outputs} else 0


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
