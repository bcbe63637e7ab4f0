"""A benchmark as tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_kd.evaluation.latency.speed import Speed
from keras_kd.litert.timing import CrossCheck, Profile
from keras_kd.quantities import human_bytes
from keras_kd.tables import cut, format_table

_NUM_KINDS, _NAME_WIDTH = 5, 40
_HEADER = ("model", "threads", "load ms", "first ms", "p50 ms", "p90 ms", "p99 ms", "memory", "ratio")
_UNKNOWN = "?"
_RESOLUTION_MS = 0.01  # of litert-benchmark


def as_text(speeds: Sequence[Speed], profiles: Mapping[str, Profile | str], machine: Mapping[str, str]) -> str:
    """The table of all models, notes, and a table for each profile."""
    if not speeds:
        return ""
    rows = [_HEADER, *(_row(one) for one in sorted(speeds, key=lambda one: one.num_threads))]
    tables = [format_table(rows, right=_HEADER[1:-1]), "\n".join(_notes(speeds, machine))]
    checks = [(one, one.cross_check) for one in speeds if one.cross_check is not None]
    tables += ["\n".join(_cross_check(one, check) for one, check in checks)] if checks else []
    tables += [_profile(name, one) for name, one in profiles.items()]
    return "\n\n".join(tables)


def milliseconds(value: float) -> str:
    """Three digits: "0.0123", "12.3", "1230"."""
    return f"{value:#.3g}".rstrip(".") if value < 1000 else f"{value:.0f}"


def _row(one: Speed) -> tuple[str, ...]:
    latency = one.latency
    times = (one.load_ms, one.first_run_ms, latency.p50_ms, latency.p90_ms, latency.p99_ms)
    memory = _UNKNOWN if one.memory_bytes is None else human_bytes(one.memory_bytes)
    threads = str(one.num_threads) if latency.num_threads else _UNKNOWN
    return (cut(one.name, _NAME_WIDTH), threads, *map(milliseconds, times), memory, str(one.ratio))


def _notes(speeds: Sequence[Speed], machine: Mapping[str, str]) -> list[str]:
    first = speeds[0]
    runs = f"{min(one.latency.num_runs for one in speeds):,} runs or more, {len(first.latency.rounds_p50_ms)} rounds"
    runtimes = ", ".join(dict.fromkeys(one.runtime for one in speeds))
    notes = [
        f"{runs}, random inputs; {runtimes}; {machine['processor']}, {machine['num_cores']} cores.",
        "Memory: growth of the process from before the file was loaded to its peak.",
        f"Ratio: p50 to that of {first.name} in the same round; median, smallest and largest of the rounds.",
    ]
    shapes = {", ".join(f"{name} {what}" for name, what in one.inputs.items()): one.name for one in reversed(speeds)}
    notes += [f"Input: {shape} ({name})." for shape, name in reversed(shapes.items())]
    if any(one.latency.num_threads is None for one in speeds):
        notes.append("Threads ?: the backend of Keras chooses them.")
    if min(one.latency.num_runs for one in speeds) < 100:
        notes.append("With less than 100 runs, the 99th percentile is close to the slowest one.")
    return notes


def _cross_check(one: Speed, check: CrossCheck | str) -> str:
    threads = f"{one.num_threads} thread{'s' if one.num_threads > 1 else ''}"
    if isinstance(check, str):
        return f"litert-benchmark, {one.name}, {threads}: {check}"
    is_fine = check.p50_ms >= 10 * _RESOLUTION_MS
    share = f", {check.p50_ms / one.latency.p50_ms:.2f} of p50" if is_fine else " (it rounds to 0.01 ms)"
    return f"litert-benchmark, {one.name}, {threads}: median {check.p50_ms:.2f} ms{share}"


def _profile(name: str, profile: Profile | str) -> str:
    if isinstance(profile, str):
        return f"{name}: no profile. {profile}"
    kinds = list(profile.by_name().items())
    total = sum(us for _, (_, us) in kinds)
    rows = [("operator", "count", "us", "share")]
    rows += [_kind(kind, count, us, total) for kind, (count, us) in kinds[:_NUM_KINDS]]
    if len(kinds) > _NUM_KINDS:
        rest = kinds[_NUM_KINDS:]
        rows.append(_kind("others", sum(n for _, (n, _) in rest), sum(us for _, (_, us) in rest), total))
    head = f"{name}: {profile.mean_us:.0f} us in a run, {total:.0f} us of them in operators"
    return f"{head}\n{format_table(rows, right=('count', 'us', 'share'))}"


def _kind(name: str, count: int, us: float, total: float) -> tuple[str, ...]:
    return cut(name, _NAME_WIDTH), str(count), f"{us:.1f}", f"{us / total:.0%}" if total else _UNKNOWN
