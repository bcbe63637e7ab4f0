"""Hints against float64 NumPy written from the formulas."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.keras_private import set_keras_mask
from keras_kd.losses import Context, Hint, hint


def expected(metric):
    def reference(teacher, student):
        t, s = teacher.reshape(len(teacher), -1), student.reshape(len(student), -1)
        if metric == "mse":
            return ((t - s) ** 2).mean(-1)
        if metric == "l1":
            return np.abs(t - s).mean(-1)
        return 1 - (t * s).sum(-1) / np.linalg.norm(t, axis=-1) / np.linalg.norm(s, axis=-1)

    return reference


@pytest.mark.parametrize("metric", ["mse", "l1", "cosine"])
@pytest.mark.parametrize("shape", [(1, 5), (4, 3, 2, 2), (2, 6, 3)])
def test_matches_the_formula(assert_matches_the_formula, metric, shape):
    teacher, student = np.random.default_rng(0).normal(size=(2, *shape))
    assert_matches_the_formula(lambda t, s: hint(t, s, metric), expected(metric), teacher, student)


@pytest.mark.parametrize("metric", ["mse", "l1", "cosine"])
def test_is_finite_at_zero_features(metric):
    assert np.isfinite(hint(np.zeros((2, 4)), np.ones((2, 4)), metric)).all()
    np.testing.assert_array_equal(hint(np.zeros((2, 4)), np.zeros((2, 4)), metric), [0, 0])


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigurationError, match="'l2'.*'mse', 'l1', 'cosine'"):
        Hint(metric="l2")


def test_the_regressor_may_end_in_a_relu():
    loss = Hint(projector="conv", projector_activation="relu")
    teacher = np.full((4, 2, 2, 3), -1.0, "float32")  # a ReLU cannot match negative values
    values = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).astype("float32")
    assert float(loss(teacher, values)) >= 1.0
    assert loss.projection.endswith("+ relu")
    with pytest.raises(ConfigurationError, match="custom projector.*inside the layer"):
        Hint(projector=keras.layers.Dense(3), projector_activation="relu")


# Models of different modalities.

KINDS = {"vector": (6,), "sequence": (5, 6), "map": (3, 4, 6)}


def trained(loss, teacher, student):
    """The loss after its projector has left its initial state, and the projector's weights in float64."""
    loss(teacher, student)
    kernel, scale, shift, mean, variance = (np.asarray(w, "float64") for w in loss.weights)
    rng = np.random.default_rng(1)
    mean, variance = rng.normal(size=mean.shape), rng.uniform(0.5, 2, variance.shape)
    for weight, value in zip(loss.weights, (kernel, scale, shift, mean, variance), strict=True):
        weight.assign(value)
    return lambda x: scale * (x @ kernel - mean) / np.sqrt(variance + 1e-5) + shift


@pytest.mark.parametrize("student_kind", KINDS)
@pytest.mark.parametrize("teacher_kind", KINDS)
def test_pooled_features_of_any_two_kinds(teacher_kind, student_kind):
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(4, *KINDS[teacher_kind][:-1], 7)).astype("float32")
    student = rng.normal(size=(4, *KINDS[student_kind])).astype("float32")
    loss = Hint(projector="pooled")
    project = trained(loss, teacher, student)
    found = loss.per_example(teacher, student, context=Context(training=False)).values
    mean = [x.astype("float64").reshape(4, -1, x.shape[-1]).mean(1) for x in (teacher, student)]
    np.testing.assert_allclose(found, ((mean[0] - project(mean[1])) ** 2).mean(-1), rtol=2e-5)
    assert "linear to 7 channels" in loss.projection
    again = Hint.from_config(loss.get_config())
    assert again.projector == "pooled"


def test_pooling_leaves_out_each_side_s_own_padding():
    rng = np.random.default_rng(0)
    teacher, student = (rng.normal(size=(2, 5, width)).astype("float32") for width in (7, 6))
    keep = {"teacher": np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], bool), "student": np.tri(2, 5, 2) > 0}
    tensors = [keras.ops.convert_to_tensor(x) for x in (teacher, student)]
    for tensor, mask in zip(tensors, keep.values(), strict=True):
        set_keras_mask(tensor, keras.ops.convert_to_tensor(mask))
    loss = Hint(projector="pooled")
    project = trained(loss, *tensors)
    found = loss.per_example(*tensors, context=Context(training=False)).values
    mean = [
        np.stack([row[mask].astype("float64").mean(0) for row, mask in zip(x, masks, strict=True)])
        for x, masks in zip((teacher, student), keep.values(), strict=True)
    ]
    np.testing.assert_allclose(found, ((mean[0] - project(mean[1])) ** 2).mean(-1), rtol=2e-5)


def test_rows_of_weight_0_do_not_influence_pooled_features():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(4, 3, 3, 7)).astype("float32"), rng.normal(size=(4, 5, 6)).astype("float32")
    losses = [Hint(projector="pooled") for _ in range(2)]
    for loss in losses:
        keras.utils.set_random_seed(0)
        loss(teacher[:1], student[:1])
    weights = np.array([1, 1, 1, 0], "float32")
    student[3] = 1e3
    both = losses[0].per_example(teacher, student, sample_weight=weights).values[:3]
    np.testing.assert_allclose(both, losses[1].per_example(teacher[:3], student[:3]).values, rtol=1e-5)
