"""A model card: what a LiteRT file is, for the people who put it into an app."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from keras_kd.export.metadata import InputInfo, Metadata, OutputInfo, read_metadata
from keras_kd.litert import named_ends, read_file
from keras_kd.litert.inspection import Inspection, inspect_tflite
from keras_kd.litert.inspection.facts import TensorFacts
from keras_kd.litert.inspection.text import shape_text
from keras_kd.quantities import human_bytes, human_number

_MOST_LABELS = 100


def model_card(source: str | Path | bytes) -> str:
    """The card of a LiteRT file in Markdown: inputs and how they are normalized, outputs with labels, size, origin.

    Everything is read from the file and its metadata; it says what they leave open.

    Args:
        source: the path of a `.tflite` file, or its content.

    Raises:
        ConfigurationError: the file is missing or damaged, or its metadata are damaged.
    """
    found, metadata = inspect_tflite(source), read_metadata(source) or Metadata()
    tensors = found.graphs[0].tensors
    inputs, outputs = ({name: tensors[index] for name, index in ends} for ends in named_ends(read_file(source)))
    name = metadata.name or (Path(source).stem if not isinstance(source, bytes) else "model")
    parts = [f"# {_line(name)}", metadata.description, _about(metadata, found)]
    parts += ["## Inputs", _table(("name", "shape", "type", "content"), _input_rows(inputs, metadata.inputs))]
    parts += ["## Outputs", _table(("name", "shape", "type", "content"), _output_rows(outputs, metadata.outputs))]
    parts += _labels(metadata.outputs)
    parts += ["## Cost", _cost(found)]
    if metadata.provenance:
        parts += ["## Origin", f"```json\n{json.dumps(dict(metadata.provenance), indent=1)}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(metadata: Metadata, found: Inspection) -> str:
    version, author = metadata.version or "not given", metadata.author or "not given"
    license = metadata.license or "not given"
    sizes = f"{human_bytes(found.file_bytes)} ({human_bytes(found.gzip_bytes)} gzipped)"
    rows = [("version", version), ("author", author), ("license", license), ("size", sizes)]
    return "\n".join(f"- **{name}**: {_line(value)}" for name, value in rows)


def _input_rows(tensors: Mapping[str, TensorFacts], infos: Mapping[str, InputInfo]) -> Iterable[tuple[str, ...]]:
    for name, tensor in tensors.items():
        info = infos.get(name, InputInfo())
        steps = [info.description, "an image" if info.is_image else ""]
        if info.mean:
            steps.append(f"(raw - {_numbers(info.mean)}) / {_numbers(info.std)}")
        if tensor.scale is not None:
            steps.append(f"then round(x / {tensor.scale:.6g}) {_signed(tensor.zero_point)}")
        yield name, shape_text(tensor.shape), tensor.dtype, "; ".join(filter(None, steps))


def _output_rows(tensors: Mapping[str, TensorFacts], infos: Mapping[str, OutputInfo]) -> Iterable[tuple[str, ...]]:
    for name, tensor in tensors.items():
        info = infos.get(name, OutputInfo())
        steps = [info.description, f"{len(info.labels)} labels" if info.labels else ""]
        if tensor.scale is not None:
            steps.append(f"{tensor.scale:.6g} * (q {_signed(-tensor.zero_point)})")
        yield name, shape_text(tensor.shape), tensor.dtype, "; ".join(filter(None, steps))


def _signed(number: int) -> str:
    """
    >>> _signed(-128), _signed(3)
    ('- 128', '+ 3')
    """
    return f"{'-' if number < 0 else '+'} {abs(number)}"


def _labels(infos: Mapping[str, OutputInfo]) -> Iterable[str]:
    for name, info in infos.items():
        if info.labels:
            more = len(info.labels) - _MOST_LABELS
            shown = ", ".join(map(_line, info.labels[:_MOST_LABELS])) + (f" and {more:,} more" if more > 0 else "")
            yield f"Labels of `{_line(name)}`, in order: {shown}."


def _cost(found: Inspection) -> str:
    unknown = sum(kind.num_not_counted for kind in found.kinds)
    operations = f"{human_number(found.multiply_adds)} multiply-adds a run"
    operations += f", without {unknown} operators that are not counted" if unknown else ""
    kinds = ", ".join(f"{kind.count} {kind.name}" for kind in found.kinds)
    dtypes = ", ".join(f"{human_bytes(size)} {dtype}" for dtype, size in found.bytes_by_dtype.items())
    return f"{operations}. Constants: {dtypes or 'none'}. Operators: {kinds}."


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [[_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *cells])


def _numbers(values: tuple[float, ...]) -> str:
    shown = [f"{value:.6g}" for value in values]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _line(text: str) -> str:
    return " ".join(text.split())
