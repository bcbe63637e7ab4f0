"""The loss and the metrics of each task, against float64 NumPy, with missing labels."""

import keras
import numpy as np
import pytest

from keras_kd import tasks
from keras_kd.data import Pipeline

rng = np.random.default_rng(3)
LOGITS = rng.normal(size=(6, 4))
HOT = rng.integers(-1, 2, (6, 4)).astype("float32")
HOT[2] = -1


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("from_logits", [True, False])
def test_binary_crossentropy_over_the_known_labels(from_logits):
    known = HOT >= 0
    p = sigmoid(LOGITS)
    values = -np.where(HOT == 1, np.log(p), np.log(1 - p)) * known
    expected = np.mean(values.sum(1) / np.maximum(known.sum(1), 1))
    loss = tasks.MultiLabel().loss(from_logits=from_logits)
    assert float(loss(HOT, LOGITS if from_logits else p)) == pytest.approx(expected, rel=1e-5)
    (metric,) = tasks.MultiLabel().metrics(from_logits=from_logits)
    metric.update_state(HOT, LOGITS if from_logits else p)
    assert float(metric.result()) == pytest.approx(((LOGITS > 0) == (HOT == 1))[known].mean(), rel=1e-6)


def test_without_missing_labels_it_is_that_of_keras():
    labels = np.maximum(HOT, 0)
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    loss = type(tasks.MultiLabel().loss(from_logits=True))(from_logits=True, label_smoothing=0.1)
    assert float(loss(labels, LOGITS)) == pytest.approx(float(expected(labels, LOGITS)), rel=1e-6)


def test_squared_error_over_the_known_targets():
    true = rng.normal(size=(6, 4)).astype("float32")
    true[rng.random(true.shape) < 0.3] = np.nan
    true[1] = np.nan
    known = ~np.isnan(true)
    squares = np.where(known, (LOGITS - np.nan_to_num(true)) ** 2, 0)
    loss = tasks.Regression().loss(from_logits=True)
    assert float(loss(true, LOGITS)) == pytest.approx((squares.sum(1) / np.maximum(known.sum(1), 1)).mean(), rel=1e-5)
    (metric,) = tasks.Regression().metrics(from_logits=True)
    metric.update_state(true, LOGITS, sample_weight=[1, 1, 1, 1, 1, 0])
    assert float(metric.result()) == pytest.approx(np.abs(LOGITS - true)[:5][known[:5]].mean(), rel=1e-5)


def test_gradients_are_finite_where_targets_are_missing():
    import tensorflow as tf

    outputs = tf.Variable(LOGITS.astype("float32"))
    true = np.full((6, 4), np.nan, "float32")
    true[0, 0] = 1.0
    with tf.GradientTape() as tape:
        value = tasks.Regression().loss(from_logits=True)(true, outputs)
    gradient = tape.gradient(value, outputs).numpy()
    assert np.count_nonzero(gradient) == 1 and np.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)], ids=["tokens", "pixels"])
def test_positions_without_a_label_do_not_count(shape):
    labels = rng.integers(-1, 5, shape)
    logits = rng.normal(size=(*shape, 5))
    known = labels >= 0
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, np.maximum(labels, 0)[..., None], -1)[..., 0][known].mean()
    task = tasks.TokenClassification() if len(shape) == 2 else tasks.Segmentation()
    assert float(task.loss(from_logits=True)(labels, logits)) == pytest.approx(expected, rel=1e-5)
    (metric,) = task.metrics(from_logits=True)
    metric.update_state(labels, logits)
    assert float(metric.result()) == pytest.approx((logits.argmax(-1) == labels)[known].mean(), rel=1e-6)


@pytest.mark.parametrize("task", tasks.registry.members, ids=lambda task: task.__name__)
def test_losses_and_metrics_can_be_saved(task):
    for part in [task().loss(from_logits=True), *task().metrics(from_logits=True)]:
        if not isinstance(part, str):
            again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(part))
            assert again.get_config() == part.get_config()


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_targets_of_one_output_need_no_axis(shape):
    """Targets `[n]` beside outputs `[n, 1]` would broadcast to a matrix."""
    true, outputs = np.array([1.0, np.nan, 4.0], "float32"), np.array([[2.0], [9.0], [1.0]], "float32")
    loss, metric = tasks.get("regression").loss(from_logits=True), tasks.get("regression").metrics(from_logits=True)[0]
    assert float(loss(true.reshape(shape), outputs)) == pytest.approx((1.0 + 9.0) / 3)
    metric.update_state(true.reshape(shape), outputs)
    assert float(metric.result()) == pytest.approx((1.0 + 3.0) / 2)
    y = Pipeline((outputs, true.reshape(shape)), task="regression", shuffle=False).batch([0, 1, 2])[1]
    np.testing.assert_array_equal(y, true[:, None])
