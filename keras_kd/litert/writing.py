"""Changes a LiteRT file without changing its model."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert.file import File
from keras_kd.litert.reading import read_file

_IDENTIFIER = b"TFL3"
_MOST_BYTES = 2**30  # of a file that is written anew, which takes several times its size in memory
_ALIGNMENT = 16  # of the content of buffers, by LiteRT's schema (`force_align`)


def with_metadata(content: bytes, name: str, data: bytes) -> bytes:
    """The content of a file with a further buffer of metadata, in place of one with that name.

    What follows the model in the file, such as an archive, is left out.

    Args:
        content: a whole LiteRT file.
        name: of the buffer.
        data: its content.

    Raises:
        ConfigurationError: the file keeps its weights outside of the flatbuffer, as those larger than 2 GB do.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = _unpacked(content)
    if _is_split(model):
        problem = "Metadata cannot be written into a file of this size."
        raise ConfigurationError(explain(problem, received=f"{len(content):,} bytes", expected="less than 2 GB"))
    found = [entry for entry in model.metadata or [] if entry.name == name.encode()]
    if found:
        model.buffers[found[0].buffer].data = np.frombuffer(data, np.uint8)
    else:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(data, np.uint8)
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    return _packed(model, len(content) + len(data))


def compacted(content: bytes) -> bytes:
    """The same model in fewer bytes, with the content of all tensors at multiples of 16 bytes.

    Of equal scales, zero points and shapes, one is stored: for quantized weights, a zero point of 8 bytes for each
    channel, all of which are 0. Converters neither share them nor align the content of every buffer, which processors
    without unaligned loads need. A file of more than 1 GB stays as it is.

    Args:
        content: a whole LiteRT file.
    """
    if len(content) > _MOST_BYTES:
        return content
    model = _unpacked(content)
    packed = _packed(model, len(content))
    return packed if same_model(read_file(content), read_file(packed)) else content


def same_model(one: File, other: File) -> bool:
    """Whether two files have the same graphs and signatures, and the same content of their tensors."""
    tensors = [tensor for graph in one.graphs for tensor in graph.tensors]
    return (one.graphs, one.signatures) == (other.graphs, other.signatures) and all(
        one.data(tensor) == other.data(tensor) for tensor in tensors
    )


def _unpacked(content: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.convert_bytearray_to_object(bytearray(content))


def _is_split(model: Any) -> bool:
    return any(buffer.offset > 1 for buffer in model.buffers)


def _packed(model: Any, num_bytes: int) -> bytes:
    builder = _Builder(num_bytes)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Aligns vectors of bytes, and stores equal vectors of numbers once."""

    def __init__(self, num_bytes: int):
        super().__init__(num_bytes)
        self._known: dict[tuple[str, bytes], int] = {}

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
        return super().StartVector(elemSize, numElems, _ALIGNMENT if elemSize == 1 else alignment)

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        if x.itemsize == 1:
            return super().CreateNumpyVector(x)
        key = (x.dtype.str, x.tobytes())
        if key not in self._known:
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]
