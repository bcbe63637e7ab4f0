"""DIST against float64 NumPy written from the paper, with SciPy's correlation."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from scipy.stats import pearsonr

from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context
from keras_kd.losses.correlation import CorrelationKD, correlation_kd
from keras_kd.serialization import deserialize, serialize


def distance(one, other):
    return 1 - pearsonr(one, other).statistic if len(one) > 1 else 0.0


def expected(temperature=1.0, inter_weight=1.0, intra_weight=1.0):
    def reference(teacher, student):
        p, q = softmax(teacher / temperature, -1), softmax(student / temperature, -1)
        inter = np.array([distance(p[row], q[row]) for row in range(len(p))])
        intra = sum(distance(p[:, column], q[:, column]) for column in range(p.shape[1])) / p.shape[1]
        return temperature**2 * (inter_weight * inter + intra_weight * intra)

    return reference


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)) * 2


@pytest.mark.parametrize("settings", [(1.0, 1.0, 1.0), (4.0, 2.0, 0.0), (2.0, 0.0, 3.0)])
@pytest.mark.parametrize("shape", [(1, 4), (3, 5), (5, 3)])
def test_matches_the_formula(assert_matches_the_formula, shape, settings):
    assert_matches_the_formula(lambda t, s: correlation_kd(t, s, *settings), expected(*settings), *draw(*shape))


def test_positions_of_dense_outputs_are_rows():
    teacher, student = draw(2, 2, 3, 4)
    value = correlation_kd(teacher, student, 2.0)
    flat = expected(2.0)(teacher.reshape(-1, 4), student.reshape(-1, 4))
    np.testing.assert_allclose(value, flat.reshape(2, 2, 3), rtol=1e-7)


def test_a_batch_of_one_has_no_relations_between_rows():
    teacher, student = draw(1, 4)
    np.testing.assert_array_equal(correlation_kd(teacher, student, inter_weight=0.0), [0.0])


def test_absent_rows_have_no_influence():
    teacher, student = draw(5, 4)
    present = np.array([True, False, True, True, False])
    value = np.asarray(correlation_kd(teacher, student, 2.0, present=present))
    np.testing.assert_allclose(value[present], expected(2.0)(teacher[present], student[present]), rtol=1e-7)


@pytest.mark.parametrize("weights", [[1, 1, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
def test_a_sample_weight_of_0_equals_removing_the_row(weights):
    teacher, student = draw(5, 4)
    present = np.array(weights) > 0
    loss = CorrelationKD(temperature=2.0, reduction="sum")
    weighted = loss(teacher, student, sample_weight=np.float32(weights))
    removed = expected(2.0)(teacher[present], student[present]).sum() if present.any() else 0.0
    assert float(weighted) == pytest.approx(removed, rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1, 0, 1]])
def test_masked_positions_and_absent_rows_have_no_influence(weights):
    teacher, student = draw(3, 4, 5)
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)
    masked = tf.convert_to_tensor(student.astype("float32"))
    masked._keras_mask = tf.convert_to_tensor(mask)
    sample_weight = None if weights is None else np.float32(weights)
    value = CorrelationKD(reduction="sum")(teacher, masked, sample_weight=sample_weight)

    included = mask if weights is None else mask & (np.array(weights) > 0)[:, None]
    values = np.zeros(mask.shape)
    values[included] = expected()(teacher[included], student[included])
    assert float(value) == pytest.approx((values.sum(1) / mask.sum(1)).sum(), rel=1e-5)


def test_a_shift_and_equal_logits_give_0():
    teacher, _ = draw(4, 5)
    single = teacher.astype("float32")
    np.testing.assert_allclose(correlation_kd(single, single + 3.0, 4.0), np.zeros(4), atol=1e-5)
    np.testing.assert_array_equal(correlation_kd(single, single), np.zeros(4))


def test_distance_of_constants_is_0_for_both_and_1_for_one():
    equal, other = np.zeros((2, 3), "float32"), np.float32([[1, 0, 0], [0, 2, 0]])
    np.testing.assert_array_equal(correlation_kd(equal, equal + 0.1), [0, 0])
    np.testing.assert_array_equal(correlation_kd(equal, other), [2, 2])
    np.testing.assert_array_equal(correlation_kd(other, equal), [2, 2])


@pytest.mark.parametrize("below", [30, 50])
def test_small_columns_weigh_as_much_as_large_ones(below):
    """With 1e-8 in the denominator, as in the published code, the last class would be treated as uncorrelated."""
    teacher, student = draw(4, 3)
    teacher[:, 2] -= below
    student[:, 2] -= below
    value = correlation_kd(teacher.astype("float32"), student.astype("float32"), inter_weight=0.0)
    np.testing.assert_allclose(value, expected(1.0, 0.0, 1.0)(teacher, student), rtol=1e-3)


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_saturated_and_zero_logits_have_finite_gradients(size):
    teacher = np.float32([[size, -size, 0.0], [-size, size, 0.0], [0.0, 0.0, 0.0]])
    for initial in (-teacher, teacher, np.zeros_like(teacher)):
        student = tf.Variable(initial)
        with tf.GradientTape() as tape:
            value = correlation_kd(teacher, student, 1.0)
        assert np.isfinite(value).all()
        assert np.isfinite(tape.gradient(value, student).numpy()).all()


def test_works_in_a_graph_without_a_batch_size():
    teacher, student = draw(4, 5)
    loss = CorrelationKD(temperature=2.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 5), "float32")] * 2 + [tf.TensorSpec((None,), "float32")])
    def step(teacher, student, weight):
        return loss(teacher, student, sample_weight=weight)

    value = step(teacher.astype("float32"), student.astype("float32"), np.ones(4, "float32"))
    assert float(value) == pytest.approx(expected(2.0)(teacher, student).mean(), rel=1e-5)


@pytest.mark.parametrize("settings", [{"inter_weight": -1}, {"intra_weight": None}, {"temperature": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigurationError):
        CorrelationKD(**settings)


def test_one_output_is_refused():
    with pytest.raises(ConfigurationError, match="always be 0"):
        CorrelationKD().validate_outputs(np.zeros((2, 1)), np.zeros((2, 1)))


def test_config_round_trip():
    loss = CorrelationKD(schedules.Linear(8.0, 1.0, steps=10), inter_weight=2.0, intra_weight=0.5, student="b")
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss) and again.name == "correlation_kd_b"
    teacher, student = draw(3, 4)
    context = Context(step=3)
    assert float(again(teacher, student, context=context)) == float(loss(teacher, student, context=context)) > 0
    assert deserialize(serialize(CorrelationKD(temperature=None))).temperature is None
