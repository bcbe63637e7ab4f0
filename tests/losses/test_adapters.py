import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, SoftTargets, Weighted, get, soft_targets

layers = keras.layers


def test_a_function_that_gives_a_value_per_example_is_reduced_and_weighted():
    loss = get(lambda teacher, student: keras.ops.sum(teacher - student, -1))
    value = loss(np.float32([[3, 0], [1, 0]]), np.zeros((2, 2), "float32"), sample_weight=np.float32([1, 0]))
    assert float(value) == pytest.approx(1.5)


def test_a_function_that_gives_a_scalar_is_taken_as_it_is():
    loss = get(lambda teacher, student: keras.ops.mean(teacher - student))
    assert float(loss(np.ones((2, 3), "float32"), np.zeros((2, 3), "float32"))) == pytest.approx(1.0)


def test_keras_own_loss_with_a_divergence_on_probabilities_equals_ours():
    theirs = get(keras.distillation.LogitsDistillation(temperature=3.0, loss=keras.losses.KLDivergence()))
    ours = SoftTargets(temperature=3.0)
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 10)).astype("float32")
    assert float(theirs(teacher, student)) == pytest.approx(float(ours(teacher, student)), rel=1e-3)
    assert theirs.name == "logits_distillation"


def test_keras_losses_on_inner_layers_read_these(digits):
    def model():
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(6, name="a"), layers.Dense(10)])

    teacher, student = model(), model()
    feature = keras.distillation.FeatureDistillation(teacher_layer_name="a", student_layer_name="a")
    distiller = kd.Distiller(teacher, student, losses=[feature])
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits[0][:8], digits[1][:8]
    inner = [keras.Model(m.inputs[0], m.get_layer("a").output)(x).numpy() for m in (teacher, student)]
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert logs["feature_distillation"] == pytest.approx(np.mean((inner[0] - inner[1]) ** 2), rel=1e-5)


def test_a_weight_can_be_changed():
    loss = Weighted(SoftTargets(temperature=2.0), 1.0)
    teacher, student = np.float32([[2, 0]]), np.float32([[0, 2]])
    before = float(loss(teacher, student))
    loss.weight = 0.5
    assert float(loss(teacher, student)) == pytest.approx(before / 2)


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigurationError, match="weight.*-1"):
        Weighted(SoftTargets(), -1)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("soft_target", "Unknown loss.*Did you mean 'soft_targets'"),
        ({"name": "soft_targets", "heat": 3}, "does not take these settings.*heat"),
        (7, "This is no loss"),
    ],
)
def test_what_is_no_loss_is_refused(identifier, message):
    with pytest.raises(ConfigurationError, match=message):
        get(identifier)


def test_masked_positions_do_not_count():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 2, 3, 5)).astype("float32")
    mask = np.array([[True, True, False], [True, False, False]])
    masked = keras.ops.convert_to_tensor(student)
    masked._keras_mask = keras.ops.convert_to_tensor(mask)
    value = SoftTargets(temperature=2.0)(teacher, masked)
    each = np.asarray(soft_targets(teacher, student, 2.0), "float64")
    assert float(value) == pytest.approx(((each[0, 0] + each[0, 1]) / 2 + each[1, 0]) / 2, rel=1e-5)


def test_a_loss_without_a_temperature_takes_the_one_of_the_context():
    teacher, student = np.float32([[2, 0]]), np.float32([[0, 2]])
    with_context = SoftTargets()(teacher, student, context=Context(temperature=2.0))
    assert float(with_context) == pytest.approx(float(SoftTargets(temperature=2.0)(teacher, student)))
