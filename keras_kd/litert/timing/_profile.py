"""A script for a child process: the time of each operator of a LiteRT file, from LiteRT's own profiler.

    python _profile.py FILE NUM_THREADS OPEN_SIZE NUM_RUNS

The Python package has no profiler, but the C library in it does (`litert_compiled_model.h`, `litert_profiler.h` and
`litert_profiler_event.h` of github.com/google-ai-edge/LiteRT, commit f6745779 of 2026-08-21, which ai-edge-litert 2.3.0
agrees with). Other versions may lay out the structures below in another way, hence the child process. The answer is the
last line of the standard output, in JSON: for each run the list of its events.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.litert.file import File
from keras_kd.litert.graph import named_ends
from keras_kd.litert.reading import read_file
from keras_kd.litert.timing.inputs import random_inputs

_CPU, _WRITE = 1, 1
_WARMUP = 3
_NO_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda pointer: None)


class _Layout(ctypes.Structure):
    _fields_ = (
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("index", ctypes.c_uint64),
        ("further", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class _Library:
    """LiteRT's C library: `call("CreateOptions", ...)` calls `LiteRtCreateOptions` and checks its status."""

    def __init__(self):
        folder = Path(importlib.util.find_spec("ai_edge_litert").origin).parent
        self._library = ctypes.CDLL(str(folder / "libLiteRt.so"))

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name} failed with status {status}.")

    def get(self, name: str, *arguments: Any, kind: type = ctypes.c_void_p) -> Any:
        """The value that a function writes to its last argument."""
        result = kind()
        self.call(name, *arguments, ctypes.byref(result))
        return result


