"""A teacher's outputs computed once: what is stored, what is rejected, and that a kill loses at most one shard."""

import dataclasses
import json
import os
import random
import shutil
import sys
import time

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.data import Flip, GaussianNoise, Mixup, PadAndCrop, Pipeline
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.teachers import AbsentTeacher, Batch, CachedTeacher, Ensemble, FrozenTeacher
from keras_kd.teachers.cache.store import Store

AUGMENT = [PadAndCrop(1), Flip()]


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.random((100, 8, 8, 1), "float32"), rng.integers(0, 10, 100)


@pytest.fixture
def teacher(make_model):
    return make_model(8, norm=True)


@pytest.fixture
def build(teacher, images, tmp_path):
    """Builds a small cache: 100 examples, 3 views, shards of 32 rows."""

    def make(pipeline=None, path=tmp_path / "cache", model=teacher, **settings):
        pipeline = Pipeline(images, augment=AUGMENT, batch_size=16) if pipeline is None else pipeline
        settings = {"views": 3, "shard_size": 32, "batch_size": 16, "progress": False} | settings
        return CachedTeacher.build(model, pipeline, path, **settings)

    return make


def student_after(teacher, pipeline, *, epochs=3, losses=None):
    """The student's weights after a few steps, and the distiller."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    student = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.ReLU(name="features"), layers.Flatten(), layers.Dense(10)]
    )
    distiller = kd.Distiller(teacher, student, alpha=0.7, losses=losses)
    distiller.compile(keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(pipeline, epochs=epochs, verbose=0)
    return student.get_weights(), distiller


# Outputs.


def test_stored_outputs_equal_the_teachers_for_each_view(build, teacher, images):
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    cached = build(pipeline)
    ids = np.array([99, 0, 31, 32, 33])
    for view in range(3):
        x, _ = pipeline.batch(ids, view)
        np.testing.assert_allclose(cached.outputs_for(ids, view, None)["output"], teacher(x), rtol=1e-3, atol=1e-3)
    assert cached.output_shapes == {"output": (None, 10)}
    assert cached.fingerprint == FrozenTeacher(teacher).fingerprint and cached.views == 3


@pytest.mark.parametrize("augment", [[], AUGMENT, [*AUGMENT, GaussianNoise(0.2)], [Flip(), Mixup(0.4)]])
def test_training_equals_training_with_the_live_teacher(build, teacher, images, augment):
    """With one view per epoch, the students differ only by the rounding to float16."""
    pipeline = Pipeline(images, augment=augment, batch_size=16, seed=3)
    if any(isinstance(step, Mixup) for step in augment):
        pipeline = Pipeline((images[0],), augment=augment, batch_size=16, seed=3)  # with labels, these would be soft
    live, _ = student_after(teacher, pipeline)
    cached = build(pipeline, views=3)
    stored, _ = student_after(cached, pipeline.with_teacher(cached))
    for a, b in zip(live, stored, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    exact = build(pipeline, path=cached.path.with_name("exact"), views=3, dtype="float32")
    for a, b in zip(live, student_after(exact, pipeline.with_teacher(exact))[0], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    other = build(pipeline, path=cached.path.with_name("one"), views=1)
    replayed, _ = student_after(other, pipeline.with_teacher(other))
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(live, replayed, strict=True)) == bool(augment)


def test_inner_layers_are_stored(build, images, make_model):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.ReLU(name="map"), layers.Flatten(), layers.Dense(10)]
    )
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    cached = build(pipeline, model=model, taps=["map"])
    hint = lambda: [kd.losses.Hint(teacher="map", student="features", name="hint")]  # noqa: E731
    live, _ = student_after(model, pipeline, losses=hint())
    stored, _ = student_after(cached, pipeline.with_teacher(cached), losses=hint())
    for a, b in zip(live, stored, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    with pytest.raises(ConfigurationError, match="'mop'.*'map'.*Did you mean 'map'"):
        kd.Distiller(cached, make_model(4), losses=[kd.losses.Hint(teacher="mop", student="re_lu")])


def test_several_outputs(images, tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, {"fine": keras.layers.Dense(10)(x), "coarse": keras.layers.Dense(3, "softmax")(x)})
    pipeline = Pipeline(images)
    cached = CachedTeacher.build(model, pipeline, tmp_path / "c", progress=False)
    live = FrozenTeacher(model)(Batch(images[0][:4])).outputs
    for name, value in cached.outputs_for(np.arange(4), 0, None).items():
        np.testing.assert_allclose(value, live[name], atol=1e-3)
    assert cached.output_shapes == {"fine": (None, 10), "coarse": (None, 3)}
    assert cached.activations == {"fine": "linear", "coarse": "softmax"}


def test_labels_are_compared_if_the_teacher_reads_them(build, images, make_model):
    """An ensemble weighted by label loss has the same outputs cached as live, and is rejected with other labels."""
    x, y = images
    ensemble = Ensemble([make_model(4), make_model(8)], weights="label_loss")
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    live, _ = student_after(ensemble, pipeline)
    cached = build(pipeline, model=ensemble)
    stored, _ = student_after(cached, pipeline.with_teacher(cached))
    for a, b in zip(live, stored, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    with pytest.raises(TeacherError, match="pipeline.labels"):
        Pipeline((x, 9 - y), augment=AUGMENT).with_teacher(cached)


@pytest.mark.parametrize("remainder", ["uniform", "renormalized", "sampled"])
def test_top_k_trains(build, images, remainder):
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    cached = build(pipeline, top_k=4, remainder=remainder)
    _, distiller = student_after(cached, pipeline.with_teacher(cached))
    assert np.isfinite(distiller.history.history["distillation_loss"]).all()


def test_a_streamed_source_gives_the_same_cache(build, images, monkeypatch):
    import tensorflow as tf

    from keras_kd.data.sources import records

    in_memory = build(Pipeline(images, augment=AUGMENT))
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    streamed = Pipeline(tf.data.Dataset.from_tensor_slices(images), augment=AUGMENT)
    assert not streamed.examples.random_access
    cached = build(streamed, path=in_memory.path.with_name("streamed"))
    for view in range(3):
        a, b = (c.outputs_for(np.arange(100), view, None)["output"] for c in (in_memory, cached))
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_an_offline_teacher_can_be_cached(build, images):
    """A cache of a cache: fewer classes of the stored outputs."""
    pipeline = Pipeline(images, augment=AUGMENT)
    cached = build(pipeline)
    small = build(pipeline, path=cached.path.with_name("small"), model=cached, top_k=3)
    a, b = (c.outputs_for(np.arange(100), 2, None)["output"] for c in (cached, small))
    np.testing.assert_array_equal(np.sort(a, -1)[:, -3:], np.sort(b, -1)[:, -3:])


# Building and resuming.


def shards(cached):
    return {file.name: file.stat().st_mtime_ns for file in (cached.path / "shards").iterdir()}


def test_more_views_are_added_to_existing_ones(build):
    cached = build(views=2)
    before = shards(cached)
    more = build(views=3)
    assert more.views == 3 and before.items() <= shards(more).items() and len(shards(more)) == 12
    assert build(views=2).views == 3  # no view is discarded


def test_shares_of_several_processes_are_merged_by_copying(build, tmp_path):
    whole = build()
    assert build(path=tmp_path / "a", shard=0, num_shards=2) is None
    assert build(path=tmp_path / "b", shard=1, num_shards=2) is None
    for file in (tmp_path / "b" / "shards").iterdir():
        shutil.copy(file, tmp_path / "a" / "shards")
    merged = CachedTeacher.open(tmp_path / "a")
    ids = np.arange(100)
    np.testing.assert_array_equal(merged.outputs_for(ids, 1, None)["output"], whole.outputs_for(ids, 1, None)["output"])


def test_an_unaugmented_source_has_one_view(build, images):
    assert build(Pipeline(images), views=8).views == 1


def damage_flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


def damage_cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def damage_empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_empty])
def test_only_a_damaged_shard_is_rebuilt(build, damage):
    cached = build()
    expected = cached.outputs_for(np.arange(100), 1, None)["output"]
    before = shards(cached)
    victim = sorted((cached.path / "shards").iterdir())[5]
    damage(victim)
    with pytest.raises(TeacherError, match=f"1 of 12 shards.*damaged.*{victim.name}.*build"):
        CachedTeacher.open(cached.path)
    again = build()
    after = shards(again)
    assert {name for name in after if after[name] != before[name]} == {victim.name}
    np.testing.assert_array_equal(again.outputs_for(np.arange(100), 1, None)["output"], expected)
    CachedTeacher.open(cached.path)


def test_a_missing_shard_is_reported(build):
    cached = build()
    sorted((cached.path / "shards").iterdir())[0].unlink()
    for verify in (True, False):
        with pytest.raises(TeacherError, match="11 of 12 shards.*resumes the build"):
            CachedTeacher.open(cached.path, verify=verify)


def test_an_interrupted_build_resumes(build, teacher, images, monkeypatch):
    calls = []
    original = Store.write

    def interrupted(self, key, records):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(key)
        original(self, key, records)

    monkeypatch.setattr(Store, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build()
    monkeypatch.setattr(Store, "write", lambda self, key, records: (calls.append(key), original(self, key, records)))
    build()
    assert len(calls) == len(set(calls)) == 12


BUILD = """
import sys
import keras, numpy as np
from keras_kd.data import Pipeline, PadAndCrop
from keras_kd.teachers import CachedTeacher, FunctionTeacher
import time
def slow(x):
    time.sleep(0.04)
    return x.reshape(len(x), -1)[:, :10]
