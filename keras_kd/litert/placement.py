"""Asks LiteRT, in a child process, which operators of a file run where."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.litert import _placement
from keras_kd.litert.children import environment, failure

_SCRIPT = Path(_placement.__file__)
_GPU_ERROR = re.compile(r"(?:Validation error|Failed to create [\w:]+): ([^\[].+)")
_GPU_COUNTS = re.compile(r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) (\d+)")


@dataclass(frozen=True)
class Placed:
    """An operator as LiteRT runs it; "DELEGATE" is a subgraph of a delegate.

    Attributes:
        name: as in LiteRT's schema.
        inputs, outputs: the indices of the tensors.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class GpuRun:
    """The GPU accelerator's own answer about a file.

    Attributes:
        adapter: the GPU and its driver, such as "llvmpipe (LLVM 15.0.6, 256 bits)".
        is_whole: whether it runs every operator, without an error of its driver.
        num_taken: the number of operators that it runs; None if it did not say.
        refusals: what it refuses, as "OPERATOR: reason".
        errors: what its driver reported while it prepared the file; the outputs would be wrong.
    """

    adapter: str
    is_whole: bool
    num_taken: int | None
    refusals: tuple[str, ...]
    errors: tuple[str, ...]

    def __str__(self) -> str:
        taken = "" if self.num_taken is None or self.is_whole else f", only {self.num_taken} of its operators"
        answer = "the whole file" if self.is_whole else f"not the whole file{taken}"
        lines = [*self.refusals, *(f"error: {one}" for one in self.errors)]
        return "\n".join([f"GPU (run here, {self.adapter}): {answer}", *(f"  {line}" for line in lines)])


def xnnpack_placement(content: bytes, *, timeout_s: float = 60.0) -> tuple[Placed, ...]:
    """The operators of a file's main graph, in order, followed by the subgraphs of XNNPACK.

    Raises:
        ConfigurationError: LiteRT refuses the file, crashes on it, or is not finished in time.
    """
    answer, _ = _ask("xnnpack", content, timeout_s)
    return tuple(Placed(one["name"], tuple(one["inputs"]), tuple(one["outputs"])) for one in answer["operators"])


def run_on_gpu(content: bytes, *, timeout_s: float = 120.0) -> GpuRun:
    """Loads a file on the GPU through LiteRT's accelerator, without the CPU.

    On Linux the accelerator uses WebGPU, which a software driver of Vulkan can serve (Mesa 25 or newer, lavapipe).

    Raises:
        ConfigurationError: no GPU can be reached, or LiteRT refuses the file, crashes on it, or is not finished in
            time.
    """
    answer, log = _ask("gpu", content, timeout_s)
    adapter = re.search(r"Selected adapter: (.+?), arch=", log)
    if adapter is None:
        fix = "Install a Vulkan driver, for example Debian's mesa-vulkan-drivers 25 or newer."
        raise ConfigurationError(explain("LiteRT's accelerator found no GPU.", fix=fix))
    counts = _GPU_COUNTS.search(log)
    errors = tuple(dict.fromkeys(_GPU_ERROR.findall(log)))
    taken = None if counts is None else 0 if counts[1] == "No" else int(counts[1])
    refusals = _refusals(log) or ((_first_line(answer["error"]),) if answer["error"] else ())
    return GpuRun(adapter[1], answer["is_whole"] and not errors, taken, refusals, errors)


def _refusals(log: str) -> tuple[str, ...]:
    _, found, rest = log.partition("Following operations are not supported by GPU delegate:\n")
    lines = rest.split("operations will run on", 1)[0].splitlines()[:-1] if found else []
    return tuple(dict.fromkeys(lines))


def _first_line(error: str) -> str:
    """The line of LiteRT's error that says what went wrong, after the line that says where."""
    lines = [line.strip("└ ") for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _ask(question: Literal["xnnpack", "gpu"], content: bytes, timeout_s: float) -> tuple[dict[str, Any], str]:
    """The child's answer, and its log."""
    check_number("timeout_s", timeout_s, at_least=0.001)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.tflite"
        path.write_bytes(content)
        command = [sys.executable, "-P", str(_SCRIPT), question, str(path)]
        try:
            child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, env=environment())
        except subprocess.TimeoutExpired:
            problem = f"LiteRT was not finished with the file after {timeout_s:g} s."
            raise ConfigurationError(explain(problem, fix="Export the file again.")) from None
    log = child.stderr.decode(errors="replace")
    if child.returncode:
        raise ConfigurationError(failure(child.returncode, log))
    try:
        return json.loads(child.stdout.decode().splitlines()[-1]), log
    except (IndexError, ValueError) as error:
        raise ConfigurationError("LiteRT ended without an answer about the file.") from error