class Profiled:
    """A file that is compiled for the CPU with a profiler."""

    def __init__(self, path: str, num_threads: int, open_size: int):
        self._library = _Library()
        self._file = read_file(path)
        self._contents = random_inputs(self._file, open_size=open_size)
        get = self._library.get
        self._environment = get("CreateEnvironment", 0, None)
        self._model = get("CreateModelFromFile", self._environment, path.encode())
        self._options = get("CreateOptions")
        self._library.call("SetOptionsHardwareAccelerators", self._options, _CPU)
        self._texts = [self._add("runtime_options_string", "enable_profiling = true\n")]
        self._texts.append(self._add("xnnpack", f"num_threads = {num_threads}\n"))
        self._compiled = get("CreateCompiledModel", self._environment, self._model, self._options)
        self._profiler = get("CompiledModelGetProfiler", self._compiled)
        self._buffers = self._allocated()

    def run(self) -> list[dict[str, Any]]:
        """The events of one run."""
        self._library.call("StartProfiler", self._profiler)
        self.invoke()
        self._library.call("StopProfiler", self._profiler)
        number = self._library.get("GetNumProfilerEvents", self._profiler, kind=ctypes.c_int).value
        events = (_Event * max(1, number))()
        if number:
            self._library.call("GetProfilerEvents", self._profiler, number, events)
        return [
            {"name": one.tag.decode(errors="replace"), "kind": one.kind, "us": one.elapsed_us, "index": one.index}
            for one in events[:number]
        ]

    def invoke(self) -> None:
        inputs, outputs = self._buffers
        ends = (ctypes.c_size_t(len(inputs)), inputs, ctypes.c_size_t(len(outputs)), outputs)
        self._library.call("RunCompiledModel", self._compiled, self._signature, *ends)

    def _add(self, name: str, text: str) -> ctypes.Array:
        """Adds settings, in TOML; returns their text, which must stay."""
        stored = ctypes.create_string_buffer(text.encode())
        pointer = ctypes.cast(stored, ctypes.c_void_p)
        opaque = self._library.get("CreateOpaqueOptions", name.encode(), pointer, _NO_DESTRUCTOR)
        self._library.call("AddOpaqueOptions", self._options, opaque)
        return stored

    def _allocated(self) -> tuple[ctypes.Array, ctypes.Array]:
        """Buffers for all inputs, filled, and all outputs."""
        inputs = self._signature_inputs()
        for place, content in enumerate(inputs):
            self._resize(place, content.shape)
        outputs = self._output_layouts()
        filled = [self._buffer("Input", place, one.shape) for place, one in enumerate(inputs)]
        for buffer, content in zip(filled, inputs, strict=True):
            self._fill(buffer, content)
        empty = [self._buffer("Output", place, shape) for place, shape in enumerate(outputs)]
        return tuple((ctypes.c_void_p * max(1, len(one)))(*(b.value for b in one)) for one in (filled, empty))

    def _signature_inputs(self) -> list[np.ndarray]:
        """The contents of the inputs, in the order of the first signature of the main graph."""
        names = _main_names(self._file)
        for number in range(self._library.get("GetNumModelSignatures", self._model, kind=ctypes.c_size_t).value):
            self._signature = ctypes.c_size_t(number)
            self._signature_handle = self._library.get("GetModelSignature", self._model, self._signature)
            found = self._names("Input")
            if set(found) == set(names):
                return [self._contents[names[name]] for name in found]
        raise RuntimeError("No signature has the inputs of the main graph.")

    def _names(self, end: str) -> list[str]:
        number = self._library.get(f"GetNumSignature{end}s", self._signature_handle, kind=ctypes.c_size_t).value
        get = self._library.get
        name = f"GetSignature{end}Name"
        return [
            get(name, self._signature_handle, ctypes.c_size_t(place), kind=ctypes.c_char_p).value.decode()
            for place in range(number)
        ]

    def _resize(self, place: int, shape: Sequence[int]) -> None:
        """Sets the shape of an input with open dimensions."""
        layout = self._type("Input", place).layout
        if min(layout.dimensions[: layout.rank], default=0) < 0:
            sizes = (ctypes.c_int * len(shape))(*shape)
            arguments = (self._signature, ctypes.c_size_t(place), sizes, ctypes.c_size_t(len(shape)))
            self._library.call("CompiledModelResizeInputTensor", self._compiled, *arguments)

    def _output_layouts(self) -> list[tuple[int, ...]]:
        number = len(self._names("Output"))
        layouts = (_Layout * max(1, number))()
        arguments = (self._signature, ctypes.c_size_t(number), layouts, ctypes.c_bool(True))
        self._library.call("GetCompiledModelOutputTensorLayouts", self._compiled, *arguments)
        return [tuple(one.dimensions[: one.rank]) for one in layouts[:number]]

    def _type(self, end: str, place: int) -> _TensorType:
        tensor = self._library.get(f"GetSignature{end}TensorByIndex", self._signature_handle, ctypes.c_size_t(place))
        return self._library.get("GetRankedTensorType", tensor, kind=_TensorType)

    def _buffer(self, end: str, place: int, shape: Sequence[int]) -> ctypes.c_void_p:
        kind = self._type(end, place)
        kind.layout.dimensions[: len(shape)] = list(shape)
        where = (self._compiled, self._signature, ctypes.c_size_t(place))
        needs = self._library.get(f"GetCompiledModel{end}BufferRequirements", *where)
        name = "CreateManagedTensorBufferFromRequirements"
        return self._library.get(name, self._environment, ctypes.byref(kind), needs)

    def _fill(self, buffer: ctypes.c_void_p, content: np.ndarray) -> None:
        size = self._library.get("GetTensorBufferSize", buffer, kind=ctypes.c_size_t).value
        if content.nbytes > size:
            raise RuntimeError(f"A buffer of {size} bytes cannot hold an input of {content.nbytes} bytes.")
        address = ctypes.c_void_p()
        self._library.call("LockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
        ctypes.memmove(address, content.ctypes.data, content.nbytes)
        self._library.call("UnlockTensorBuffer", buffer)


def _main_names(file: File) -> dict[str, int]:
    """The index of the tensor of each input, by name."""
    return dict(named_ends(file)[0])


if __name__ == "__main__":
    profiled = Profiled(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    for _ in range(_WARMUP):
        profiled.invoke()
    runs = [profiled.run() for _ in range(int(sys.argv[4]))]
    sys.stdout.write("\n" + json.dumps(runs) + "\n")
