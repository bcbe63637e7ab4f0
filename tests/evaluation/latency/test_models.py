"""Files as a whole: real children once, and children that are replaced where failures matter."""

import dataclasses
import json

import keras
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.latency import benchmark_models, models
from keras_kd.litert import read_file
from keras_kd.litert.timing import CrossCheck, OperatorTime, Profile

QUICK = {"rounds": 2, "warmup": 1, "min_runs": 6, "min_seconds": 0.0, "progress": False}
ALONE = {"profile": False, "cross_check": False}


class FakeChild:
    """A child whose runs take the given seconds, or fail with a message in the given turn."""

    alive: list = []
    seconds: dict = {}
    failing: dict = {}

    def __init__(self, script, arguments, **options):
        self.name = arguments[0].rsplit("/", 1)[-1]
        self.threads = arguments[1]
        self.options, self.turn = options, 0
        if self.failing.get(self.name) == 0:
            raise ConfigurationError(f"{self.name} does not load")
        self.alive.append(self)
        self.load_ms, self.first_run_ms, self.inputs = 1.5, 2.5, {"x": "1x2 float32"}
        self.memory_bytes, self.peak_bytes = 1000, 5000

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.alive.remove(self)

    def time(self, warmup, min_runs, min_seconds):
        self.turn += 1
        if self.failing.get(self.name) == self.turn:
            raise ConfigurationError(f"{self.name} crashed")
        return [self.seconds[self.name]] * min_runs


