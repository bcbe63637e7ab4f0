"""Curricula by a teacher: live, cached and foreign; without and with labels; through `Distiller.fit`."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.curricula import ByTeacherConfidence, ByTeacherLoss, teacher_difficulties
from keras_kd.data import GaussianNoise, Mixup, Pipeline
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.teachers import CachedTeacher, FunctionTeacher, Panel

N = 70
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4)).astype("float32")
Y = RNG.integers(0, 3, N)
KERNEL = RNG.normal(size=(4, 3)).astype("float32")


def make_model(outputs=3, activation=None, kernel=KERNEL):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs, activation=activation, use_bias=False)])
    model.set_weights([kernel[:, :outputs]])
    return model


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


P = softmax(X.astype("float64") @ KERNEL)
DOUBT = -np.log(P.max(-1))
LOSS = -np.log(P[np.arange(N), Y])


def close(values, expected, tolerance=1e-4):
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_difficulties(activation):
    teacher = make_model(activation=activation)
    close(teacher_difficulties(teacher, Pipeline((X,)), batch_size=32), DOUBT)
    close(teacher_difficulties(teacher, Pipeline((X, Y))), DOUBT)
    for labels in (Y, Y[:, None], np.eye(3, dtype="float32")[Y]):
        close(teacher_difficulties(teacher, Pipeline((X, labels)), by="loss"), LOSS)


def test_augmentation_does_not_matter_to_a_live_teacher():
    pipeline = Pipeline((X, Y), augment=[GaussianNoise(1.0), Mixup()])
    close(teacher_difficulties(make_model(), pipeline), DOUBT)
    close(teacher_difficulties(make_model(), pipeline, by="loss"), LOSS)


def test_other_tasks():
    z = X.astype("float64") @ KERNEL
    p = 1 / (1 + np.exp(-z))
    multi_hot = (RNG.random((N, 3)) < 0.5).astype("int64")
    multi_hot[:2] = 1  # not one-hot
    several = Pipeline((X, multi_hot))
    with pytest.raises(ConfigurationError, match="more than one task"):
        teacher_difficulties(make_model(), Pipeline((X, multi_hot.astype("float32"))))
    close(teacher_difficulties(make_model(activation="sigmoid"), several), -np.log(np.maximum(p, 1 - p)).mean(-1))
    expected = -(multi_hot * np.log(p) + (1 - multi_hot) * np.log(1 - p)).mean(-1)
    close(teacher_difficulties(make_model(), several, by="loss"), expected)
    numbers = Pipeline((X, z + 1))
    close(teacher_difficulties(make_model(), numbers, by="loss"), np.ones(N))
    with pytest.raises(ConfigurationError, match="teacher of numbers has no confidence"):
        teacher_difficulties(make_model(), numbers)
    one = -np.log(np.maximum(p, 1 - p))[:, 0]
    for teacher, data in ((make_model(1), (X, Y % 2)), (make_model(1, "sigmoid"), (X,))):
        close(teacher_difficulties(teacher, Pipeline(data)), one)
    with pytest.raises(ConfigurationError, match="only output means"):
        teacher_difficulties(make_model(1), Pipeline((X,)))


def test_pixels():
    images = RNG.random((5, 4, 4, 2)).astype("float32")
    masks = RNG.integers(0, 3, (5, 4, 4))
    masks[0, :2] = -1
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1)])
    logs = np.log(softmax(model.predict(images, verbose=0).astype("float64")))
    pipeline = Pipeline((images, masks), task="segmentation")
    close(teacher_difficulties(model, pipeline), -logs.max(-1).mean((1, 2)))
    picked = -np.take_along_axis(logs, np.maximum(masks, 0)[..., None], -1)[..., 0]
    close(teacher_difficulties(model, pipeline, by="loss"), np.nanmean(np.where(masks < 0, np.nan, picked), (1, 2)))


def test_a_cached_teacher_is_asked_about_all_of_its_views(tmp_path):
    noisy = Pipeline((X, Y), augment=[GaussianNoise(0.5)])
    cached = CachedTeacher.build(make_model(), noisy, tmp_path / "noisy", views=3, progress=False)
    views = [noisy.batch(np.arange(N), view)[0].astype("float64") for view in range(3)]
    expected = np.mean([-np.log(softmax(x @ KERNEL).max(-1)) for x in views], axis=0)
    close(teacher_difficulties(cached, noisy), expected, tolerance=0.02)
    plain = Pipeline((X, Y))
    cached = CachedTeacher.build(make_model(), plain, tmp_path / "plain", dtype="float32", progress=False)
    close(teacher_difficulties(cached, plain, by="loss"), LOSS)
    with pytest.raises(TeacherError, match="other inputs"):
        teacher_difficulties(cached, noisy)
    mixed = Pipeline((X, Y), augment=[Mixup()])
    cached = CachedTeacher.build(make_model(), mixed, tmp_path / "mixed", views=2, progress=False)
    with pytest.raises(ConfigurationError, match="mixed examples"):
        teacher_difficulties(cached, mixed)


def test_a_foreign_teacher():
    teacher = FunctionTeacher(lambda x: x[:, :3], outputs="logits", fingerprint="first three")
    close(teacher_difficulties(teacher, Pipeline((X,))), -np.log(softmax(X[:, :3].astype("float64")).max(-1)))


def test_several_outputs_need_a_name():
    panel = Panel([make_model(), make_model(kernel=-KERNEL)], names=["one", "other"])
    with pytest.raises(ConfigurationError, match="'one', 'other'"):
        teacher_difficulties(panel, Pipeline((X,)))
    close(teacher_difficulties(panel, Pipeline((X,)), output="one"), DOUBT)


@pytest.mark.parametrize(
    ("data", "message"),
    [((X,), "examples without labels"), ((X, np.where(Y == 0, -1, Y)), "label for each example.*and")],
    ids=["none", "some"],
)
def test_a_loss_needs_labels(data, message):
    with pytest.raises(ConfigurationError, match=message):
        teacher_difficulties(make_model(), Pipeline(data), by="loss")


def test_unusable_teachers():
    with pytest.raises(ConfigurationError, match="not finite"):
        teacher_difficulties(make_model(kernel=np.full_like(KERNEL, np.nan)), Pipeline((X, Y)))
    with pytest.raises(ConfigurationError):
        teacher_difficulties(make_model(2), Pipeline((X, Y)), by="loss")
    with pytest.raises(ConfigurationError, match="'by'"):
        teacher_difficulties(make_model(), Pipeline((X, Y)), by="accuracy")


# In a pipeline.

SETTINGS = {"start": 0.3, "full_after": 10**6, "progress": False}


def first_ids(pipeline):
    return {int(i) for epoch in range(6) for batch in pipeline.with_ids().epoch(epoch) for i in batch[0].ids}


def test_the_teacher_of_the_curriculum_decides_at_once():
    pipeline = Pipeline((X, Y), batch_size=10, curriculum=ByTeacherLoss(teacher=make_model(), **SETTINGS))
    assert first_ids(pipeline) == set(np.argsort(LOSS)[:21])
    other = pipeline.with_teacher(kd.teachers.as_teacher(make_model(kernel=-KERNEL)))
    assert first_ids(other) == first_ids(pipeline)


def test_without_a_teacher_it_waits_for_one(tmp_path):
    pipeline = Pipeline((X, Y), batch_size=10, curriculum=ByTeacherConfidence(**SETTINGS))
    with pytest.raises(ConfigurationError, match="ByTeacherConfidence has no teacher"):
        next(pipeline.epoch(0))
    student = make_model()
    student.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ConfigurationError, match="ByTeacherConfidence has no teacher"):
        student.fit(pipeline, verbose=0)
    expected = set(np.argsort(DOUBT)[:21])
    assert first_ids(pipeline.with_teacher(kd.teachers.as_teacher(make_model()))) == expected
    cached = CachedTeacher.build(make_model(), pipeline, tmp_path, dtype="float32", progress=False)
    attached = pipeline.with_teacher(cached)
    assert first_ids(attached) == expected
    inputs = next(attached.epoch(0))[0]
    close(inputs.teacher_outputs["output"], X[inputs.ids] @ KERNEL)
    assert first_ids(Pipeline((X,), batch_size=10, curriculum=ByTeacherLoss(order="random", **SETTINGS))) != expected


class Rows(keras.losses.Loss):
    """Records the labels of the batches."""

    seen = []

    def call(self, y_true, y_pred):
        Rows.seen += [np.asarray(y_true).ravel().tolist()]
        return y_pred[:, 0] * 0.0


def rows_of_fit(teacher, pipeline, **settings):
    Rows.seen = []
    distiller = kd.Distiller(teacher, make_model(), losses=kd.losses.SoftTargets(), **settings)
    distiller.compile("sgd", loss=Rows(), run_eagerly=True)
    distiller.fit(pipeline, epochs=3, verbose=0)
    return {int(row) for batch in Rows.seen for row in batch}


def test_a_distiller_brings_its_teacher():
    """As it sees the examples: through `teacher_inputs`."""
    data = (X, np.arange(N).astype("float32")[:, None])
    settings = {"batch_size": 10, "curriculum": ByTeacherConfidence(**SETTINGS), "task": "classification"}
    assert rows_of_fit(make_model(), Pipeline(data, **settings)) == set(np.argsort(DOUBT)[:21])
    flipped = -np.log(softmax(X[:, ::-1].astype("float64") @ KERNEL).max(-1))
    rows = rows_of_fit(make_model(), Pipeline(data, **settings), teacher_inputs=reverse)
    assert rows == set(np.argsort(flipped)[:21])


def reverse(x):
    return keras.ops.flip(x, axis=1)


def trained():
    """What a student learns in three epochs; `test_on_jax.py` runs this on JAX."""
    curriculum = ByTeacherConfidence(**SETTINGS | {"full_after": 15})
    distiller = kd.Distiller(make_model(), make_model(kernel=-KERNEL))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss=loss)
    history = distiller.fit(Pipeline((X, Y), batch_size=10, curriculum=curriculum), epochs=3, verbose=0).history
    return [history["loss"], distiller.student.get_weights()[0].tolist()]
