"""Weights per example from the teacher's reliability, against float64 NumPy."""

import keras
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

import keras_kd as kd
from keras_kd import schedules
from keras_kd.errors import ConfigurationError
from keras_kd.losses import (
    Context,
    Hint,
    SoftTargets,
    Weighted,
    confidence_weights,
    correctness_weights,
    entropy_weights,
    get,
    soft_targets,
)
from keras_kd.serialization import deserialize, serialize

layers = keras.layers


@keras.saving.register_keras_serializable("test_weighting")
def first_probability(teacher_logits, labels):
    return keras.ops.softmax(teacher_logits)[:, 0]


def draw(*shape, seed=0):
    return (np.random.default_rng(seed).normal(size=(2, *shape)) * 2).astype("float32")


def expected_weights(examples, logits, labels):
    probabilities = softmax(logits.astype("float64"), -1)
    if examples == "confidence":
        return probabilities.max(-1)
    if examples == "entropy":
        return 1 - np.array([entropy(row, base=len(row)) for row in probabilities])
    if examples is first_probability:
        return probabilities[:, 0]
    return np.array([float(label < 0 or row.argmax() == label) for row, label in zip(logits, labels, strict=True)])


def labels_for(logits):
    """Right, wrong, right, unlabeled, ..."""
    best = logits.argmax(-1)
    return np.where(np.arange(len(best)) % 4 == 3, -1, np.where(np.arange(len(best)) % 2, (best + 1) % 4, best))


