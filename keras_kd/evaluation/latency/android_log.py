"""What LiteRT's benchmark binary for Android prints.

The format is that of `tflite/tools/benchmark` and `tflite/profiling/profile_summary_formatter.cc` of
github.com/google-ai-edge/LiteRT, commit f6745779 of 2026-08-21, and of older ones. The parser was tested on recorded
output.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from keras_kd.errors import ConfigurationError, explain

_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_FLOAT = re.compile(_NUMBER)
_STATS = re.compile(rf"(?:^|[\s:])(count=\d+ .*(?:avg|curr)={_NUMBER}.*)$")
_TIMES = re.compile(rf"([A-Z][a-z]*(?: [a-z]+)?(?: \(avg\))?): {_NUMBER}")
_MEMORY = re.compile(rf"(?:Memory footprint delta.*|Peak memory footprint) \(MB\): init={_NUMBER} overall={_NUMBER}")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_DELEGATE = re.compile(r"((?:Explicitly applied|Though) .*? delegate\b.*)")
_ERROR = re.compile(r"(?:ERROR: |\bE tflite\s*: )(.*)")
_INITIALIZATION = "Profiling Info for Benchmark Initialization:"
_REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:"
_COLUMNS = ("[node type]", "[avg ms]", "[Name]")


@dataclass(frozen=True)
class AndroidOperator:
    """A row of the binary's profile in the order of the run.

    Attributes:
        kind: such as "CONV_2D", or "Delegate/Convolution (NHWC, F32) IGEMM".
        mean_ms: the mean time in milliseconds.
        name: the name of its output, or of its place.
    """

    kind: str
    mean_ms: float
    name: str


@dataclass(frozen=True)
class AndroidRun:
    """One run of the binary. Times are in milliseconds; None stands for what it did not print.

    Attributes:
        graph: the file on the phone.
        num_threads: CPU threads.
        delegates: its sentences about delegates, such as "Explicitly applied GPU delegate, and the model graph will be
            completely executed by the delegate."
        load_ms: the time to load the file and apply the delegate.
        first_run_ms: the time of the first run.
        mean_ms, min_ms, max_ms, std_ms: of the timed runs.
        p50_ms, p95_ms: of the timed runs; older binaries do not print them.
        num_runs: the number of timed runs.
        memory_mb: the growth of the process, roughly.
        peak_mb: its peak, with --report_peak_memory_footprint=true.
        operators: with --enable_op_profiling=true.
    """

    graph: str | None
    num_threads: int | None
    delegates: tuple[str, ...]
    load_ms: float | None
    first_run_ms: float | None
    mean_ms: float
    min_ms: float | None
    max_ms: float | None
    std_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    num_runs: int | None
    memory_mb: float | None
    peak_mb: float | None
    operators: tuple[AndroidOperator, ...]

    def __str__(self) -> str:
        median = "" if self.p50_ms is None else f"median {self.p50_ms:.3g} ms, "
        runs = "" if self.num_runs is None else f" of {self.num_runs} runs"
        start = "".join(
            f", {what} {value:.3g} ms"
            for what, value in (("load", self.load_ms), ("first run", self.first_run_ms))
            if value is not None
        )
        text = f"{self.graph or 'a file'}: {median}mean {self.mean_ms:.3g} ms{runs}{start}"
        return "\n".join([text, *(f"  {one}" for one in self.delegates)])


def parse_android_log(text: str) -> tuple[AndroidRun, ...]:
    """Reads what the binary printed, directly, with the prefix "INFO: ", or through logcat; of one run or several.

    Raises:
        ConfigurationError: a run has no times; the binary's errors are part of the message.
    """
    parts = re.split(r"^.*\bSTARTING!.*$", text, flags=re.M)
    runs = [part for part in parts if _is_run(part)] or [text]
    return tuple(_parse(part.splitlines()) for part in runs)


def _is_run(part: str) -> bool:
    return "Graph: [" in part or "inference timings" in part.lower() or _ERROR.search(part) is not None


def _parse(lines: Sequence[str]) -> AndroidRun:
    times = next((_named_times(line) for line in lines if "inference timings in us" in line.lower()), {})
    mean = times.get("Inference (avg)", times.get("Inference", times.get("no stats")))
    if mean is None:
        errors = " ".join(_first(_ERROR, [line]) for line in lines if _ERROR.search(line))[:400]
        problem, fix = (
            "This is not the output of a finished benchmark.",
            "Record what `adb shell ...` prints, all of it.",
        )
        raise ConfigurationError(explain(problem, received=errors or f"{len(lines)} lines without times", fix=fix))
    stats = _stats(lines)
    in_ms = {name: _to_ms(stats.get(name)) for name in ("min", "max", "std", "median", "p95")}
    memory, threads = _first(_MEMORY, lines, 2), _first(re.compile(r"(?i)\bnum threads: \[(\d+)\]"), lines)
    peak = _first(_PEAK, lines)
    return AndroidRun(
        graph=_first(re.compile(r"Graph: \[(.*?)\]"), lines) or None,
        num_threads=int(threads) if threads else None,
        delegates=tuple(dict.fromkeys(one[1].strip() for line in lines if (one := _DELEGATE.search(line)))),
        load_ms=_to_ms(times.get("Init")),
        first_run_ms=_to_ms(times.get("First inference")),
        mean_ms=mean / 1000,
        min_ms=in_ms["min"],
        max_ms=in_ms["max"],
        std_ms=in_ms["std"],
        p50_ms=in_ms["median"],
        p95_ms=in_ms["p95"],
        num_runs=int(stats["count"]) if "count" in stats else None,
        memory_mb=float(memory) if memory else None,
        peak_mb=float(peak) if peak else None,
        operators=_operators(lines),
    )


def _first(pattern: re.Pattern[str], lines: Sequence[str], group: int = 1) -> str:
    return next((found[group] for line in lines if (found := pattern.search(line))), "")


def _named_times(line: str) -> dict[str, float]:
    """The microseconds in "... timings in us: Init: 855, First inference: 49060, ..."."""
    return {name: float(value) for name, value in _TIMES.findall(line)}


def _stats(lines: Sequence[str]) -> dict[str, float]:
    """The numbers of the last line "count=50 first=..." before the summary, which is that of the timed runs."""
    end = next(place for place, line in enumerate(lines) if "inference timings in us" in line.lower())
    found = [one[1] for line in lines[:end] if "Timings (" not in line and (one := _STATS.search(line))]
    return {name: float(value) for name, value in re.findall(rf"(\w+)={_NUMBER}", found[-1])} if found else {}


def _to_ms(us: float | None) -> float | None:
    return None if us is None else us / 1000


def _operators(lines: Sequence[str]) -> tuple[AndroidOperator, ...]:
    """The first table of the profile, in the order of the run."""
    marks = [place for place, line in enumerate(lines) if _REGULAR in line]
    if not marks and any(_INITIALIZATION in line for line in lines):
        return ()
    rows = list(lines[marks[0] if marks else 0 :])
    head = next((place for place, row in enumerate(rows) if "[node type]" in row), len(rows))
    columns = _cells(rows[head]) if head < len(rows) else []
    if not set(_COLUMNS) <= set(columns):
        return ()
    kind, mean, name = map(columns.index, _COLUMNS)
    table = itertools.takewhile(lambda cells: len(cells) == len(columns), map(_cells, rows[head + 1 :]))
    numbers = ((cells, _FLOAT.fullmatch(cells[mean])) for cells in table)
    return tuple(
        AndroidOperator(one[kind], float(number[1]), one[name].strip("[]")) for one, number in numbers if number
    )


def _cells(row: str) -> list[str]:
    """The cells of a row; they are separated by tabs, or by spaces where a terminal replaced these."""
    return re.split(r"\s*\t\s*|\s{2,}", row[max(0, row.find("\t")) :].strip())
