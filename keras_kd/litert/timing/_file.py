"""A script for a child process: times a LiteRT file on the CPU.

    python _file.py FILE NUM_THREADS OPEN_SIZE

LiteRT may crash on a damaged file, or not end, so it does not run in the caller's process.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert.model import Model
from keras_kd.litert.reading import read_file
from keras_kd.litert.timing.inputs import describe, random_inputs
from keras_kd.litert.timing.serving import serve


class FileSubject:
    """A LiteRT file with random inputs."""

    def __init__(self, path: str, num_threads: int, open_size: int):
        self._path, self._num_threads, self._open_size = path, num_threads, open_size

    def prepare(self) -> None:
        import ai_edge_litert.interpreter  # noqa: F401

        self._values = random_inputs(read_file(self._path), open_size=self._open_size)

    def load(self) -> None:
        self._model = Model(self._path, num_threads=self._num_threads)

    def inputs(self) -> dict[str, str]:
        indices = {name: tensor.index for name, tensor in self._model.inputs.items()}
        if not set(indices.values()) <= set(self._values):
            received, expected = f"tensors {sorted(indices.values())}", f"tensors {sorted(self._values)}"
            problem = f"{self._path} is damaged: LiteRT takes other inputs than the file's graph has."
            raise ConfigurationError(
                explain(problem, received=received, expected=expected, fix="Export or copy it again.")
            )
        self._contents = {name: self._values[index] for name, index in indices.items()}
        return {name: describe(content) for name, content in self._contents.items()}

    def run(self) -> Any:
        return self._model.run(self._contents)

    def bind(self) -> Callable[[], Any]:
        return self._model.bind(self._contents)


def limit_memory() -> None:
    """Makes allocations beyond the memory that is free now fail, so that a damaged file cannot take it all."""
    with contextlib.suppress(OSError, ImportError, KeyError, ValueError):
        import resource

        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (free, free))


if __name__ == "__main__":
    limit_memory()
    serve(FileSubject(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
