"""Changes a LiteRT file without changing its model."""

from __future__ import annotations

from keras_kd.errors import ConfigurationError, explain


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
    from ai_edge_litert.tools import flatbuffer_utils
    from numpy import frombuffer, uint8

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    if any(buffer.offset > 1 for buffer in model.buffers):
        problem = "Metadata cannot be written into a file of this size."
        raise ConfigurationError(explain(problem, received=f"{len(content):,} bytes", expected="less than 2 GB"))
    found = [entry for entry in model.metadata or [] if entry.name == name.encode()]
    if found:
        model.buffers[found[0].buffer].data = frombuffer(data, uint8)
    else:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = frombuffer(data, uint8)
        entry.name, entry.buffer = name.encode(), len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
