"""Knowledge review against float64 NumPy: the loss with loops, the fusion with the layers' own weights."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, SoftTargets
from keras_kd.losses.review import KnowledgeReview, knowledge_review
from keras_kd.serialization import deserialize, serialize

MAPS = [(5, 5, 2), (4, 3, 3), (2, 2, 4), (6,)]
TEACHER = [(4, 4, 3), (3, 3, 5), (6,)]
STUDENT = [(5, 5, 2), (2, 2, 3), (4,)]


def draw(shapes, batch=3, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(batch, *shape)).astype(dtype) for shape in shapes]


def pooled(image, size):
    """`[h, w, c]`: PyTorch's adaptive pooling, bin by bin."""
    height, width, _ = image.shape

    def ends(index, length):
        return slice(math.floor(index * length / size), math.ceil((index + 1) * length / size))

    return np.array([[image[ends(i, height), ends(j, width)].mean((0, 1)) for j in range(size)] for i in range(size)])


def expected(teacher, student):
    losses = np.zeros(len(teacher[0]))
    for t_level, s_level in zip(teacher, student, strict=True):
        for row, (t, s) in enumerate(zip(t_level, s_level, strict=True)):
            t, s = (x.reshape(1, 1, -1) if x.ndim == 1 else x for x in (t, s))
            weights, terms = [1.0], [((t - s) ** 2).mean()]
            for size in (4, 2, 1):
                if size < t.shape[0]:
                    weights.append(weights[-1] / 2)
                    terms.append(((pooled(t, size) - pooled(s, size)) ** 2).mean())
            losses[row] += np.dot(weights, terms) / sum(weights)
    return losses


@pytest.mark.parametrize("batch", [1, 3])
def test_matches_the_formula(assert_matches_the_formula, batch):
    teacher, student = draw(MAPS, batch), draw(MAPS, batch, seed=1)
    assert_matches_the_formula(knowledge_review, expected, teacher, student)


def test_pooled_sizes():
    checkerboard = (np.indices((8, 8)).sum(0) % 2 * 2.0 - 1.0)[None, :, :, None]
    zeros = np.zeros_like(checkerboard)
    assert float(knowledge_review([zeros], [checkerboard])[0]) == pytest.approx(1 / (1 + 1 / 2 + 1 / 4 + 1 / 8))
    assert float(knowledge_review([zeros, zeros], [zeros + 3.0, zeros])[0]) == pytest.approx(9.0)  # one level each


def test_zero_when_equal():
    maps = draw(MAPS)
    np.testing.assert_array_equal(knowledge_review(maps, maps), [0, 0, 0])
    np.testing.assert_array_equal(knowledge_review([x * 0 for x in maps], [x * 0 for x in maps]), [0, 0, 0])


# The fusion.


def built(**settings):
    """A loss with random weights, including the moving statistics."""
    loss = KnowledgeReview(channels=3, **settings)
    loss.build([(None, *shape) for shape in TEACHER], [(None, *shape) for shape in STUDENT])
    rng = np.random.default_rng(2)
    for weight in loss.weights:
        is_variance = "variance" in weight.path
        weight.assign(rng.uniform(0.5, 2.0, weight.shape) if is_variance else rng.normal(size=weight.shape))
    return loss


def conv(x, layer):
    kernel = np.asarray(layer.kernel, "float64")
    bias = 0.0 if layer.bias is None else np.asarray(layer.bias, "float64")
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    output = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            window = padded[:, i : i + kernel.shape[0], j : j + kernel.shape[1]]
            output[:, i, j] = np.einsum("bhwc,hwcd->bd", window, kernel) + bias
    return output


