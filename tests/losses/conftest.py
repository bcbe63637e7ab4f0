import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))  # several files import the table of losses
from loss_table import ROWS  # noqa: E402


@pytest.fixture(params=ROWS, ids=str)
def row(request):
    """Each row of the table of losses, in turn."""
    return ROWS[request.param]


def finite_differences(function, point, step=1e-6):
    """The gradient of `sum(function(point))` by central differences, in float64."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        moved = [point.copy(), point.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        gradient[index] = (np.sum(function(moved[0])) - np.sum(function(moved[1]))) / (2 * step)
    return gradient


@pytest.fixture
def assert_matches_the_formula():
    """Compares a loss function with a reference written from the paper in float64 NumPy.

    Values in float64, float32 and (on the rounded inputs) float16; the gradient for the student, in float64 against
    finite differences of the reference and in float32 against that. Both take `(teacher, student)` arrays, or lists of
    arrays, and return `[batch]`.
    """

    def check(function, reference, teacher, student, *, gradient=True, rtol=2e-4, atol=1e-5, half=True):
        several = isinstance(student, (list, tuple))
        teacher, student = ([np.asarray(x, "float64") for x in (xs if several else [xs])] for xs in (teacher, student))

        def call(function, teacher, student):
            return function(list(teacher), list(student)) if several else function(teacher[0], student[0])

        expected = call(reference, teacher, student)
        exact = keras.ops.convert_to_numpy(call(function, teacher, student))
        assert exact.shape == expected.shape == (len(student[0]),)
        np.testing.assert_allclose(exact, expected, rtol=1e-7, atol=1e-9)
        single = call(function, *([x.astype("float32") for x in xs] for xs in (teacher, student)))
        assert "float32" in str(single.dtype)
        np.testing.assert_allclose(single, expected, rtol=rtol, atol=atol)
        if half:
            rounded = [[x.astype("float16") for x in xs] for xs in (teacher, student)]
            value = call(function, *rounded)
            assert "float32" in str(value.dtype)
            expected_half = call(reference, *([x.astype("float64") for x in xs] for xs in rounded))
            np.testing.assert_allclose(value, expected_half, rtol=rtol, atol=atol)
        if not gradient:
            return
        for number in range(len(student)):

            def of_one(point, number=number):
                return call(reference, teacher, [*student[:number], point, *student[number + 1 :]])

            slope = finite_differences(of_one, student[number])
            for dtype, tolerance in (("float64", 1e-5), ("float32", 2e-3)):
                variables = [tf.Variable(x.astype(dtype)) for x in student]
                with tf.GradientTape() as tape:
                    value = tf.reduce_sum(call(function, [x.astype(dtype) for x in teacher], variables))
                ours = tape.gradient(value, variables[number]).numpy()
                scale = max(np.abs(slope).max(), 1e-3)
                np.testing.assert_allclose(ours / scale, slope / scale, rtol=tolerance, atol=tolerance)

    return check
