"""Flow of the solution procedure against float64 NumPy written from the formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.errors import ConfigurationError
from keras_kd.losses.flow import FlowOfSolution, flow_matrix, flow_of_solution
from keras_kd.serialization import deserialize, serialize


def halved(features):
    batch, height, width, channels = features.shape
    return features.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def gram(first, second):
    while first.shape[1] > second.shape[1]:
        first = halved(first)
    while second.shape[1] > first.shape[1]:
        second = halved(second)
    result = np.zeros((len(first), first.shape[-1], second.shape[-1]))
    for h, w in np.ndindex(first.shape[1:3]):
        result += first[:, h, w, :, None] * second[:, h, w, None, :]
    return result / (first.shape[1] * first.shape[2])


def reference(teacher, student):
    values = 0.0
    for i in range(len(teacher) - 1):
        difference = gram(teacher[i], teacher[i + 1]) - gram(student[i], student[i + 1])
        values = values + (difference**2).reshape(len(difference), -1).mean(-1)
    return values


def maps(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (((1, 2, 2, 2), (1, 2, 2, 3)), ((1, 2, 2, 2), (1, 2, 2, 3))),
        (((3, 4, 4, 2), (3, 2, 2, 3)), ((3, 2, 2, 2), (3, 4, 4, 3))),
        (((2, 4, 4, 2), (2, 2, 2, 3), (2, 1, 1, 2)), ((2, 2, 2, 2), (2, 2, 2, 3), (2, 1, 1, 2))),
    ],
)
def test_matches_the_formula(assert_matches_the_formula, teacher, student):
    assert_matches_the_formula(flow_of_solution, reference, maps(*teacher), maps(*student, seed=1))


def test_flow_matrix_is_first_by_second_channels():
    first, second = maps((2, 2, 2, 2), (2, 2, 2, 3))
    np.testing.assert_allclose(flow_matrix(first, second), gram(first, second))


@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_is_finite_at_zeros_and_extremes(size):
    teacher = [x.astype("float32") for x in maps((2, 2, 2, 2), (2, 2, 2, 3))]
    student = [tf.Variable(-np.sign(x) * size) for x in teacher]
    with tf.GradientTape() as tape:
        value = flow_of_solution(teacher, student)
    assert np.isfinite(value).all()
    assert all(np.isfinite(slope).all() for slope in tape.gradient(value, student))


def test_equal_channels_have_no_weights():
    teacher, student = maps((3, 4, 4, 2), (3, 2, 2, 3)), maps((3, 2, 2, 2), (3, 2, 2, 3), seed=1)
    loss = FlowOfSolution()
    assert float(loss(teacher, student)) == pytest.approx(reference(teacher, student).mean(), rel=1e-5)
    assert not loss.weights
    same = [x.astype("float32") for x in teacher]
    assert float(loss(same, same)) == 0.0


def test_different_channels_are_projected_at_the_students_size():
    teacher, student = maps((3, 4, 4, 2), (3, 2, 2, 3)), maps((3, 2, 2, 4), (3, 2, 2, 3), seed=1)
    loss = FlowOfSolution(projector="auto")
    with tf.GradientTape() as tape:
        value = loss([x.astype("float32") for x in teacher], [x.astype("float32") for x in student])
    assert [tuple(weight.shape) for weight in loss.trainable_weights] == [(1, 1, 4, 2), (2,), (2,)]
    slopes = tape.gradient(value, [weight.value for weight in loss.trainable_weights])
    assert np.isfinite(float(value)) and all(np.abs(slope).max() > 0 for slope in slopes)


def test_config_round_trip():
    loss = FlowOfSolution(teacher=["a", "b"], student=["c", "d"], projector=None)
    again = deserialize(serialize(loss))
    assert (again.projector, again.student, again.name) == (None, ("c", "d"), "flow_of_solution_c_d")
    assert serialize(again) == serialize(loss)


def test_runs_in_a_graph_with_an_unknown_batch_and_size():
    loss = FlowOfSolution()
    teacher, student = ([x.astype("float32") for x in maps((3, 2, 2, 2), (3, 2, 2, 3), seed=i)] for i in (0, 1))
    specs = [tf.TensorSpec((None, None, None, 2)), tf.TensorSpec((None, None, None, 3))]
    graph = tf.function(lambda t, s: loss(t, s), input_signature=[specs, specs])
    assert float(graph(teacher, student)) == pytest.approx(float(loss(teacher, student)))


def shaped(*shapes):
    return [keras.KerasTensor((None, *shape)) for shape in shapes]


@pytest.mark.parametrize(
    ("settings", "teacher", "student", "message"),
    [
        ({}, [(4, 4, 2)], [(4, 4, 2)], "two or more"),
        ({}, [(4, 4, 2), (2, 2, 3)], [(4, 4, 2)], "2 of the teacher, 1 of the student"),
        ({}, [(4, 4, 2), (3,)], [(4, 4, 2), (3,)], "compares feature maps"),
        ({}, [(4, 4, 2), (None, None, 3)], [(4, 4, 2), (2, 2, 3)], "known heights"),
        ({"projector": None}, [(4, 4, 2), (2, 2, 3)], [(4, 4, 4), (2, 2, 3)], r"\[2, 3\].*\[4, 3\].*'auto', which"),
    ],
)
def test_incompatible_shapes_are_refused(settings, teacher, student, message):
    with pytest.raises(ConfigurationError, match=message):
        FlowOfSolution(**settings).validate_outputs(shaped(*teacher), shaped(*student))
    with pytest.raises(ConfigurationError, match=message):
        FlowOfSolution(**settings).build([(None, *x) for x in teacher], [(None, *x) for x in student])


def test_one_output_is_refused():
    with pytest.raises(ConfigurationError, match="1 of the teacher, 1 of the student.*two or more"):
        FlowOfSolution().validate_outputs(*shaped((10,), (10,)))


def test_an_unknown_projector_is_refused():
    with pytest.raises(ConfigurationError, match="'conv'.*'auto', None"):
        FlowOfSolution(projector="conv")