def norm(x, layer):
    gamma, beta, mean, variance = (
        np.asarray(x, "float64") for x in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def resized(x, height, width):
    output = np.zeros((len(x), height, width, x.shape[-1]))
    for i in range(height):
        for j in range(width):
            output[:, i, j] = x[:, math.floor(i * x.shape[1] / height), math.floor(j * x.shape[2] / width)]
    return output


def reviewed(loss, student):
    """The student's levels after the fusion, written from the paper's figure and the published code."""
    outputs, residual = [], None
    for fusion, features, target in reversed(list(zip(loss.fusions, student, TEACHER, strict=True))):
        x = features if features.ndim == 4 else features[:, None, None]
        x = norm(conv(x, fusion.reduce), fusion.reduce_norm)
        if residual is not None:
            y = resized(residual, *x.shape[1:3])
            z = 1 / (1 + np.exp(-conv(np.concatenate([x, y], -1), fusion.attention)))
            x = x * z[..., :1] + y * z[..., 1:]
        residual = resized(x, *(target[:2] if len(target) == 3 else (1, 1)))
        outputs.insert(0, norm(conv(residual, fusion.expand), fusion.expand_norm))
    return [x if len(target) == 3 else x[:, 0, 0] for x, target in zip(outputs, TEACHER, strict=True)]


def test_the_fusion_matches_the_published_code():
    loss = built()
    teacher, student = draw(TEACHER), draw(STUDENT, seed=1)
    value = float(loss(teacher, student, context=Context(training=False)))
    assert value == pytest.approx(expected(teacher, reviewed(loss, student)).mean(), rel=1e-5)


def test_all_weights_of_the_fusion_are_trained():
    loss = KnowledgeReview(channels=4)
    teacher, student = draw(TEACHER, dtype="float32"), draw(STUDENT, seed=1, dtype="float32")
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    gradients = tape.gradient(value, [weight.value for weight in loss.trainable_variables])
    assert len(gradients) == 3 * 6 + 2 * 2  # two convolutions with batch norm a level, and the attention of two
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


def test_batch_statistics_change_in_training_only():
    loss, maps = KnowledgeReview(), (draw(TEACHER), draw(STUDENT, seed=1))
    loss(*maps, context=Context(training=False))
    before = [np.array(weight) for weight in loss.non_trainable_variables]
    loss(*maps, context=Context(training=False))
    assert all((a == np.array(b)).all() for a, b in zip(before, loss.non_trainable_variables, strict=True))
    loss(*maps)
    assert all((a != np.array(b)).any() for a, b in zip(before, loss.non_trainable_variables, strict=True))


def test_a_sample_weight_of_0_excludes_the_row_from_the_batch_statistics():
    loss = built()
    teacher, student = draw(TEACHER, 5, dtype="float32"), draw(STUDENT, 5, seed=1, dtype="float32")
    weight = np.float32([1, 0, 1, 1, 0])
    weighted = float(loss(teacher, student, sample_weight=weight)) * 5
    removed = float(loss([x[weight > 0] for x in teacher], [x[weight > 0] for x in student])) * 3
    assert weighted == pytest.approx(removed, rel=1e-5)


def test_grows_over_the_warmup_steps():
    loss, maps = built(warmup_steps=20), (draw(TEACHER), draw(STUDENT, seed=1))
    values = [float(loss(*maps, context=Context(step=step, training=False))) for step in (0, 5, 20, 100)]
    np.testing.assert_allclose(np.divide(values, values[-1]), [0, 0.25, 1, 1], rtol=1e-6)
    assert float(built()(*maps, context=Context(step=0, training=False))) == pytest.approx(values[-1])


def test_the_channels_of_the_fusion():
    shapes = [(None, 2, 2, 3), (None, 700)]
    for settings, channels in (({}, 512), ({"channels": 8}, 8)):
        loss = KnowledgeReview(**settings)
        loss.build(shapes, shapes)
        assert loss.fusions[0].channels == channels


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ([(4, 4, 2), (2,)], [(4, 4, 2)]),
        ([(None, None, 2)], [(4, 4, 2)]),
        ([(4, 3)], [(4, 4, 2)]),
        ([(2,), (4, 4, 2)], [(4, 4, 2), (2,)]),
    ],
    ids=["other number", "unknown size", "sequence", "from deep to shallow"],
)
def test_levels_that_cannot_be_reviewed_are_refused(teacher, student):
    shaped = [[keras.KerasTensor((None, *shape)) for shape in shapes] for shapes in (teacher, student)]
    with pytest.raises(ConfigurationError, match="cannot review.*from shallow to deep"):
        KnowledgeReview().validate_outputs(*shaped)


def test_config_round_trip():
    loss = KnowledgeReview(teacher=["a", "b"], student=["c", "d"], channels=7, warmup_steps=9)
    again = deserialize(serialize(loss))
    assert serialize(again) == serialize(loss)
    assert (again.teacher, again.channels, again.warmup_steps) == (("a", "b"), 7, 9)


def test_trains_in_a_distiller_and_stays_out_of_the_student(digits, tmp_path):
    teacher, student = (
        kd.models.build(name, input_shape=(8, 8, 1), num_classes=10, widths=widths)
        for name, widths in (("digits_teacher", (6, 8)), ("digits_student", (4, 5)))
    )
    loss = KnowledgeReview(
        teacher=["block_1_add", "block_2_add", "pool"], student=["block_1_relu", "block_2_relu", "pool"], channels=4
    )
    distiller = kd.Distiller(teacher, student, losses=[SoftTargets(), loss])
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.array(weight) for weight in loss.trainable_variables]
    size = student.count_params()
    x, y = digits[0][:12], digits[1][:12]
    logs = distiller.fit(x, y, batch_size=6, verbose=0).history
    assert np.isfinite(list(logs.values())).all() and logs[loss.name][0] > 0
    assert all((a != np.array(b)).any() for a, b in zip(before, loss.trainable_variables, strict=True))
    assert student.count_params() == size and not any("fusion" in weight.path for weight in student.weights)

    teacher.save(tmp_path / "teacher.keras")
    distiller = kd.Distiller(tmp_path / "teacher.keras", student, losses=[loss])
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras").terms[0]
    for a, b in zip(loss.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
