"""Softmax regression representation learning against float64 NumPy written from the published loss."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair
from scipy.special import log_softmax

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.softmax_regression import SoftmaxRegression, softmax_regression
from keras_kd.serialization import deserialize, serialize

KERNEL, BIAS = pair((4, 3), (3,))


def expected(teacher, student, metric="mse", feature_weight=1.0, regression_weight=1.0):
    logits = teacher @ KERNEL + BIAS, student @ KERNEL + BIAS
    if metric == "mse":
        distance = ((logits[1] - logits[0]) ** 2).mean(-1)
    else:
        logs = [log_softmax(values, axis=-1) for values in logits]
        distance = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)
    return feature_weight * ((student - teacher) ** 2).mean(-1) + regression_weight * distance


@pytest.mark.parametrize("settings", [{}, {"metric": "kl"}, {"feature_weight": 0.5, "regression_weight": 2.0}])
@pytest.mark.parametrize("batch", [1, 5])
def test_matches_the_formula(assert_matches_the_formula, batch, settings):
    def function(teacher, student):
        dtype = student.dtype if isinstance(student, tf.Variable) else np.asarray(student).dtype
        dtype = "float64" if "float64" in str(dtype) else "float32"
        return softmax_regression(teacher, student, KERNEL.astype(dtype), BIAS.astype(dtype), **settings)

    assert_matches_the_formula(
        function, lambda t, s: expected(t, s, **settings), *pair((batch, 4), (batch, 4)), half=False
    )


def test_without_a_bias():
    teacher, student = pair((3, 4), (3, 4))
    np.testing.assert_allclose(softmax_regression(teacher, student, KERNEL), expected(teacher, student))


def projected(loss, student):
    """Through the learned 1x1 convolution, batch normalization in training, and ReLU."""
    mapped = student @ np.asarray(loss.trainable_weights[0]).reshape(student.shape[-1], -1)
    axes = tuple(range(mapped.ndim - 1))
    mapped = np.maximum((mapped - mapped.mean(axes)) / np.sqrt(mapped.var(axes) + 1e-5), 0)
    return mapped.mean(axes[1:])


@pytest.mark.parametrize("student_shape", [(5, 2), (5, 3, 2), (5, 2, 3, 2)])
@pytest.mark.parametrize("teacher_shape", [(5, 4), (5, 2, 2, 4)])
def test_class_projects_and_pools(teacher_shape, student_shape):
    teacher, student = (x.astype("float32") for x in pair(teacher_shape, student_shape))
    loss = SoftmaxRegression((KERNEL, BIAS), metric="kl", feature_weight=2.0)
    value = float(loss(teacher, student))
    pooled = teacher.mean((1, 2)) if teacher.ndim == 4 else teacher
    values = expected(pooled, projected(loss, student), metric="kl", feature_weight=2.0)
    assert value == pytest.approx(values.mean(), rel=1e-4)


def test_padding_is_not_averaged():
    teacher, student = (x.astype("float32") for x in pair((2, 4), (2, 5, 2)))
    masked = tf.convert_to_tensor(student)
    masked._keras_mask = tf.constant([[True] * 3 + [False] * 2] * 2)
    loss = SoftmaxRegression((KERNEL, BIAS))
    value = float(loss(teacher, masked))
    assert value == pytest.approx(expected(teacher, projected(loss, student[:, :3])).mean(), rel=1e-4)


def dense(activation=None, use_bias=True):
    layer = keras.layers.Dense(3, name="head", activation=activation, use_bias=use_bias)
    layer.build((None, 4))
    return layer


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_classifier_is_copied(use_bias):
    layer = dense("softmax", use_bias)
    if use_bias:
        layer.bias.assign(BIAS)
    loss = SoftmaxRegression(layer, metric="kl")
    assert loss.teacher == "head:input"
    assert SoftmaxRegression(layer, teacher="pool").teacher == "pool"
    teacher, student = (x.astype("float32") for x in pair((5, 4), (5, 2)))
    value = float(loss(teacher, student))
    kernel = np.asarray(layer.kernel)
    reference = softmax_regression(teacher, projected(loss, student), kernel, BIAS if use_bias else None, metric="kl")
    assert value == pytest.approx(np.mean(reference), rel=1e-4)
    layer.kernel.assign(0 * layer.kernel)
    assert float(loss(teacher, student)) == value
    assert len(loss.trainable_weights) == 3 and not any(w is layer.kernel for w in loss.weights)


def model(width, name):
    inputs = keras.Input((4, 4, 1))
    maps = keras.layers.Conv2D(width, 3, activation="relu", padding="same", name="maps")(inputs)
    outputs = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D(name="pool")(maps))
    return keras.Model(inputs, outputs, name=name)


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_the_classifier_is_saved_with_the_distiller_and_not_trained(tmp_path):
    teacher = model(4, "teacher")
    teacher.save(tmp_path / "teacher.keras")
    loss = SoftmaxRegression(teacher.get_layer("head"), student="maps")
    distiller = kd.Distiller(str(tmp_path / "teacher.keras"), model(2, "student"), losses=[loss])
    distiller.compile(
        keras.optimizers.SGD(0.1, weight_decay=0.1), loss=keras.losses.SparseCategoricalCrossentropy(True)
    )
    x, y = np.random.default_rng(0).normal(size=(6, 4, 4, 1)).astype("float32"), np.arange(6) % 3
    distiller.fit(x, y, epochs=2, batch_size=3, verbose=0)
    kernel = np.asarray(teacher.get_layer("head").kernel)
    np.testing.assert_array_equal(kernel, np.asarray(loss._classifier.kernel))
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    logs = [one.train_on_batch(x, y, return_dict=True) for one in (distiller, again)]
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-5) and np.isfinite(value), name


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_with_a_cached_teacher(tmp_path):
    """The cache holds what enters the classifier; the teacher itself is not needed."""
    teacher, x, y = model(4, "teacher"), np.random.default_rng(0).normal(size=(6, 4, 4, 1)), np.arange(6) % 3
    loss = SoftmaxRegression(teacher.get_layer("head"), student="maps")
    pipeline = kd.data.Pipeline((x.astype("float32"), y), batch_size=6)
    cached = kd.teachers.CachedTeacher.build(teacher, pipeline, tmp_path, taps=[loss.teacher], progress=False)
    distiller = kd.Distiller(cached, model(2, "student"), losses=[loss])
    distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(True))
    history = distiller.fit(pipeline.with_teacher(cached), epochs=1, verbose=0).history
    assert np.isfinite(history[loss.name]).all()


def test_config_round_trip_gives_nan_until_the_weights_are_loaded():
    teacher, student = (x.astype("float32") for x in pair((5, 4), (5, 2)))
    loss = SoftmaxRegression(
        (KERNEL, BIAS), teacher="a", student="b", metric="kl", feature_weight=0.5, projector_activation=None
    )
    value = float(loss(teacher, student))
    again = deserialize(serialize(loss))
    assert (again.name, again.metric, again.feature_weight) == ("softmax_regression_b", "kl", 0.5)
    assert (again.projector_activation, again.teacher) == (None, "a")
    assert np.isnan(float(again(teacher, student)))
    again.set_weights(loss.get_weights())
    assert float(again(teacher, student)) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (keras.layers.Dense(3), "a Dense.*has been built"),
        (keras.layers.Conv2D(3, 1), "a Conv2D.*last Dense layer"),
        ("logits", "a str.*teacher.get_layer"),
        (None, "a NoneType"),
        ((KERNEL, BIAS[:2]), r"shapes \[\(4, 3\), \(2,\)\]"),
        ((BIAS, KERNEL), r"shapes \[\(3,\), \(4, 3\)\]"),
        ((None, BIAS), "shapes"),
    ],
)
def test_invalid_classifiers_are_refused(classifier, message):
    with pytest.raises(ConfigurationError, match=message):
        SoftmaxRegression(classifier)


@pytest.mark.parametrize("settings", [{"metric": "l1"}, {"feature_weight": -1}, {"projector_activation": "gelu"}])
def test_invalid_settings_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        SoftmaxRegression((KERNEL, BIAS), **settings)


def test_other_features_than_the_classifiers_are_refused():
    teacher, student = (types.SimpleNamespace(shape=shape) for shape in ((None, 5), (None, 2)))
    with pytest.raises(ConfigurationError, match="4 channels of the teacher"):
        SoftmaxRegression((KERNEL, BIAS)).validate_outputs(teacher, student)
    with pytest.raises(ConfigurationError, match="enter the teacher's classifier"):
        SoftmaxRegression((KERNEL, BIAS)).build((None, 4), (None,))


def test_by_name_it_asks_for_the_classifier():
    with pytest.raises(ConfigurationError, match="missing a required argument: 'classifier'"):
        kd.losses.get({"name": "softmax_regression", "student": "pool"})


def test_any_batch_size_in_one_graph():
    loss = SoftmaxRegression((KERNEL, BIAS))
    loss.build((None, 4), (None, 2))
    shapes = [tf.TensorSpec((None, 4)), tf.TensorSpec((None, 2))]
    compiled = tf.function(lambda t, s: loss(t, s, context=Context(training=False)), input_signature=shapes)
    for batch in (1, 3):
        teacher, student = (x.astype("float32") for x in pair((batch, 4), (batch, 2)))
        eager = float(loss(teacher, student, context=Context(training=False)))
        assert float(compiled(teacher, student)) == pytest.approx(eager, rel=1e-5)
