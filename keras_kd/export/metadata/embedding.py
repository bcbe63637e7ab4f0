"""Metadata in a LiteRT file: a buffer of the file, and the files packed with it in a ZIP archive at its end."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from keras_kd import files
from keras_kd.errors import ConfigurationError, ExportError, explain
from keras_kd.export.metadata import layout, schema
from keras_kd.export.metadata.contents import Metadata, check_metadata
from keras_kd.export.metadata.packing import End, Packed, pack, unpack
from keras_kd.litert import File, named_ends, read_file, same_model, with_metadata

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (  # RuntimeError: an encrypted file, or nesting without end
    *layout.DAMAGE,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    EOFError,
    OSError,
)
_DATE = (1980, 1, 1, 0, 0, 0)  # the same metadata give the same bytes


def add_metadata(path: str | Path, metadata: Metadata) -> None:
    """Writes metadata into a LiteRT file, in place of those that it has. The model stays as it is.

    They follow TFLite's schema, so that MediaPipe and Android's tools read them too: a flatbuffer, and the labels in a
    ZIP archive at the end of the file (`unzip model.tflite` extracts them).

    Raises:
        ConfigurationError: the file is missing or damaged, or the metadata do not fit it.
        OSError: the file cannot be written; it is unchanged.
    """
    path = Path(path)
    files.write(path, embedded(read_file(path).content, metadata))


def read_metadata(source: str | Path | bytes) -> Metadata | None:
    """The metadata of a LiteRT file, or of its content; None if it has none.

    Raises:
        ConfigurationError: the file is missing or damaged, or its metadata are damaged.
    """
    file = read_file(source)
    if schema.ENTRY not in file.metadata:
        return None
    stored = file.metadata[schema.ENTRY]
    try:
        if stored[4:8] != schema.IDENTIFIER:
            raise ValueError(f"they begin with {stored[:8]!r}, without {schema.IDENTIFIER!r}")
        packed = Packed(layout.read(schema.MODEL, stored), _unzipped(file.content))
        return unpack(packed, *_ends(file))
    except (*_DAMAGE, ConfigurationError) as error:
        problem = "The metadata of the file are damaged."
        raise ConfigurationError(
            explain(problem, received=str(error), fix="Write them anew: `add_metadata`.")
        ) from error


def embedded(content: bytes, metadata: Metadata) -> bytes:
    """The content of a LiteRT file with metadata.

    Raises:
        ConfigurationError: the file is damaged, or the metadata do not fit it.
        ExportError: the model would not be the same afterwards.
    """
    check_metadata(metadata)
    file = read_file(content)
    values, packed = pack(metadata, *_ends(file))
    new = with_metadata(content, schema.ENTRY, layout.write(schema.MODEL, values, schema.IDENTIFIER))
    if not same_model(file, read_file(new)):
        raise ExportError("The model would not be the same after the metadata are written. Nothing was written.")
    return new + _zipped(packed, len(new)) if packed else new


def _ends(file: File) -> tuple[list[End], list[End]]:
    tensors = file.graphs[0].tensors
    inputs, outputs = ([End(name, tensors[index].shape) for name, index in one] for one in named_ends(file))
    return inputs, outputs


def _zipped(packed: dict[str, bytes], offset: int) -> bytes:
    """A ZIP archive whose offsets count from the beginning of the file; not compressed, as MediaPipe requires."""
    buffer = io.BytesIO()
    buffer.seek(offset)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in packed.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
    return buffer.getvalue()[offset:]


def _unzipped(content: bytes) -> dict[str, bytes]:
    """The packed files by name; an error of `_DAMAGE` if they cannot be read."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type not in _METHODS for entry in entries):
            raise ValueError("packed files in an unknown form of compression")
        if sum(entry.file_size for entry in entries) > 100 * len(content):
            raise ValueError("packed files that are far larger than the file")
        return {entry.filename: archive.read(entry) for entry in entries}