@pytest.fixture
def fake(monkeypatch, tmp_path, pair_file):
    """A function that puts files of these seconds into the working directory and replaces their children."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "TimedChild", FakeChild)
    monkeypatch.setattr(FakeChild, "alive", [])
    monkeypatch.setattr(FakeChild, "failing", {})

    def put(**seconds):
        seconds = {f"{name}.tflite": value for name, value in seconds.items()}
        monkeypatch.setattr(FakeChild, "seconds", seconds)
        for name in seconds:
            (tmp_path / name).write_bytes(pair_file)
        return list(seconds)

    return put


@pytest.fixture(scope="module")
def measured(tmp_path_factory, pair, pair_file):
    """A Keras model with two inputs and two outputs, its file, and a file that is damaged."""
    folder = tmp_path_factory.mktemp("models")
    pair.save(folder / "pair.keras")
    (folder / "pair.tflite").write_bytes(pair_file)
    (folder / "bad.tflite").write_bytes(pair_file[:300])
    files = [folder / name for name in ("pair.tflite", "bad.tflite", "pair.keras")]
    return benchmark_models(files, **QUICK), files


def test_a_file_and_its_keras_model(measured):
    found, files = measured
    names = [str(file) for file in files]
    assert [(one.name, one.num_threads) for one in found.speeds] == [(names[0], 1), (names[2], 1)]
    for one in found.speeds:
        assert one.latency.num_runs == 6 and len(one.latency.rounds_p50_ms) == 2
        assert sorted(one.inputs.values()) == ["1x3 int32", "1x4 float32"]
        assert 0 < one.latency.p50_ms <= one.latency.p90_ms <= one.latency.p99_ms
        assert one.load_ms > 0 and one.first_run_ms > 0 and one.num_bytes > 0
    assert found[names[0], 1].ratio.high == found[names[0], 1].ratio.low == 1.0
    assert found[names[2], 1].runtime.startswith("Keras ") and found[names[0], 1].runtime.startswith("LiteRT ")


def test_operators_and_cross_check_of_litert_files_only(measured):
    found, files = measured
    assert list(found.profiles) == [str(files[0])]
    assert "GATHER" in found.profiles[str(files[0])].by_name()
    assert all(one.cross_check is None for one in found.speeds if one.name.endswith(".keras"))
    assert all(one.cross_check is not None for one in found.speeds if one.name.endswith(".tflite"))


def test_a_damaged_file_is_a_failure_and_the_others_are_measured(measured):
    found, files = measured
    assert list(found.failures) == [str(files[1])]
    assert "\n" not in found.failures[str(files[1])]


def test_everything_is_json(measured):
    found, _ = measured
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["models"][0]["latency"]["p99_ms"] == found.speeds[0].latency.p99_ms
    assert set(json.loads(text)) == {"machine", "models", "profiles", "failures"}


def test_ratios_are_to_the_first_model_with_as_many_threads(fake):
    files = fake(first=0.002, second=0.005, third=0.001)
    found = benchmark_models(files, threads=[1, 4], **QUICK, **ALONE)
    assert [one.ratio.median for one in found.speeds] == pytest.approx([1, 1, 2.5, 2.5, 0.5, 0.5])
    assert [one.num_threads for one in found.speeds] == [1, 4] * 3
    assert FakeChild.alive == []


def test_a_file_that_is_named_twice_is_measured_twice(fake):
    (name,) = fake(net=0.002)
    found = benchmark_models([name, name, name], **QUICK, **ALONE)
    assert [one.name for one in found.speeds] == ["net.tflite", "net.tflite (2)", "net.tflite (3)"]


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_model_that_fails_at_any_time_does_not_end_the_others(fake, monkeypatch, turn):
    files = fake(first=0.002, second=0.005, third=0.001)
    monkeypatch.setattr(FakeChild, "failing", {"first.tflite": turn})
    found = benchmark_models(files, threads=[1, 2], **QUICK, **ALONE)
    assert list(found.failures) == ["first.tflite"]
    assert [one.name for one in found.speeds] == ["second.tflite"] * 2 + ["third.tflite"] * 2
    assert [one.ratio.median for one in found.speeds] == pytest.approx([1, 1, 0.2, 0.2])
    assert all(one.latency.num_runs == 6 for one in found.speeds)
    assert FakeChild.alive == []


def test_all_models_may_fail(fake, monkeypatch):
    files = fake(first=0.002, second=0.005)
    monkeypatch.setattr(FakeChild, "failing", {"first.tflite": 1, "second.tflite": 0})
    found = benchmark_models([*files, "none.tflite"], **QUICK)
    assert (found.speeds, found.profiles, str(found)) == ((), {}, "")
    assert list(found.failures) == ["first.tflite", "second.tflite", "none.tflite"]


def test_ctrl_c_ends_all_children(fake, monkeypatch):
    files = fake(first=0.002, second=0.005)
    monkeypatch.setattr(FakeChild, "time", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        benchmark_models(files, **QUICK, **ALONE)
    assert FakeChild.alive == []


def test_profile_and_cross_check_may_fail(fake, monkeypatch):
    def refuse(*_, **options):
        raise ConfigurationError("no library")

    (name,) = fake(net=0.002)
    monkeypatch.setattr(models, "profile_file", refuse)
    monkeypatch.setattr(models, "litert_benchmark", refuse)
    found = benchmark_models([name], **QUICK)
    assert (found.profiles, found.speeds[0].cross_check) == ({name: "no library"}, "no library")
    assert f"{name}: no profile. no library" in str(found)
    assert f"litert-benchmark, {name}, 1 thread: no library" in str(found)
    assert found.to_dict()["profiles"] == {name: {"error": "no library"}}


def test_the_tables(fake, monkeypatch):
    files = fake(first=0.002, second=0.005)
    operators = tuple(OperatorTime(name, False, us) for name, us in zip("ABCDEFA", (1, 2, 3, 4, 5, 6, 3), strict=True))
    monkeypatch.setattr(models, "profile_file", lambda *_, **options: Profile(operators, 30.4, 5))
    check = CrossCheck(1.0, 2.0, 1.0, 50)
    monkeypatch.setattr(models, "litert_benchmark", lambda *_, **options: check)
    text = str(benchmark_models(files, **QUICK))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "model threads load ms first ms p50 ms p90 ms p99 ms memory ratio"
    assert lines[3] == "second.tflite 1 1.50 2.50 5.00 5.00 5.00 1000 B 2.50x (2.50 to 2.50)"
    assert "litert-benchmark, first.tflite, 1 thread: median 1.00 ms, 0.50 of p50" in lines
    assert "first.tflite: 30 us in a run, 24 us of them in operators" in lines
    assert "F 1 6.0 25%" in lines and "A 2 4.0 17%" in lines and "others 1 2.0 8%" in lines
    assert "With less than 100 runs, the 99th percentile is close to the slowest one." in lines


def test_a_keras_model_gets_its_threads_and_no_gpu(fake, monkeypatch, tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "net.keras")
    started = []
    monkeypatch.setattr(FakeChild, "seconds", {"net.keras": 0.5})
    monkeypatch.setattr(models, "TimedChild", lambda *a, **o: started.append(o) or FakeChild(*a, **o))
    found = benchmark_models(["net.keras"], threads=[3], **QUICK, **ALONE)
    variables = started[0]["variables"]
    assert (variables["TF_NUM_INTRAOP_THREADS"], variables["CUDA_VISIBLE_DEVICES"]) == ("3", "-1")
    assert found.speeds[0].latency.num_threads == 3
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    found = benchmark_models(["net.keras"], threads=[3], **QUICK, **ALONE)
    assert found.speeds[0].latency.num_threads is None
    assert "Threads ?: the backend of Keras chooses them." in str(found)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (None, "none.keras", "no such file"),
        (b"text", "text.keras", "not a .keras file"),
        (b"text", "text.tflite", "not a LiteRT"),
        (b"text", "text.h5", "not a LiteRT"),
        (b"PK\x05\x06" + bytes(18), "empty.keras", "it lacks config.json"),
    ],
)
def test_what_is_not_a_model(tmp_path, content, name, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = benchmark_models([tmp_path / name], **QUICK, **ALONE)
    (problem,) = found.failures.values()
    assert message in problem


def test_a_folder_and_a_graph_with_nothing_to_run(fake, monkeypatch, tmp_path):
    (name,) = fake(net=0.002)
    (tmp_path / "folder.keras").mkdir()
    file = read_file(name)
    empty = dataclasses.replace(file, graphs=(dataclasses.replace(file.graphs[0], operators=()),))
    monkeypatch.setattr(models, "read_file", lambda path: empty)
    found = benchmark_models(["folder.keras", name], **QUICK)
    assert "not a .keras file" in found.failures["folder.keras"]
    assert "has nothing to run" in found.failures[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"files": []}, "must list the files"),
        ({"files": "net.tflite"}, "must list the files"),
        ({"files": None}, "must list the files"),
        ({"files": 5}, "must list the files"),
        ({"files": [b"net.tflite"]}, "must list the files"),
        ({"threads": []}, "'threads'"),
        ({"threads": 2}, "'threads'"),
        ({"threads": [0]}, "'threads'"),
        ({"threads": [1.5]}, "'threads'"),
        ({"rounds": 0}, "'rounds'"),
        ({"min_runs": 0}, "'min_runs'"),
        ({"min_seconds": float("nan")}, "'min_seconds'"),
        ({"open_size": 0}, "'open_size'"),
        ({"timeout_s": 0}, "'timeout_s'"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ConfigurationError, match=message):
        benchmark_models(**{"files": ["net.tflite"]} | options)
