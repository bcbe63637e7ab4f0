"""`Metadata` in the form of the schema, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_kd.errors import ConfigurationError, explain
from keras_kd.export.metadata import schema
from keras_kd.export.metadata.contents import InputInfo, Metadata, OutputInfo

PROVENANCE = "keras_kd.json"
_COLORS = {1: schema.GRAYSCALE, 3: schema.RGB}


class End(NamedTuple):
    """An input or output of a file: its name in the signature, and its shape."""

    name: str
    shape: tuple[int, ...]


class Packed(NamedTuple):
    """Metadata as stored: the values of the schema's root table, and the files packed with them."""

    values: dict[str, Any]
    files: dict[str, bytes]


def pack(metadata: Metadata, inputs: Sequence[End], outputs: Sequence[End]) -> Packed:
    """Metadata as stored, for a file with these inputs and outputs, in the order of its main graph.

    Raises:
        ConfigurationError: a name that the file does not have, or labels or a normalization of another length than the
            tensor has.
    """
    files: dict[str, bytes] = {}
    of_inputs = _by_name("inputs", metadata.inputs, inputs, InputInfo())
    of_outputs = _by_name("outputs", metadata.outputs, outputs, OutputInfo())
    graph = {
        "input_tensor_metadata": [_pack_input(end, of_inputs[end.name]) for end in inputs],
        "output_tensor_metadata": [_pack_output(end, of_outputs[end.name], len(outputs), files) for end in outputs],
    }
    about = {name: getattr(metadata, name) or None for name in ("name", "description", "version", "author", "license")}
    values = {**about, "subgraph_metadata": [graph], "min_parser_version": schema.MIN_PARSER_VERSION}
    if metadata.provenance:
        files[PROVENANCE] = json.dumps(dict(metadata.provenance), indent=1, sort_keys=True).encode()
        entry = {"name": PROVENANCE, "description": "How the model was made.", "type": schema.DESCRIPTIONS}
        values["associated_files"] = [entry]
    return Packed(values, files)


def unpack(packed: Packed, inputs: Sequence[End], outputs: Sequence[End]) -> Metadata:
    """The metadata of a file, written by this package or another tool."""
    values, files = packed
    graph = next(iter(values.get("subgraph_metadata", [])), {})
    about = {name: values.get(name, "") for name in ("name", "description", "version", "author", "license")}
    of_inputs = zip(inputs, graph.get("input_tensor_metadata", []), strict=False)
    of_outputs = zip(outputs, graph.get("output_tensor_metadata", []), strict=False)
    provenance = json.loads(files[PROVENANCE]) if PROVENANCE in files else {}
    return Metadata(
        **about,
        inputs={end.name: _unpack_input(one) for end, one in of_inputs},
        outputs={end.name: _unpack_output(one, files) for end, one in of_outputs},
        provenance=provenance,
    )


def _by_name(what: str, given: Any, ends: Sequence[End], default: Any) -> Mapping[str, Any]:
    names = [end.name for end in ends]
    if not isinstance(given, Mapping):
        given = {names[0]: given} if len(names) == 1 else {"": given}
    if unknown := [name for name in given if name not in names]:
        raise ConfigurationError(
            explain(
                f"The {what!r} of the metadata do not fit the file.",
                received=", ".join(map(repr, unknown)) if unknown != [""] else f"one for {len(names)} {what}",
                expected=f"a dictionary with some of {', '.join(map(repr, names))}",
            )
        )
    return {name: given.get(name, default) for name in names}


def _pack_input(end: End, info: InputInfo) -> dict[str, Any]:
    channels = end.shape[-1] if len(end.shape) > 1 else 1
    if len(info.mean) not in (0, 1, channels):
        raise ConfigurationError(
            explain(
                f"The normalization of input {end.name!r} does not fit its shape {end.shape}.",
                received=f"{len(info.mean)} means",
                expected="1" if channels == 1 else f"1, or {channels}: one for each channel",
            )
        )
    if info.is_image and (len(end.shape) != 4 or channels not in _COLORS):
        raise ConfigurationError(
            explain(
                f"Input {end.name!r} is not an image.",
                received=f"is_image=True, and shape {end.shape}",
                expected="[batch, height, width, channels] with 1 or 3 channels",
            )
        )
    kind = {"ImageProperties": {"color_space": _COLORS[channels]}} if info.is_image else {"FeatureProperties": {}}
    options = {"NormalizationOptions": {"mean": list(info.mean), "std": list(info.std)}}
    return {
        "name": end.name,
        "description": info.description or None,
        "content": {"content_properties": kind},
        "process_units": [{"options": options}] if info.mean else None,
    }


def _pack_output(end: End, info: OutputInfo, num_outputs: int, files: dict[str, bytes]) -> dict[str, Any]:
    stored: dict[str, Any] = {"name": end.name, "description": info.description or None}
    stored["content"] = {"content_properties": {"FeatureProperties": {}}}
    if not info.labels:
        return stored
    size = end.shape[-1] if end.shape else 1
    if len(info.labels) != size and not info.labels_are_of_values:
        raise ConfigurationError(
            explain(
                f"The labels do not fit output {end.name!r} of shape {end.shape}.",
                received=f"{len(info.labels)} labels",
                expected=f"{size}, one for each number in its last dimension",
            )
        )
    name = "labels.txt" if num_outputs == 1 else f"labels_{len(files)}.txt"
    files[name] = "".join(f"{label}\n" for label in info.labels).encode()
    kind = schema.TENSOR_VALUE_LABELS if info.labels_are_of_values else schema.TENSOR_AXIS_LABELS
    entry = {"name": name, "description": "A line for each class.", "type": kind}
    return stored | {"associated_files": [entry]}


def _unpack_input(stored: dict[str, Any]) -> InputInfo:
    options = [unit.get("options", {}) for unit in stored.get("process_units", [])]
    normalization = next((one["NormalizationOptions"] for one in options if "NormalizationOptions" in one), {})
    kind = stored.get("content", {}).get("content_properties", {})
    return InputInfo(
        stored.get("description", ""),
        tuple(normalization.get("mean", ())),
        tuple(normalization.get("std", ())),
        "ImageProperties" in kind,
    )


def _unpack_output(stored: dict[str, Any], files: Mapping[str, bytes]) -> OutputInfo:
    kinds = (schema.TENSOR_AXIS_LABELS, schema.TENSOR_VALUE_LABELS)
    labels = [
        (tuple(files[file["name"]].decode().splitlines()), file["type"] == schema.TENSOR_VALUE_LABELS)
        for file in stored.get("associated_files", [])
        if file.get("type") in kinds and file.get("name") in files
    ]
    return OutputInfo(stored.get("description", ""), *next(iter(labels), ((), False)))
