"""LiteRT's own benchmark, `litert-benchmark` of the package `ai-edge-litert`, for comparison."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from keras_kd.errors import ConfigurationError
from keras_kd.litert.children import environment, failure

_MODULE = "ai_edge_litert.tools.benchmark_litert_model"


@dataclass(frozen=True)
class CrossCheck:
    """What `litert-benchmark` measured, rounded to 0.01 ms: inference only, without copies of inputs and outputs.

    Attributes:
        load_ms: the time to load the file, in milliseconds.
        first_run_ms: the time of the first run, in milliseconds.
        p50_ms: the median of the runs, in milliseconds.
        num_runs: the number of runs.
    """

    load_ms: float
    first_run_ms: float
    p50_ms: float
    num_runs: int


def litert_benchmark(
    path: str | Path, *, num_threads: int = 1, num_runs: int = 50, timeout_s: float = 120.0
) -> CrossCheck:
    """Runs `litert-benchmark` on a file, on the CPU.

    It fills integer inputs without regard to what the file accepts, and does not take open dimensions.

    Raises:
        ConfigurationError: it is not installed, fails on the file, or is not finished in time.
    """
    if importlib.util.find_spec("ai_edge_litert.tools") is None or importlib.util.find_spec(_MODULE) is None:
        raise ConfigurationError("litert-benchmark is not part of the installed ai-edge-litert.")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = [f"--model={path}", f"--num_threads={num_threads}", f"--num_runs={num_runs}"]
        command = [sys.executable, "-P", "-m", _MODULE, *options, f"--result_json={result}"]
        try:
            child = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, env=environment())
        except subprocess.TimeoutExpired:
            raise ConfigurationError(f"litert-benchmark was not finished after {timeout_s:g} s.") from None
        try:
            return _read(json.loads(result.read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log = child.stderr.decode(errors="replace")
            raise ConfigurationError(failure(child.returncode, log, "litert-benchmark")) from error


def _read(result: dict) -> CrossCheck:
    latency = result["latency"]
    numbers = (float(latency[name]) for name in ("init_ms", "warmup_first_ms", "median_ms"))
    return CrossCheck(*numbers, int(latency["num_runs"]))