@pytest.mark.parametrize(
    ("examples", "function"),
    [("confidence", confidence_weights), ("entropy", entropy_weights), ("correctness", correctness_weights)],
)
def test_weights_match_the_formula(examples, function):
    logits, _ = draw(6, 4)
    labels = labels_for(logits)
    assert set(labels_for(logits)) >= {-1}
    np.testing.assert_allclose(
        function(logits, labels), expected_weights(examples, logits, labels), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(("function", "sure", "torn"), [(confidence_weights, 1.0, 0.25), (entropy_weights, 1.0, 0.0)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_at_the_ends_of_their_range(function, sure, torn, dtype):
    weights = function(np.array([[6e4, -6e4, 0, 0], [60, -60, 0, 0], [7, 7, 7, 7]], dtype))
    assert weights.dtype == "float32"
    np.testing.assert_allclose(weights, [sure, sure, torn], atol=1e-6)


@pytest.mark.parametrize("function", [confidence_weights, entropy_weights])
def test_one_sigmoid_output_is_two_classes(function):
    logits, _ = draw(5, 1)
    two = np.concatenate([np.zeros_like(logits), logits], -1)
    np.testing.assert_allclose(function(logits), function(two), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [[1, 0, 0, -1], [[1], [0], [0], [-1]], [1.0, 0.0, 0.0, -1.0]])
def test_correctness_of_one_sigmoid_output(labels):
    logits = np.float32([[3], [-3], [3], [3]])
    np.testing.assert_array_equal(correctness_weights(logits, np.array(labels)), [1, 1, 0, 1])


def test_correctness_takes_one_hot_labels_and_positions():
    logits, _ = draw(2, 3, 4)
    labels = labels_for(logits.reshape(-1, 4)).clip(0).reshape(2, 3)
    expected = (logits.argmax(-1) == labels).astype("float32")
    assert 0 < expected.sum() < 6
    np.testing.assert_array_equal(correctness_weights(logits, labels), expected)
    np.testing.assert_array_equal(correctness_weights(logits, labels[..., None]), expected)
    np.testing.assert_array_equal(correctness_weights(logits, np.eye(4)[labels]), expected)


@pytest.mark.parametrize("examples", ["confidence", "entropy", "correctness", first_probability])
@pytest.mark.parametrize("sample_weight", [None, [1, 0, 2, 1, 0.5, 1]])
def test_without_a_distiller_weights_come_from_the_compared_logits(examples, sample_weight):
    teacher, student = draw(6, 4)
    labels = labels_for(teacher)
    loss = Weighted(SoftTargets(temperature=2.0), 0.5, examples=examples)
    given = None if sample_weight is None else np.float32(sample_weight)
    value = loss(teacher, student, sample_weight=given, context=Context(labels=labels))
    each = np.asarray(soft_targets(teacher, student, 2.0), "float64")
    weights = expected_weights(examples, teacher, labels) * (1 if sample_weight is None else sample_weight)
    assert float(value) == pytest.approx(0.5 * (each * weights).mean(), rel=1e-5)


def test_weights_per_position_of_dense_outputs():
    teacher, student = draw(2, 3, 4)
    value = Weighted(SoftTargets(temperature=2.0), examples="confidence")(
        teacher, student, sample_weight=np.float32([1, 2])
    )
    each = np.asarray(soft_targets(teacher, student, 2.0), "float64")
    weights = softmax(teacher, -1).max(-1) * [[1], [2]]
    assert float(value) == pytest.approx((each * weights).mean(), rel=1e-5)


def make_model(width):
    keras.utils.set_random_seed(width)
    return keras.Sequential([keras.Input((6,)), layers.Dense(width, activation="tanh", name="inner"), layers.Dense(4)])


@pytest.mark.parametrize("examples", ["confidence", "entropy", "correctness", first_probability])
@pytest.mark.parametrize("one_hot", [False, True])
def test_in_a_distiller_weights_of_a_feature_loss_come_from_the_teachers_logits(examples, one_hot):
    teacher, student = make_model(5), make_model(5)
    student.set_weights([weight * 0.5 + 0.1 for weight in student.get_weights()])
    x = draw(6, 6)[0]
    logits = teacher(x).numpy()
    labels = labels_for(logits)
    if one_hot:
        labels = labels.clip(0)
    inner = [keras.Model(m.inputs[0], m.get_layer("inner").output)(x).numpy() for m in (teacher, student)]
    each = ((inner[0] - inner[1]) ** 2).mean(-1)
    expected = 3.0 * (each * expected_weights(examples, logits, labels)).mean()

    hint = Weighted(Hint(teacher="inner", student="inner"), 3.0, examples=examples)
    distiller = kd.Distiller(teacher, student, alpha=1.0, losses=[hint])
    if one_hot:
        supervised = keras.losses.CategoricalCrossentropy(from_logits=True)
    else:
        supervised = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    distiller.compile("sgd", supervised)
    y = np.eye(4, dtype="float32")[labels] if one_hot else labels
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert float(logs["hint_inner"]) == pytest.approx(expected, rel=1e-4) and expected > 0


def test_examples_of_weight_0_do_not_change_the_student():
    teacher, student = make_model(5), make_model(4)
    x = draw(4, 6)[0]
    wrong = (teacher(x).numpy().argmax(-1) + 1) % 4
    hint = {"name": "hint", "teacher": "inner", "student": "inner", "examples": "correctness", "weight": 5.0}
    with pytest.warns(kd.errors.Notice):
        distiller = kd.Distiller(teacher, student, alpha=1.0, losses=[hint])
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = student.get_weights()
    distiller.train_on_batch(x, wrong)
    for one, two in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("examples", [None, "confidence", "entropy", "correctness", first_probability])
def test_config_round_trip(examples):
    loss = Weighted(SoftTargets(temperature=2.0), schedules.Linear(1.0, 0.0, steps=10), examples=examples)
    again = deserialize(serialize(loss))
    assert again.examples == examples and serialize(again) == serialize(loss)
    teacher, student = draw(6, 4)
    context = Context(labels=labels_for(teacher), step=5)
    assert float(again(teacher, student, context=context)) == float(loss(teacher, student, context=context)) > 0


def test_correctness_without_labels_is_refused():
    with pytest.raises(ConfigurationError, match="'correctness'.*without labels.*labels in the batch"):
        Weighted(SoftTargets(), examples="correctness")(*draw(3, 4))


def test_features_are_not_mistaken_for_logits():
    loss = Weighted(Hint(teacher="inner", student="inner"), examples="confidence")
    with pytest.raises(ConfigurationError, match="no logits of the teacher"):
        loss(*draw(3, 4))
    logits, _ = draw(3, 5, seed=1)
    teacher, student = draw(3, 4)
    value = loss(teacher, student, context=Context(teacher_logits=logits))
    expected = ((teacher - student) ** 2).mean(-1) * softmax(logits, -1).max(-1)
    assert float(value) == pytest.approx(expected.mean(), rel=1e-5)


def test_an_invalid_example_weighting_is_refused():
    with pytest.raises(ConfigurationError, match="'trust'.*'confidence', 'entropy', 'correctness'"):
        get({"name": "soft_targets", "examples": "trust"})
