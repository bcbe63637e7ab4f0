"""Latency statistics with a fake clock and fake runners, and one real run."""

import functools

import keras
import numpy as np
import pytest

from keras_kd.compression import ChannelPruning
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.latency import exported
from keras_kd.evaluation.latency.comparing import compare_latency, measure_latency, take_turns
from keras_kd.evaluation.latency.latency import summarize_times
from keras_kd.evaluation.runners import KerasRunner, Runner, TFLiteRunner

SAMPLE = np.zeros((1, 2), "float32")


class FakeClock:
    """A clock that only runners advance."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class FakeRunner(Runner):
    """A runner whose runs take the given times in seconds, in order; the last one repeats."""

    def __init__(self, clock, times, name="fake", log=None, num_threads=3):
        super().__init__(name, num_threads)
        self.clock, self.times, self.log, self.num_prepared = clock, list(times), log, 0

    def predict(self, x):
        raise NotImplementedError

    def prepare(self, x):
        self.num_prepared += 1
        self.clock.now += 50  # must not be included in any time
        return "prepared"

    def run(self, x):
        assert x == "prepared"
        self.clock.now += self.times.pop(0) if len(self.times) > 1 else self.times[0]
        if self.log is not None:
            self.log.append(self.name)


@pytest.fixture
def clock():
    return FakeClock()


def test_percentiles_are_those_of_numpy_over_the_timed_runs_only(clock):
    times = np.random.default_rng(0).gamma(2.0, 0.003, 200)
    runner = FakeRunner(clock, [9.0] * 7 + list(times))
    latency = measure_latency(runner, SAMPLE, warmup=7, min_runs=200, min_seconds=0, clock=clock)
    for percent in (50, 90, 95, 99):
        assert getattr(latency, f"p{percent}_ms") == pytest.approx(np.percentile(times, percent) * 1000)
    assert latency.mean_ms == pytest.approx(times.sum() / 200 * 1000)
    assert (latency.num_runs, latency.num_threads, runner.num_prepared) == (200, 3, 1)


@pytest.mark.parametrize(
    ("seconds", "min_runs", "min_seconds", "num_runs"), [(0.5, 4, 0.25, 4), (0.125, 4, 2.0, 16), (0.125, 1, 0, 1)]
)
def test_it_goes_on_until_there_are_enough_runs_and_enough_time(seconds, min_runs, min_seconds, num_runs, clock):
    options = {"min_runs": min_runs, "min_seconds": min_seconds, "clock": clock}
    latency = measure_latency(FakeRunner(clock, [seconds]), SAMPLE, **options)
    assert (latency.num_runs, latency.p50_ms) == (num_runs, pytest.approx(seconds * 1000))


def test_models_take_turns_and_their_turns_are_pooled(clock):
    log = []
    runners = {name: FakeRunner(clock, [seconds], name, log) for name, seconds in (("a", 0.001), ("b", 0.002))}
    result = compare_latency(runners, SAMPLE, rounds=3, warmup=1, min_runs=6, min_seconds=0, clock=clock)
    assert "".join(log) == "aaabbb" * 3  # one warmup run and two timed runs per turn
    assert list(result) == ["a", "b"]
    assert [latency.num_runs for latency in result.values()] == [6, 6]
    assert [latency.p50_ms for latency in result.values()] == pytest.approx([1.0, 2.0])


def test_models_may_take_different_inputs(clock):
    seen = {"a": [], "b": []}

    class Watched(FakeRunner):
        def prepare(self, x):
            seen[self.name].append(x.shape)
            return super().prepare(x)

    runners = {name: Watched(clock, [0.001], name) for name in "ab"}
    samples = {"b": np.zeros((1, 4)), "a": np.zeros((1, 7)), "c": None}
    compare_latency(runners, samples, rounds=1, warmup=0, min_runs=2, min_seconds=0, clock=clock)
    assert seen == {"a": [(1, 7)], "b": [(1, 4)]}


def test_turns_are_returned_by_round_and_counted():
    calls, counted = [], []
    timers = {name: lambda *numbers, name=name: calls.append((name, *numbers)) or [1.0] for name in "ab"}
    settings = {"rounds": 2, "warmup": 3, "min_runs": 5, "min_seconds": 0.5}
    assert take_turns(timers, **settings, advance=lambda: counted.append(1)) == {"a": [[1.0]] * 2, "b": [[1.0]] * 2}
    assert calls == [(name, 3, 3, 0.25) for name in "abab"]
    assert len(counted) == 4


def test_a_machine_that_slows_down_slows_all_models(clock):
    drift = list(np.linspace(0.001, 0.003, 100))
    one_after_the_other = [
        measure_latency(FakeRunner(clock, part), SAMPLE, warmup=0, min_runs=50, min_seconds=0, clock=clock).p50_ms
        for part in (drift[:50], drift[50:])
    ]
    shared = iter(drift)

    class Drifting(FakeRunner):
        def run(self, x):
            self.clock.now += next(shared)

    runners = {name: Drifting(clock, [0]) for name in "ab"}
    options = {"rounds": 25, "warmup": 0, "min_runs": 50, "min_seconds": 0, "clock": clock}
    a, b = (latency.p50_ms for latency in compare_latency(runners, SAMPLE, **options).values())
    assert one_after_the_other[1] / one_after_the_other[0] > 1.5
    assert b / a < 1.05


def test_it_reads_well():
    clock = FakeClock()
    options = {"min_seconds": 0, "clock": clock}
    fixed = measure_latency(FakeRunner(clock, [0.0025]), SAMPLE, **options)
    assert str(fixed) == "2.5 ms (95% under 2.5 ms; 100 runs, num_threads=3)"
    free = measure_latency(FakeRunner(clock, [0.0025], num_threads=None), SAMPLE, **options)
    assert str(free) == "2.5 ms (95% under 2.5 ms; 100 runs)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": np.zeros((2, 2))}, r"Received: shape \(2, 2\). Expected: \(1, ...\)"),
        ({"sample": np.zeros(())}, "`sample` must be a batch of one example"),
        ({"sample": {"b": SAMPLE}}, "`sample` lacks an example for a model. Received: none for 'a'"),
        ({"sample": {"a": np.zeros((2, 2))}}, r"Received: shape \(2, 2\)"),
        ({"runners": {}}, "`runners` is empty"),
        ({"rounds": 0}, "'rounds'"),
        ({"min_runs": 0}, "'min_runs'"),
        ({"min_runs": 2.5}, "'min_runs'.*whole number"),
        ({"warmup": -1}, "'warmup'"),
        ({"min_seconds": float("nan")}, "'min_seconds'"),
    ],
)
def test_settings_that_do_not_fit_are_named(options, message, clock):
    arguments = {"runners": {"a": FakeRunner(clock, [0.1])}, "sample": SAMPLE}
    with pytest.raises(ConfigurationError, match=message):
        compare_latency(**arguments | options)


def test_real_runners(net, float_file, int8_file, images):
    runners = {"keras": KerasRunner(net), "float": TFLiteRunner(float_file), "int8": TFLiteRunner(int8_file)}
    result = compare_latency(runners, images[:1], rounds=2, warmup=2, min_runs=10, min_seconds=0.02)
    assert all(0 < latency.p50_ms <= latency.p95_ms for latency in result.values())
    assert [latency.num_threads for latency in result.values()] == [None, 1, 1]


def test_litert_latency_measures_the_file_of_a_model(monkeypatch):
    """Of a model without some of its channels as well, whose file the export compares with it."""
    monkeypatch.setattr(exported, "export_tflite", functools.partial(exported.export_tflite, isolate=False))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)])
    measure = exported.litert_latency(np.zeros((1, 4), "float32"), min_runs=3, min_seconds=0, warmup=1)
    monkeypatch.setattr(exported, "measure_latency", lambda runner, sample, **settings: timed(runner, settings))

    def timed(runner, settings):
        assert runner.predict(np.ones((3, 4))).shape == (3, 2) and runner.num_threads == 1 and settings["min_runs"] == 3
        return summarize_times([[0.001, 0.002, 0.003]])

    assert measure(ChannelPruning(parameters=0.5).apply(model, verbose=False)) == pytest.approx(0.002)
    with pytest.raises(ConfigurationError, match="batch of one"):
        exported.litert_latency(np.zeros((2, 4)))
