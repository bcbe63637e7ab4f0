"""Files that are damaged, of the wrong kind, or in the way: models, caches, exports, saved trainings."""

import json
import os
import shutil
import zipfile

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import KerasKDError

layers = keras.layers
X, Y = np.random.default_rng(0).random((32, 5)).astype("float32"), np.arange(32) % 3


def model(seed=0, units=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((5,)), layers.Dense(units, name="logits")])


def bytes_of(content):
    def make(file):
        file.write_bytes(content)

    return make


def a_zip(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "a zip, but no model")


def half(file):
    model().save(file.with_name("whole.keras"))
    content = file.with_name("whole.keras").read_bytes()
    file.write_bytes(content[: len(content) // 2])


def without_weights(file):
    model().save(file.with_name("whole.keras"))
    with zipfile.ZipFile(file.with_name("whole.keras")) as whole, zipfile.ZipFile(file, "w") as archive:
        for name in ("config.json", "metadata.json"):
            archive.writestr(name, whole.read(name))


def of_an_unknown_class(file):
    model().save(file.with_name("whole.keras"))
    with zipfile.ZipFile(file.with_name("whole.keras")) as whole, zipfile.ZipFile(file, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(
                name, content.replace(b'"Sequential"', b'"NoSuchModel"') if name == "config.json" else content
            )


MODELS = {
    "empty": bytes_of(b""),
    "text": bytes_of(b"no model at all"),
    "HDF5 magic and nothing else": bytes_of(b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "a zip of something else": a_zip,
    "half a model": half,
    "a model without weights": without_weights,
    "a model of an unknown class": of_an_unknown_class,
    "a folder": lambda file: file.mkdir(),
    "a FIFO": lambda file: os.mkfifo(file),
    "a link to nothing": lambda file: file.symlink_to("nothing"),
    "nothing": lambda file: None,
}


@pytest.mark.parametrize("make", list(MODELS.values()), ids=list(MODELS))
def test_an_invalid_keras_file_is_rejected_by_name(make, refused, tmp_path_factory):
    file = tmp_path_factory.mktemp("models") / "teacher.keras"
    make(file)
    refused(lambda: kd.Distiller(str(file), model()), KerasKDError, ["teacher.keras"])


OTHERS = {
    "an empty .tflite": ("t.tflite", bytes_of(b"")),
    "text as .tflite": ("t.tflite", bytes_of(b"no flatbuffer at all, not even near")),
    "zeros as .tflite": ("t.tflite", bytes_of(bytes(1000))),
    "TFL3 and nothing else": ("t.tflite", bytes_of(b"\x1c\0\0\0TFL3" + bytes(100))),
    "an empty SavedModel": ("saved", lambda file: file.mkdir()),
    "a SavedModel of text": ("saved", lambda file: (file.mkdir(), (file / "saved_model.pb").write_text("no graph"))),
    "logits that are none": ("l.npz", bytes_of(b"no arrays")),
    "an .h5 teacher": ("t.h5", bytes_of(b"\x89HDF\r\n\x1a\n")),
    "an .onnx teacher": ("t.onnx", bytes_of(b"onnx")),
}


@pytest.mark.parametrize(("name", "make"), list(OTHERS.values()), ids=list(OTHERS))
def test_an_invalid_teacher_file_is_rejected(name, make, refused, tmp_path_factory):
    file = tmp_path_factory.mktemp("teachers") / name
    make(file)
    refused(lambda: kd.Distiller(kd.teachers.from_path(file), model()), KerasKDError, [])


# Damaged caches.


def pipeline(x=X, **settings):
    return kd.data.Pipeline((x, Y), batch_size=8, **settings)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Two complete caches of one pipeline with different teachers."""
    folder = tmp_path_factory.mktemp("caches")
    for seed, name in ((0, "own"), (1, "other")):
        kd.teachers.CachedTeacher.build(model(seed), pipeline(), folder / name, progress=False)
    return folder


def shards(folder):
    return sorted((folder / "shards").iterdir())


def flip_a_byte(folder, caches):
    file = shards(folder)[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def of_another_teacher(folder, caches):
    for file in shards(folder):
        file.unlink()
    for file in shards(caches / "other"):
        shutil.copy(file, folder / "shards" / file.name)


def with_anothers_manifest(folder, caches):
    for file in (caches / "other").iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)


def changed_manifest(folder, caches):
    (manifest,) = (file for file in folder.iterdir() if file.suffix == ".json")
    content = json.loads(manifest.read_text())
    content["teacher"] = "somebody else"
    manifest.write_text(json.dumps(content))


CACHES = {
    "without its manifest": lambda folder, _: [f.unlink() for f in folder.iterdir() if f.is_file()],
    "with a manifest of text": lambda folder, _: [f.write_text("no JSON") for f in folder.iterdir() if f.is_file()],
    "with an empty manifest": lambda folder, _: [f.write_text("{}") for f in folder.iterdir() if f.is_file()],
    "with another manifest": with_anothers_manifest,
    "with a changed manifest": changed_manifest,
    "with the shards of another": of_another_teacher,
    "with a changed byte": flip_a_byte,
    "with half a shard": lambda folder, _: shards(folder)[0].write_bytes(shards(folder)[0].read_bytes()[:100]),
    "with an empty shard": lambda folder, _: shards(folder)[0].write_bytes(b""),
    "without a shard": lambda folder, _: shards(folder)[0].unlink(),
    "without shards": lambda folder, _: shutil.rmtree(folder / "shards"),
    "empty": lambda folder, _: (shutil.rmtree(folder), folder.mkdir()),
    "gone": lambda folder, _: shutil.rmtree(folder),
    "a file": lambda folder, _: (shutil.rmtree(folder), folder.write_text("no cache")),
}


@pytest.mark.parametrize("damage", list(CACHES.values()), ids=list(CACHES))
def test_a_damaged_cache_is_rejected_when_opened(damage, caches, refused, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "own"
    shutil.copytree(caches / "own", folder)
    damage(folder, caches)
    refused(lambda: pipeline().with_teacher(kd.teachers.CachedTeacher.open(folder)), KerasKDError, [])


MISMATCHES = {
    "other inputs": lambda: pipeline(X + 1),
    "fewer inputs": lambda: kd.data.Pipeline((X[:16], Y[:16])),
    "another order": lambda: kd.data.Pipeline((X[::-1].copy(), Y)),
    "an augmentation": lambda: pipeline(augment=kd.data.GaussianNoise(0.1)),
}


@pytest.mark.parametrize("other", list(MISMATCHES.values()), ids=list(MISMATCHES))
def test_a_cache_of_another_pipeline_is_rejected(other, caches, refused):
    cached = kd.teachers.CachedTeacher.open(caches / "own")
    refused(lambda: other().with_teacher(cached), KerasKDError, [])


BUILDS = {
    "in the folder of another teacher": lambda f: kd.teachers.CachedTeacher.build(model(7), pipeline(), f / "own"),
    "in a file": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), __file__),
    "of no views": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", views=0),
    "of a pipeline that is none": lambda f: kd.teachers.CachedTeacher.build(model(), (X, Y), "c"),
    "of a teacher that is none": lambda f: kd.teachers.CachedTeacher.build(5, pipeline(), "c"),
    "of more classes than there are": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", top_k=4),
    "of no classes": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", top_k=0),
    "of an unknown remainder": lambda f: kd.teachers.CachedTeacher.build(
        model(), pipeline(), "c", top_k=2, remainder="none"
    ),
    "of an unknown precision": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", dtype="float8"),
    "of a layer that is not there": lambda f: kd.teachers.CachedTeacher.build(
        model(), pipeline(), "c", taps=["nowhere"]
    ),
    "of share 4 of 4": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", shard=4, num_shards=4),
    "of share -1": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", shard=-1, num_shards=4),
    "of 0 shares": lambda f: kd.teachers.CachedTeacher.build(model(), pipeline(), "c", shard=0, num_shards=0),
}


@pytest.mark.parametrize("attack", list(BUILDS.values()), ids=list(BUILDS))
def test_an_invalid_cache_build_is_rejected(attack, caches, refused):
    refused(lambda: attack(caches), KerasKDError, [])


def with_nan():
    with_nan_weights = model()
    with_nan_weights.set_weights([np.full_like(weight, np.nan) for weight in with_nan_weights.get_weights()])
    return with_nan_weights


def of_text():
    vectorize = layers.TextVectorization(max_tokens=10, output_sequence_length=4, vocabulary=["a", "b"])
    return keras.Sequential(
        [keras.Input((1,), dtype="string"), vectorize, layers.Embedding(12, 4), layers.Flatten(), layers.Dense(2)]
    )


def export(path="m.tflite", source=None, **settings):
    return kd.export.export_tflite(source or model(), path, isolate=False, **settings)


EXPORTS = {
    "over a Keras model": lambda: export("good.keras"),
    "without a suffix": lambda: export("student"),
    "as .h5": lambda: export("student.h5"),
    "as nothing": lambda: export(""),
    "as a number": lambda: export(5),
    "as a folder": lambda: export("."),
    "below a file": lambda: export(__file__ + "/m.tflite"),
    "below /proc": lambda: export("/proc/nope/m.tflite"),
    "with a zero byte": lambda: export("a\0b.tflite"),
    "with a name of 5,000 letters": lambda: export("a" * 5000 + ".tflite"),
    "of no model": lambda: export(source=5),
    "of a layer": lambda: export(source=layers.Dense(3)),
    "of an unbuilt model": lambda: export(source=keras.Sequential([layers.Dense(3)])),
    "of a distiller": lambda: export(source=kd.Distiller(model(), model(1))),
    "of NaN": lambda: export(source=with_nan()),
    "of text": lambda: export(source=of_text()),
    "as int2": lambda: export(format="int2"),
    "as 8": lambda: export(format=8),
    "as int8 without calibration": lambda: export(format="int8"),
    "as int8 with calibration of nothing": lambda: export(format="int8", calibration=X[:0]),
    "as int8 with calibration of another shape": lambda: export(format="int8", calibration=X[:, :3]),
    "as int8 with calibration of NaN": lambda: export(format="int8", calibration=np.full_like(X, np.nan)),
    "as int8 with calibration of infinity": lambda: export(format="int8", calibration=np.full_like(X, np.inf)),
    "as int8 with calibration of text": lambda: export(format="int8", calibration="x"),
    "as int8 with calibration of a number": lambda: export(format="int8", calibration=5),
    "with calibration for float32": lambda: export(calibration="x"),
    "with samples of another shape": lambda: export(samples=X[:, :2]),
    "with samples of nothing": lambda: export(samples=X[:0]),
    "in batches of 0": lambda: export(batch_size=0),
    "in batches of 1.5": lambda: export(batch_size=1.5),
    "in batches of 10**30": lambda: export(batch_size=10**30),
}


@pytest.mark.parametrize("attack", list(EXPORTS.values()), ids=list(EXPORTS))
def test_an_invalid_export_is_rejected(attack, refused):
    refused(attack, KerasKDError, [])


def test_a_failed_export_keeps_the_existing_file(refused, tmp_path_factory):
    file = tmp_path_factory.mktemp("good") / "good.keras"
    model().save(file)
    before = file.read_bytes()
    refused(lambda: export(file), KerasKDError, [".tflite"])
    assert file.read_bytes() == before
