"""The commands that run LiteRT's benchmark binary on an Android phone.

Flags are those of `tflite/tools/benchmark` (README.md, benchmark_model.cc, benchmark_tflite_model.cc) of
github.com/google-ai-edge/LiteRT, commit f6745779 of 2026-08-21. They have not been run on a phone.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from keras_kd.errors import check_integer
from keras_kd.litert import File, named_ends, read_file
from keras_kd.litert.timing import index_limits, input_range, input_shape

_FOLDER = "/data/local/tmp"
TOOL = f"{_FOLDER}/android_aarch64_benchmark_model"
DOWNLOAD = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
    "android_aarch64_benchmark_model"
)


def android_commands(
    path: str | Path, *, num_threads: int = 4, use_gpu: bool = False, num_runs: int = 50, open_size: int = 1
) -> tuple[str, ...]:
    """The shell commands that benchmark a LiteRT file on a phone, with the binary already on it (see `TOOL`).

    Integer inputs get values that the file accepts, and open dimensions a size. Of several signatures, that of the main
    graph is run.

    Args:
        path: the file.
        num_threads: CPU threads.
        use_gpu: whether to use the GPU delegate instead of XNNPACK.
        num_runs: the minimum number of runs.
        open_size: the size of open dimensions; an open batch has size 1.

    Raises:
        ConfigurationError: the file is missing or damaged, or a number is out of range.

    Returns:
        A command that copies the file, and one that runs it.
    """
    file, remote = read_file(path), f"{_FOLDER}/{_remote_name(Path(path))}"
    check_integer("open_size", open_size, at_least=1)
    options = [
        f"--graph={remote}",
        f"--num_threads={check_integer('num_threads', num_threads, at_least=1)}",
        f"--num_runs={check_integer('num_runs', num_runs, at_least=1)}",
        "--use_gpu=true" if use_gpu else "--use_xnnpack=true",
    ]
    options += _signature(file) + _inputs(file, open_size)
    remote_command = " ".join([TOOL, *map(shlex.quote, options)])
    has_quotes = remote_command != " ".join([TOOL, *options])  # for the shell of the phone, hence for both
    shell = shlex.quote(remote_command) if has_quotes else remote_command
    return f"adb push {shlex.quote(str(path))} {remote}", f"adb shell {shell}"


def _remote_name(path: Path) -> str:
    """A name that needs no quotes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.name)


def _signature(file: File) -> list[str]:
    """The flag that names the signature to run, which a file with several signatures requires."""
    main = [one.key for one in file.signatures if one.graph == 0]
    return [f"--signature_to_run_for={main[0]}"] if len(file.signatures) > 1 and main else []


def _inputs(file: File, open_size: int) -> list[str]:
    """Shapes of all inputs and ranges of integers, where the binary's own choice might not fit.

    The names do not matter to the binary, so they are numbers: those of the file may contain its separators.
    """
    graph = file.graphs[0]
    limits = index_limits(graph)
    tensors = {index: graph.tensors[index] for _, index in named_ends(file)[0]}
    integers = {index: input_range(one, limits.get(index)) for index, one in tensors.items() if not one.scales}
    named = {index: f"input{place}" for place, index in enumerate(tensors)}
    ranges = [f"{named[index]},{one[0]},{one[1]}" for index, one in integers.items() if one is not None]
    is_open = any(None in one.open_shape for one in tensors.values())
    if not (is_open or ranges):
        return []
    shapes = ":".join(",".join(map(str, input_shape(one, open_size))) for one in tensors.values())
    found = [f"--input_layer={','.join(named.values())}", f"--input_layer_shape={shapes}"]
    return found + ([f"--input_layer_value_range={':'.join(ranges)}"] if ranges else [])
