"""Teacher and student with different inputs of the same examples, from the pipeline to the saved distiller."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import Resume
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.teachers import CachedTeacher

SIDES = {"teacher_inputs": "teacher", "student_inputs": "student"}
AUGMENT = [kd.data.PadAndCrop(1), kd.data.Flip(), kd.data.Only("student", kd.data.GaussianNoise(0.05))]


def network(shape, seed, width=6):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    features = [layers.Conv2D(width, 3, name="maps"), layers.ReLU(), layers.Flatten()]
    return keras.Sequential([keras.Input(shape), *features, layers.Dense(10)])


@pytest.fixture(scope="module")
def images(digits):
    """Digits in the teacher's 8x8 pixels, in the student's 4x4, and their labels."""
    x, y = digits[0][:96], digits[1][:96]
    return x, x.reshape(96, 4, 2, 4, 2, 1).mean((2, 4)), y


@pytest.fixture
def pipeline(images):
    large, small, y = images
    return kd.data.Pipeline(kd.data.pair(large, (small, y)), augment=AUGMENT, batch_size=32, seed=2)


def make_distiller(teacher=None, *, compiled=True, **settings):
    teacher = network((8, 8, 1), 0, 8) if teacher is None else teacher
    distiller = kd.Distiller(teacher, network((4, 4, 1), 1), alpha=0.7, **{**SIDES, **settings})
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
        distiller.compile(keras.optimizers.SGD(0.1), loss=loss, weighted_metrics=["accuracy"])
    return distiller


def by_functions(**settings):
    return make_distiller(teacher_inputs=lambda x: x["teacher"], student_inputs=lambda x: x["student"], **settings)


def fit(distiller, data, epochs=2, **settings):
    return distiller.fit(data, epochs=epochs, verbose=0, **settings).history


def assert_equal_weights(one, other, **tolerance):
    for first, second in zip(one.student.get_weights(), other.student.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, **({"rtol": 0, "atol": 0} | tolerance))


def test_names_are_the_functions_that_select_them(pipeline):
    named, functional = make_distiller(), by_functions()
    assert fit(named, pipeline) == fit(functional, pipeline)
    assert_equal_weights(named, functional)


def test_each_model_sees_its_side(pipeline):
    distiller, x = make_distiller(), pipeline.batch(np.arange(5), 1)[0]
    batch = distiller.prepare_batch((keras.tree.map_structure(keras.ops.convert_to_tensor, x),))
    targets = distiller.teach(batch).outputs["output"]
    np.testing.assert_allclose(targets, distiller.teacher.model(x["teacher"]), rtol=1e-5)
    np.testing.assert_allclose(distiller.study(batch.x)[0], distiller.student(x["student"]), rtol=1e-5)


def test_the_student_is_measured_on_pairs_and_on_its_side(pipeline, images):
    large, small, y = images
    distiller, both = make_distiller(), {"teacher": large, "student": small}
    alone = fit(make_distiller(), pipeline, validation_data=(small, y))
    assert fit(distiller, pipeline, validation_data=(both, y)) == alone
    in_batches = fit(make_distiller(), pipeline, validation_data=kd.data.Pipeline(({"student": small}, y)))
    assert in_batches["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-5)
    expected = distiller.student.predict(small, verbose=0)
    for x in (small, both, {"student": small}, kd.data.Pipeline(kd.data.pair(large, small), shuffle=False)):
        np.testing.assert_allclose(distiller.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert distiller.evaluate(both, y, verbose=0) == distiller.evaluate(small, y, verbose=0)


def test_a_student_with_several_inputs_of_its_own():
    ids, mask = keras.Input((4,), dtype="int32", name="ids"), keras.Input((4,), name="mask")
    hidden = keras.layers.Embedding(9, 3)(ids) * keras.ops.expand_dims(mask, -1)
    student = keras.Model({"ids": ids, "mask": mask}, keras.layers.Dense(10)(keras.layers.Flatten()(hidden)))
    own = {"ids": np.arange(32).reshape(8, 4) % 9, "mask": np.ones((8, 4), "float32")}
    distiller = kd.Distiller(network((8, 8, 1), 0), student, **SIDES)
    distiller.compile("sgd")
    images = np.random.default_rng(0).random((8, 8, 8, 1), "float32")
    augment = kd.data.Only("teacher", kd.data.Flip())
    fit(distiller, kd.data.Pipeline(({"teacher": images, "student": own},), augment=augment, batch_size=4))
    expected = student.predict(own, verbose=0)
    np.testing.assert_array_equal(distiller.predict(own, verbose=0), expected)
    np.testing.assert_array_equal(distiller.predict({"student": own}, verbose=0), expected)
    with pytest.raises(ConfigurationError, match="no input 'student'.*'ids', 'masks'"):
        distiller.predict({"ids": own["ids"], "masks": own["mask"]}, verbose=0)


def test_missing_sides_are_named(pipeline, images):
    with pytest.raises(ConfigurationError, match="no input 'techer'.*'student', 'teacher'.*Did you mean 'teacher'"):
        fit(make_distiller(teacher_inputs="techer"), pipeline)
    with pytest.raises(ConfigurationError, match="no input 'colour'.*'student', 'teacher'"):
        fit(make_distiller(student_inputs="colour"), pipeline)
    with pytest.raises(ConfigurationError, match="no input 'student'.*one array"):
        fit(
            make_distiller(teacher_inputs=lambda x: keras.ops.repeat(keras.ops.repeat(x, 2, 1), 2, 2)),
            kd.data.Pipeline(images[1:]),
        )
    with pytest.raises(ConfigurationError, match="given both.*teacher_inputs='teacher', student_inputs='student'"):
        fit(make_distiller(teacher_inputs=None, student_inputs=None), pipeline)
    for wrong in ("", 5, ["teacher"]):
        with pytest.raises(ConfigurationError, match="a function or the name of an input"):
            make_distiller(teacher_inputs=wrong)


# Labels.


def test_unlabeled_pairs_train_on_the_teacher_alone(images):
    large, small, _ = images
    data = kd.data.Pipeline(({"teacher": large, "student": small},), augment=AUGMENT, batch_size=32)
    one, other = make_distiller(), make_distiller()
    other.alpha = 0.1
    history = fit(one, data)
    assert history["loss"] == history["distillation_loss"] == fit(other, data)["loss"]
    assert history["loss"][1] < history["loss"][0]


def test_rows_without_a_label_have_the_teacher_alone(images):
    large, small, y = images
    partly = np.where(np.arange(96) < 8, y, -1)
    data = kd.data.Pipeline(kd.data.pair((large, y), (small, partly)), batch_size=96, shuffle=False)
    distiller = make_distiller()
    batch = distiller.prepare_batch(next(data.epoch(0)))
    parts = distiller.loss_and_parts(batch, distiller.teach(batch), step=0)
    terms = distiller.terms[0].per_example(
        distiller.teach(batch).outputs["output"], distiller.study(batch.x)[1].outputs["output"]
    )
    values = np.asarray(terms.values, "float64")
    alphas = np.where(partly == -1, 1.0, 0.7)
    expected = (alphas * values).mean() + 0.3 * float(parts.logs["student_loss"].value)
    assert float(parts.loss) == pytest.approx(expected, rel=1e-5)


# Offline teachers.


@pytest.fixture
def cached(pipeline, tmp_path):
    return CachedTeacher.build(
        network((8, 8, 1), 0, 8),
        pipeline,
        tmp_path / "cache",
        inputs="teacher",
        views=2,
        dtype="float32",
        progress=False,
    )


def test_a_cache_is_of_the_teacher_s_side_in_the_views_of_the_pipeline(pipeline, cached):
    ids = np.arange(90, 96)
    for view in (0, 1):
        expected = network((8, 8, 1), 0, 8)(pipeline.batch(ids, view)[0]["teacher"])
        np.testing.assert_allclose(cached.outputs_for(ids, view, None)["output"], expected, rtol=1e-4, atol=1e-5)
    live, offline = make_distiller(), make_distiller(cached, teacher_inputs=None)
    fit(live, pipeline)
    fit(offline, pipeline.with_teacher(cached))
    assert_equal_weights(live, offline, atol=1e-4)


def test_a_cache_refuses_other_pairs(pipeline, cached, images, tmp_path):
    large, small, y = images

    def other(teacher=large, student=small, augment=AUGMENT):
        return kd.data.Pipeline(kd.data.pair(teacher, (student, y)), augment=augment, batch_size=32, seed=2)

    assert other().with_teacher(cached).teacher is cached
    assert other().with_teacher(cached, inputs="teacher").teacher is cached
    for changed in (
        other(student=small[::-1]),
        other(teacher=large[::-1]),
        other(teacher=small, student=large),
        other(augment=AUGMENT[:2]),
        other(augment=[*AUGMENT[:2], kd.data.Only("teacher", kd.data.GaussianNoise(0.05))]),
        pipeline.side("teacher"),
    ):
        with pytest.raises(TeacherError, match="from other inputs"):
            changed.with_teacher(cached)
    with pytest.raises(TeacherError, match="inputs: 'teacher' in the cache, 'student' here"):
        pipeline.with_teacher(cached, inputs="student")
    with pytest.raises(TeacherError, match="inputs: 'teacher' in the cache, None here"):
        CachedTeacher.build(make_distiller().teacher, pipeline.side("teacher"), tmp_path / "cache", progress=False)
    with pytest.raises(ConfigurationError, match=r"build\(..., inputs='teacher'\)"):
        CachedTeacher.build(make_distiller().teacher, pipeline, tmp_path / "new", progress=False)


def test_a_teacher_outside_of_the_step_is_given_its_side(pipeline):
    model = network((8, 8, 1), 0, 8)
    teacher = kd.teachers.FunctionTeacher(
        lambda x: model.predict_on_batch(x), outputs="logits", num_classes=10, fingerprint="a network"
    )
    one, other = make_distiller(teacher), make_distiller()
    fit(one, pipeline.with_teacher(teacher, inputs="teacher"))
    fit(other, pipeline)
    assert_equal_weights(one, other, atol=1e-4)


# Saving and resuming.


def test_a_loaded_distiller_knows_its_sides(pipeline, tmp_path):
    network((8, 8, 1), 0, 8).save(tmp_path / "teacher.keras")
    distiller = make_distiller(str(tmp_path / "teacher.keras"))
    fit(distiller, pipeline)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert (loaded.teacher_inputs, loaded.student_inputs) == ("teacher", "student")
    assert fit(loaded, pipeline)["loss"] == pytest.approx(fit(distiller, pipeline)["loss"], rel=1e-6)
    assert_equal_weights(distiller, loaded, atol=1e-7)


class Killed(BaseException):
    """Simulates kill -9."""


class KillAt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            raise Killed


def test_a_killed_training_resumes_bit_for_bit(pipeline, images, tmp_path):
    whole, killed, resumed = (make_distiller() for _ in range(3))
    expected = fit(whole, pipeline, 4)
    with pytest.raises(Killed):
        fit(killed, pipeline, 4, callbacks=[Resume(tmp_path, every_seconds=0), KillAt()])
    with pytest.raises(ConfigurationError, match="student_inputs"):
        fit(
            make_distiller(student_inputs=lambda x: x["student"]),
            pipeline,
            4,
            callbacks=[Resume(tmp_path, every_seconds=0)],
        )
    large, small, y = images
    other = kd.data.Pipeline(kd.data.pair(large[::-1], (small, y)), augment=AUGMENT, batch_size=32, seed=2)
    with pytest.raises(ConfigurationError, match="data"):
        fit(make_distiller(), other, 4, callbacks=[Resume(tmp_path, every_seconds=0)])
    assert fit(resumed, pipeline, 4, callbacks=[Resume(tmp_path, every_seconds=0)]) == expected
    assert_equal_weights(whole, resumed)


# Both backends.

CODE = """
import hashlib, json, keras, numpy as np, keras_kd as kd
rng = np.random.default_rng(0)
large, small, y = rng.random((48, 8, 8, 3), "float32"), rng.random((48, 4, 4, 1), "float32"), np.arange(48) % 3
steps = [kd.data.PadAndCrop(1), kd.data.Flip(), kd.data.Only("student", kd.data.GaussianNoise(0.1))]
pipeline = kd.data.Pipeline(kd.data.pair(large, (small, y)), augment=steps, batch_size=16, seed=2)
batches = [leaf.tobytes() for batch in pipeline.epoch(1) for leaf in keras.tree.flatten(batch)]
def network(shape):
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.set_weights([np.random.default_rng(1).normal(size=w.shape) / 10 for w in model.get_weights()])
    return model
distiller = kd.Distiller(network((8, 8, 3)), network((4, 4, 1)), teacher_inputs="teacher", student_inputs="student")
distiller.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
history = distiller.fit(pipeline, epochs=2, verbose=0, validation_data=(small, y)).history
weights = [weight.tolist() for weight in distiller.student.get_weights()]
predicted = distiller.predict({"teacher": large, "student": small}, verbose=0)
assert np.abs(predicted - distiller.predict(small, verbose=0)).max() < 1e-6
print(json.dumps([hashlib.sha256(b"".join(batches)).hexdigest(), history, weights]))
"""


def test_the_same_batches_and_training_on_both_backends():
    def run(backend):
        environment = os.environ | {"KERAS_BACKEND": backend}
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    (batches, history, weights), (others, expected, expected_weights) = run("jax"), run("tensorflow")
    assert batches == others
    assert history.keys() == expected.keys()
    for name, values in history.items():
        assert values == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
    for one, other in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