x = np.random.default_rng(0).random((400, 8, 8, 1), "float32")
pipeline = Pipeline((x,), augment=PadAndCrop(1))
print("ready", flush=True)
CachedTeacher.build(FunctionTeacher(slow, fingerprint="slow", num_classes=10), pipeline, sys.argv[1], views=3,
                    shard_size=48, batch_size=16, progress=False)
print("done", flush=True)
"""


@pytest.fixture
def building(start):
    """Starts a build in its own process and waits until its imports are done."""

    def building(path):
        process = start(sys.executable, "-c", BUILD, path)
        process.wait_for(lambda: "ready" in process.stdout, "the imports")
        return process

    return building


def shards_of(path):
    """The finished shards of a store and their modification times."""
    return {file.name: file.stat().st_mtime_ns for file in (path / "shards").glob("view-*.npy")}


@pytest.mark.long
def test_kill_9_at_random_moments_loses_at_most_one_shard(tmp_path, building):
    """A real build in its own process, killed repeatedly; finished shards remain unchanged."""
    rng = random.Random(0)
    whole = tmp_path / "whole"
    process, begin = building(whole), time.monotonic()  # without the imports, which take longer than all shards
    assert process.wait().returncode == 0
    shard_seconds = (time.monotonic() - begin) / len(shards_of(whole))
    path, kills, known = tmp_path / "cache", 0, {}
    finished = False
    while not finished:
        process = building(path)
        # the first three kills come at any moment; later ones after a new shard, so that the build progresses
        if kills >= 3:
            process.wait_for(lambda: process.has_ended or shards_of(path).keys() - known.keys(), "a shard")  # noqa: B023
        time.sleep(shard_seconds * 4 * rng.random())
        process.end()  # no effect on a process that has ended
        finished = process.returncode == 0
        now = shards_of(path)
        assert known.items() <= now.items()  # no finished shard was touched
        kills, known = kills + (not finished), now
    assert kills >= 5
    CachedTeacher.open(path)
    assert known.keys() == shards_of(whole).keys()


# Files of another cache.


def other_cache(build, make_model, path):
    """A cache of another teacher with the same rows and views."""
    return build(model=make_model(4), path=path)


def test_shards_of_another_teacher_are_not_merged(build, make_model, tmp_path):
    cached, other = build(), other_cache(build, make_model, tmp_path / "other")
    victim = sorted((cached.path / "shards").iterdir())[4]
    foreign = sorted((other.path / "shards").iterdir())[4]
    victim.unlink()
    shutil.copy(foreign, victim.parent)
    for verify in (True, False):
        with pytest.raises(TeacherError, match=f"do not belong to it.*{foreign.name}.*same settings can be merged"):
            CachedTeacher.open(cached.path, verify=verify)
    with pytest.raises(TeacherError, match=foreign.name):
        build()
    (victim.parent / foreign.name).unlink()
    assert build().views == 3


def test_a_foreign_shard_is_rejected_even_if_none_is_missing(build, make_model, tmp_path):
    cached, other = build(), other_cache(build, make_model, tmp_path / "other")
    shutil.copytree(other.path / "shards", cached.path / "shards", dirs_exist_ok=True)
    with pytest.raises(TeacherError, match="12 files among the shards"):
        CachedTeacher.open(cached.path)


def test_shards_without_their_manifest_are_not_used_for_another_teacher(build, make_model):
    cached = build()
    expected = cached.outputs_for(np.arange(100), 1, None)["output"]
    (cached.path / "manifest.json").unlink()
    with pytest.raises(TeacherError, match="12 files among the shards"):
        build(model=make_model(4))
    (cached.path / "manifest.json").unlink()
    before = shards(cached)
    again = build()  # the shards' own teacher reuses them
    assert shards(again) == before
    np.testing.assert_array_equal(again.outputs_for(np.arange(100), 1, None)["output"], expected)


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content | {"teacher": "sha256:0"},
        lambda content: content | {"pipeline": content["pipeline"] | {"data": "sha256:0"}},
        lambda content: content | {"pipeline": content["pipeline"] | {"augment_seed": 9}},
        lambda content: content | {"shard_size": 16},
        lambda content: content | {"activations": {"output": "softmax"}},
        lambda content: content | {"outputs": {"output": {"name": "Rows", "shape": [10], "dtype": "float32"}}},
    ],
    ids=["teacher", "data", "seed", "shard_size", "activation", "dtype"],
)
def test_shards_under_a_changed_manifest_are_rejected(build, edit):
    cached = build()
    manifest = cached.path / "manifest.json"
    manifest.write_text(json.dumps(edit(json.loads(manifest.read_text()))))
    with pytest.raises(TeacherError, match=r"12 files among the shards.*or the manifest has changed"):
        CachedTeacher.open(cached.path)


def test_a_manifest_with_more_views_than_shards_is_incomplete(build):
    cached = build()
    manifest = cached.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"views": 3', '"views": 4'))
    with pytest.raises(TeacherError, match="12 of 16 shards"):
        CachedTeacher.open(cached.path)


@pytest.mark.parametrize(("old", "new"), [("view-00001", "view-00002"), ("rows-000000032", "rows-000000064")])
def test_a_renamed_shard_counts_as_damaged(build, old, new):
    cached = build()
    expected = cached.outputs_for(np.arange(100), 2, None)["output"]
    renamed = next(file for file in sorted((cached.path / "shards").iterdir()) if old in file.name)
    target = next((cached.path / "shards").glob(renamed.name.replace(old, new)[:27] + "*"))
    target.unlink()
    renamed.rename(renamed.with_name(renamed.name.replace(old, new)))
    with pytest.raises(TeacherError, match="11 of 12 shards"):
        CachedTeacher.open(cached.path)
    shutil.copy(renamed.with_name(renamed.name.replace(old, new)), renamed)
    with pytest.raises(TeacherError, match="1 of 12 shards.*are damaged"):
        CachedTeacher.open(cached.path)
    np.testing.assert_array_equal(build().outputs_for(np.arange(100), 2, None)["output"], expected)


def test_a_hidden_second_file_of_a_shard_is_verified(build):
    """Two builders on machines that round differently leave two files of one shard."""
    cached = build()
    first = sorted((cached.path / "shards").iterdir())[0]
    twin = first.with_name(first.name[:-20] + "0" * 16 + ".npy")
    shutil.copy(first, twin)
    with pytest.raises(TeacherError, match=f"1 of 12 shards.*{twin.name}"):
        CachedTeacher.open(cached.path)
    build()
    assert not twin.exists() and first.exists()


@pytest.mark.parametrize("name", ["extra.npy", "view-00000.rows-000000000.0123456789abcdef.npy"])
def test_files_that_are_not_shards_are_reported(build, name):
    cached = build()
    np.save(cached.path / "shards" / name, np.zeros(3))
    with pytest.raises(TeacherError, match=f"1 files among.*{name}"):
        CachedTeacher.open(cached.path)


def test_a_pipe_among_the_shards_is_not_read(build):
    cached = build()
    first = sorted((cached.path / "shards").iterdir())[0]
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(TeacherError, match=f"1 files among.*{first.name}"):
        CachedTeacher.open(cached.path)


def test_a_shard_deleted_while_open_is_reported(build):
    cached = build()
    for file in (cached.path / "shards").iterdir():
        file.write_bytes(b"")
    with pytest.raises(TeacherError, match="cannot be read.*view 1, rows from 0"):
        cached.outputs_for(np.arange(3), 1, None)


def test_a_second_builder_uses_the_existing_manifest(build, make_model, monkeypatch):
    """Both builders saw an empty folder; the first manifest stays."""
    original = Store.write_manifest
    first = []

    def write_after_another(self, *, replace):
        if not first:
            first.append(True)
            first.append(build())
        original(self, replace=replace)

    monkeypatch.setattr(Store, "write_manifest", write_after_another)
    with pytest.raises(TeacherError, match="contains a different teacher cache"):
        build(model=make_model(4))
    assert CachedTeacher.open(first[1].path).fingerprint == first[1].fingerprint


def test_equal_weights_with_different_preprocessing_are_rejected(build, teacher):
    cached = build(views=2)
    inputs = keras.Input((8, 8, 1))
    other = keras.Model(inputs, teacher(keras.layers.Rescaling(-1.0, 1.0)(inputs)))
    with pytest.raises(TeacherError, match="'output' differs from the cache.*with equal weights"):
        build(model=other, views=3)
    assert build(views=3).path == cached.path


def test_a_saved_distiller_rejects_the_cache_of_another_teacher(build, images, make_model, tmp_path):
    cached = build()
    _, distiller = student_after(
        cached, Pipeline(images, augment=AUGMENT, batch_size=16).with_teacher(cached), epochs=1
    )
    distiller.save(tmp_path / "d.keras")
    shutil.rmtree(cached.path)
    other_cache(build, make_model, cached.path)
    with pytest.raises(TeacherError, match="unexpected fingerprint"):
        keras.models.load_model(tmp_path / "d.keras")


# Rejected settings.


def test_invalid_pipelines_folders_and_views_are_rejected(teacher, images, tmp_path):
    with pytest.raises(ConfigurationError, match="Received: a tuple. Expected: a keras_kd.data.Pipeline"):
        CachedTeacher.build(teacher, images, tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(TeacherError, match="must be a folder. Received: the file"):
        CachedTeacher.build(teacher, Pipeline(images), tmp_path / "file")
    with pytest.raises(ConfigurationError, match="Invalid 'views'. Received: 0"):
        CachedTeacher.build(teacher, Pipeline(images), tmp_path / "cache", views=0)


def test_another_pipeline_is_rejected_with_both_values(build, images):
    x, y = images
    cached = build()
    cases = {
        "pipeline.data": Pipeline((x[::-1], y), augment=AUGMENT),
        "pipeline.num_examples: 100 in the cache, 99 here": Pipeline((x[:99], y[:99]), augment=AUGMENT),
        "pipeline.augment:.*'probability': 0.5.*in the cache.*'probability': 0.4.*here": Pipeline(
            images, augment=[PadAndCrop(1), Flip(0.4)]
        ),
        "pipeline.augment_seed: 0 in the cache, 5 here.*cache's augment_seed": Pipeline(
            images, augment=AUGMENT, seed=5
        ),
        "pipeline.augment:": Pipeline(images, augment=AUGMENT[::-1]),
    }
    for message, pipeline in cases.items():
        with pytest.raises(TeacherError, match=message):
            pipeline.with_teacher(cached)
    other_labels = Pipeline((x, 9 - y), augment=AUGMENT, batch_size=7, seed=5, augment_seed=0)
    assert other_labels.with_teacher(cached).views == 3


def test_another_teacher_or_encoding_is_rejected(build, make_model, images):
    cached = build()
    other = make_model(4)
    with pytest.raises(TeacherError, match="teacher: 'sha256:.*in the cache, 'sha256:.*here.*another folder"):
        build(model=other)
    with pytest.raises(TeacherError, match=r"outputs.output.name: 'Rows' in the cache, 'TopK' here"):
        build(top_k=3)
    with pytest.raises(TeacherError, match="pipeline.data"):
        build(Pipeline((images[0] + 1, images[1]), augment=AUGMENT))
    with pytest.raises(TeacherError, match="from another teacher.*sha256.*sha256"):
        CachedTeacher.open(cached.path, teacher=other)


def test_batches_without_teacher_outputs_are_rejected(build, images):
    cached = build()
    with pytest.raises(TeacherError, match="with_teacher"):
        student_after(cached, Pipeline(images, augment=AUGMENT))


def test_folders_without_a_cache_are_rejected(build, tmp_path):
    with pytest.raises(TeacherError, match="No teacher cache found.*nothing"):
        CachedTeacher.open(tmp_path / "nothing")
    cached = build()
    manifest = cached.path / "manifest.json"
    content = json.loads(manifest.read_text())
    changed = [content | change for change in ({"version": 1}, {"more": 1}, {"shard_size": 0}, {"pipeline": {}})]
    for text in ("{", "[]", *map(json.dumps, changed), json.dumps(content | {"outputs": {"output": {"name": "Rows"}}})):
        manifest.write_text(text)
        with pytest.raises(TeacherError, match="cannot be read"):
            CachedTeacher.open(cached.path)


def test_invalid_settings_are_rejected(build, images, monkeypatch):
    with pytest.raises(ConfigurationError, match="Invalid 'top_k'.*top_k=10"):
        build(top_k=10)
    with pytest.raises(ConfigurationError, match="0 <= shard <= 1"):
        build(shard=2, num_shards=2)
    with pytest.raises(ConfigurationError, match="nowhere"):
        build(taps=["nowhere"])
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(ConfigurationError, match=r"1000 B free.*5.86 KiB: 300 records of 20 bytes"):
        build()


def test_a_failing_teacher_leaves_no_shard(build, teacher, tmp_path):
    teacher.layers[0].set_weights([np.full_like(w, np.nan) for w in teacher.layers[0].get_weights()])
    with pytest.raises(TeacherError, match="not finite"):
        build()
    assert not list((tmp_path / "cache" / "shards").glob("*.npy"))


# Reports and saving.


def test_the_build_reports_its_cost(build, capsys):
    build(progress=True)
    printed = capsys.readouterr().out
    assert "100 examples x 3 views x 20 bytes = 5.86 KiB" in printed
    assert "3 passes of the teacher" in printed and "teacher cache: 300 of 300" in printed
    build(progress=True)
    assert "12 of 12 shards exist already" in capsys.readouterr().out


def test_describe(build):
    described = build(top_k=3).describe()
    assert described["bytes_per_example_and_view"] == 3 * 3 + 2 and described["shards"] == 12
    assert json.loads(json.dumps(described))["views"] == 3


def test_a_saved_distiller_refers_to_the_cache(build, images, tmp_path):
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    cached = build(pipeline)
    _, distiller = student_after(cached, pipeline.with_teacher(cached), epochs=1)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.fit(pipeline.with_teacher(loaded.teacher), epochs=1, verbose=0)
    shutil.rmtree(cached.path)
    absent = keras.models.load_model(tmp_path / "d.keras").teacher
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == cached.fingerprint


def test_evaluate_accepts_the_pipeline_with_teacher_outputs(build, images):
    pipeline = Pipeline(images, augment=AUGMENT, batch_size=16)
    cached = build(pipeline)
    _, distiller = student_after(cached, pipeline.with_teacher(cached), epochs=1)
    with_answers, without = (distiller.evaluate(p, verbose=0) for p in (pipeline.with_teacher(cached), pipeline))
    assert with_answers == pytest.approx(without)
    distiller.fit(pipeline.with_teacher(cached), validation_data=pipeline, epochs=2, verbose=0)


def test_the_manifest_is_plain_and_complete(build):
    manifest = json.loads((build().path / "manifest.json").read_text())
    assert manifest["pipeline"]["augment"][0] == {"name": "pad_and_crop", "pixels": 1, "fill": 0.0}
    assert {field.name for field in dataclasses.fields(Store.read(build().path).manifest)} == set(manifest)


def test_one_view_is_open_at_a_time(build):
    cached = build()
    for view in (0, 1, 2, 0):
        cached.outputs_for(np.arange(100), view, None)
        assert {key.view for key in cached._store._opened} == {view}
