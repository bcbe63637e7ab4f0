"""Shared by all benchmarks: fair rounds, ratios with their spread, and writing results."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
DOCS = ROOT.parent / "docs" / "benchmarks.md"


def rounds(contenders: dict[str, Callable[[], None]], num_rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each contender per round; every round runs all in turn, starting with a different one."""
    names = list(contenders)
    seconds = {name: [] for name in names}
    for index in range(-warmup, num_rounds):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            contenders[name]()
            if index >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """The ratio of two contenders, computed per round: median, minimum and maximum."""
    values = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def total(*series: list[float]) -> list[float]:
    return [sum(values) for values in zip(*series, strict=True)]


def show(value: dict[str, float]) -> str:
    return f"{value['median']:.3f} ({value['min']:.3f} to {value['max']:.3f})"


def environment() -> dict:
    cpu = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", cpu.read_text()) if cpu.exists() else None
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} x {model.group(1) if model else platform.processor()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert", "keras_kd")},
    }


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write(name: str, results: dict, table: str, command: str | None = None) -> None:
    """Writes `results/NAME.json` and puts the table into docs/benchmarks.md between the markers of that name.

    Args:
        name: of the results and the markers.
        results: with the `environment` of an earlier run, if they were not measured now.
        table: in Markdown.
        command: what measures it; None for `python benchmarks/NAME.py`.
    """
    RESULTS.mkdir(exist_ok=True)
    results = {"environment": environment(), **results}
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    about = results["environment"]
    backend = " on JAX" if about.get("backend") == "jax" else f", TensorFlow {about['tensorflow']}"
    note = (
        f"{about['date']}, {about['machine']}, Python {about['python']}, Keras {about['keras']}{backend}. "
        f"`{command or f'python benchmarks/{name}.py'}`, [json](../benchmarks/results/{name}.json)."
    )
    block = f"<!-- {name} -->\n{table}\n\n{note}\n<!-- /{name} -->"
    text = DOCS.read_text() if DOCS.exists() else "# Benchmarks\n"
    pattern = re.compile(rf"<!-- {name} -->.*?<!-- /{name} -->", re.S)
    text = pattern.sub(lambda _: block, text) if pattern.search(text) else f"{text}\n{block}\n"
    DOCS.write_text(text)
    print(table)
