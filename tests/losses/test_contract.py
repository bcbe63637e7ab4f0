"""The laws that every distillation loss keeps. A new loss is one more row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd import schedules
from keras_kd.losses import Context, SoftTargets, Weighted, get
from keras_kd.serialization import deserialize, serialize

LOSSES = {
    "soft_targets": SoftTargets(temperature=3.0),
    "soft_targets, the distiller's temperature": SoftTargets(),
    "soft_targets, scheduled": SoftTargets(temperature=schedules.Linear(8.0, 1.0, steps=10)),
    "soft_targets, sigmoid": SoftTargets(temperature=3.0, activation="sigmoid"),
    "weighted": Weighted(SoftTargets(temperature=2.0), 0.25),
    "weighted, scheduled": Weighted(SoftTargets(), schedules.Cosine(1.0, 0.0, steps=10)),
}


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def loss(request):
    return request.param


@pytest.fixture
def outputs():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2, 6, 10)) * 3).astype("float32")


CONTEXT = Context(step=4, temperature=2.5)


def test_zero_when_student_equals_teacher(loss, outputs):
    assert float(loss(outputs[0], outputs[0], context=CONTEXT)) == pytest.approx(0.0, abs=1e-5)


def test_positive_when_it_does_not(loss, outputs):
    assert float(loss(*outputs, context=CONTEXT)) > 0.01


def test_the_order_of_the_batch_does_not_matter(loss, outputs):
    order = np.random.default_rng(1).permutation(6)
    shuffled = loss(outputs[0][order], outputs[1][order], context=CONTEXT)
    assert float(shuffled) == pytest.approx(float(loss(*outputs, context=CONTEXT)), rel=1e-5)


def test_a_sample_weight_of_0_is_a_row_removed(loss, outputs):
    weight = np.float32([1, 1, 0, 1, 0, 1])
    weighted = loss(*outputs, sample_weight=weight, context=CONTEXT) * 6  # the sum over the batch
    removed = loss(outputs[0][weight > 0], outputs[1][weight > 0], context=CONTEXT) * 4
    assert float(weighted) == pytest.approx(float(removed), rel=1e-5)


def test_sample_weights_multiply(loss, outputs):
    doubled = loss(*outputs, sample_weight=np.full(6, 2.0, "float32"), context=CONTEXT)
    assert float(doubled) == pytest.approx(2 * float(loss(*outputs, context=CONTEXT)), rel=1e-5)


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gradients_are_finite_at_saturated_logits(loss, size, dtype):
    teacher = np.sign(np.random.default_rng(0).normal(size=(4, 10))).astype(dtype) * size
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = loss(teacher, student, context=CONTEXT)
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, student).numpy()).all()


def test_config_round_trip(loss, outputs):
    again = deserialize(serialize(loss))
    assert type(again) is type(loss) and again.name == loss.name
    assert serialize(again) == serialize(loss)
    assert float(again(*outputs, context=CONTEXT)) == float(loss(*outputs, context=CONTEXT))


def test_works_inside_keras_own_distiller(loss, make_model, digits):
    teacher, student = make_model(8), make_model(4)
    distiller = keras.distillation.Distiller(teacher, student, distillation_losses=loss)
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits[0][:8], digits[1][:8]
    expected = loss(teacher(x), student(x, training=True))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert float(logs["distillation_loss"]) == pytest.approx(float(expected), rel=1e-4)


def test_by_name_with_settings():
    loss = get({"name": "soft_targets", "temperature": 2.0, "activation": "sigmoid"})
    assert (loss.temperature, loss.activation) == (2.0, "sigmoid")
