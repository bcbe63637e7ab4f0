"""Zero-shot knowledge transfer on every backend; `test_on_jax.py` runs this file again on JAX."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.regimes import DataFreeDistiller
from keras_kd.synthesis import DAFL, ZSKT, generator

L = keras.layers
LATENT, CLASSES, BATCH = 3, 4, 6


def linear(seed, name=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4, 4, 1)), L.Flatten(), L.Dense(CLASSES, name="head")], name=name)


def linear_generator(seed=5):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((LATENT,)), L.Dense(16), L.Reshape((4, 4, 1))])


def network(seed, *, norm=True, dropout=False):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(4, 3, strides=2, padding="same", name="block")(inputs)
    x = L.BatchNormalization()(x) if norm else x
    x = L.Dropout(0.3)(x) if dropout else x
    x = L.GlobalAveragePooling2D()(L.ReLU()(x))
    return keras.Model(inputs, L.Dense(3)(x))


def numpy_of(variables):
    return [np.asarray(keras.ops.convert_to_numpy(one), "float64") for one in variables]


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


class Oracle:
    """Linear teacher, student and generator under gradient descent, in float64."""

    def __init__(self, distiller, temperature, rates):
        self.temperature, self.rates = temperature, rates
        self.teacher = numpy_of(distiller.teacher.model.variables)
        self.student = numpy_of(distiller.student.trainable_variables)
        self.generator = numpy_of(distiller.generator.trainable_variables)

    def step(self, noise, moves_generator):
        x = noise @ self.generator[0] + self.generator[1]
        log_p = log_softmax((x @ self.teacher[0] + self.teacher[1]) / self.temperature)
        log_q = log_softmax((x @ self.student[0] + self.student[1]) / self.temperature)
        p, q = np.exp(log_p), np.exp(log_q)
        divergence = (p * (log_p - log_q)).sum(-1, keepdims=True)
        # of T^2 * the mean of the divergence, to the logits
        to_student = self.temperature * (q - p) / len(x)
        to_teacher = self.temperature * p * (log_p - log_q - divergence) / len(x)
        to_images = to_student @ self.student[0].T + to_teacher @ self.teacher[0].T
        self.student[0] -= self.rates[0] * (x.T @ to_student)
        self.student[1] -= self.rates[0] * to_student.sum(0)
        if moves_generator:  # uphill
            self.generator[0] += self.rates[1] * (noise.T @ to_images)
            self.generator[1] += self.rates[1] * to_images.sum(0)
        return self.temperature**2 * divergence.mean()


def fitted(distiller, steps, **settings):
    settings = {"epochs": 1, "steps_per_epoch": steps, "batch_size": BATCH, "verbose": 0, **settings}
    return distiller.fit(**settings).history


@pytest.mark.parametrize(("student_steps", "temperature"), [(1, 1.0), (3, 1.0), (2, 2.0)])
def test_seven_steps_are_those_of_the_paper(student_steps, temperature):
    synthesizer = ZSKT(linear_generator(), student_steps=student_steps)
    distiller = DataFreeDistiller(linear(0), linear(1), synthesizer=synthesizer, temperature=temperature)
    sgd = keras.optimizers.SGD
    distiller.compile(sgd(0.3), synthesizer_optimizer=sgd(0.7))
    oracle = Oracle(distiller, temperature, (0.3, 0.7))
    batch = kd.teachers.Batch(np.zeros((BATCH, 4, 4, 1), "float32"))
    expected = []
    for step in range(7):
        (noise,) = numpy_of([distiller._noise(batch, keras.ops.convert_to_tensor(step))])
        expected.append(oracle.step(noise, (step + 1) % student_steps == 0))
    before = numpy_of(distiller.generator.trainable_variables)
    logs = fitted(distiller, 7)
    for own, other in zip(numpy_of(distiller.student.trainable_variables), oracle.student, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-4, atol=2e-6)
    after = numpy_of(distiller.generator.trainable_variables)
    for start, own, other in zip(before, after, oracle.generator, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-4, atol=2e-6)
        assert np.abs(own - start).max() > 1e-3
    assert logs["soft_targets"][0] == pytest.approx(np.mean(expected), rel=1e-4)
    in_steps = [value for step, value in enumerate(expected) if (step + 1) % student_steps == 0]
    assert logs["generator_loss"][0] == pytest.approx(-student_steps * np.sum(in_steps) / 7, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(logs["soft_targets"][0] + logs["generator_loss"][0], abs=1e-5)


def test_a_round_has_one_noise():
    distiller = DataFreeDistiller(linear(0), linear(1), synthesizer=ZSKT(linear_generator(), student_steps=3))
    batch = kd.teachers.Batch(np.zeros((BATCH, 4, 4, 1), "float32"))
    noise = [numpy_of([distiller._noise(batch, keras.ops.convert_to_tensor(step))])[0] for step in range(9)]
    rounds = [next(first for first in range(9) if (noise[first] == one).all()) for one in noise]
    assert rounds == [0, 0, 2, 2, 2, 5, 5, 5, 8]


def test_the_generator_changes_in_one_of_so_many_steps():
    distiller = DataFreeDistiller(linear(0), linear(1), synthesizer=ZSKT(linear_generator(), student_steps=3))
    distiller.compile("adam", synthesizer_optimizer="adam")  # whose moments would move it in every step
    moved = []
    for _ in range(6):
        before = numpy_of(distiller.generator.trainable_variables)
        fitted(distiller, 1)
        after = numpy_of(distiller.generator.trainable_variables)
        moved.append(max(np.abs(a - b).max() for a, b in zip(before, after, strict=True)) > 0)
    assert moved == [False, False, True, False, False, True]


def test_the_generator_does_not_train_the_student():
    """With a learning rate of 0 and no terms but one of weight 0, the student keeps its weights, and its statistics
    and seeds change as in one pass."""
    none = kd.losses.Weighted(kd.losses.SoftTargets(), 0.0)
    students = []
    for synthesizer in (ZSKT(student_steps=1), DAFL(one_hot=0.0, activation=0.0, entropy=0.0)):
        student = network(1, dropout=True)
        keras.utils.set_random_seed(9)
        synthesizer.generator = generator((8, 8, 1), width=4)
        distiller = DataFreeDistiller(network(0), student, synthesizer=synthesizer, losses=[none])
        distiller.compile("sgd", synthesizer_optimizer=keras.optimizers.SGD(0.0))
        before = numpy_of(student.trainable_variables)
        fitted(distiller, 3)
        for a, b in zip(before, numpy_of(student.trainable_variables), strict=True):
            np.testing.assert_array_equal(a, b)
        students.append(numpy_of(student.non_trainable_variables))
    for a, b in zip(*students, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_attention_is_weighted_as_published():
    """The published code: the divergence over the number of classes, plus 250 times the attention."""
    synthesizer = ZSKT(generator((8, 8, 1), width=4), attention=[("block", "block")])
    distiller = DataFreeDistiller(network(0), network(1), synthesizer=synthesizer)
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    student = keras.models.clone_model(distiller.student)
    student.set_weights(distiller.student.get_weights())
    batch = kd.teachers.Batch(np.zeros((BATCH, 8, 8, 1), "float32"))
    images = distiller._draw(batch, keras.ops.convert_to_tensor(0))
    maps = []
    for model, training in ((distiller.teacher.model, False), (student, True)):
        features = keras.Model(model.input, [model.get_layer("block").output, model.output])
        (block, z) = numpy_of(features(images, training=training))
        a = (block**2).mean(-1).reshape(BATCH, -1)
        maps.append((a / np.linalg.norm(a, axis=-1, keepdims=True), log_softmax(z)))
    (a, log_p), (b, log_q) = maps
    divergence, attention = (np.exp(log_p) * (log_p - log_q)).mean(), 250 * ((a - b) ** 2).mean()
    logs = fitted(distiller, 1)
    assert logs["soft_targets"][0] == pytest.approx(3 * divergence, rel=1e-3)
    assert logs["attention_transfer_block"][0] == pytest.approx(3 * attention, rel=1e-3)
    assert logs["loss"][0] == pytest.approx(3 * (divergence + attention), rel=1e-3)  # the generator waits


def test_the_generator_that_is_built_has_the_published_end():
    synthesizer = ZSKT()
    DataFreeDistiller(network(0), network(1), synthesizer=synthesizer)
    last = synthesizer.generator.operations[-1]
    assert isinstance(last, L.BatchNormalization) and last.scale and last.center
    assert isinstance(synthesizer.generator.operations[-2], L.Conv2D)
    assert synthesizer.latent_size == 100
    bounded = generator((8, 8, 1)).operations
    assert not bounded[-1].scale and not isinstance(bounded[-2], L.Conv2D)
    in_range = ZSKT(value_range=(-1.0, 3.0))
    images = DataFreeDistiller(network(0), network(1), synthesizer=in_range).images(4)
    assert images.min() >= -1 and images.max() <= 3 and images.std() > 0


def test_a_saved_training_continues_within_a_round(tmp_path):
    network(0).save(tmp_path / "teacher.keras")

    def make():
        student = network(1)
        synthesizer = ZSKT(generator((8, 8, 1), width=4), student_steps=3, attention=[("block", "block")], beta=1.0)
        distiller = DataFreeDistiller(tmp_path / "teacher.keras", student, synthesizer=synthesizer)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("adam", loss=loss, synthesizer_optimizer=keras.optimizers.Adam(0.01))
        return distiller

    whole = make()
    fitted(whole, 4)
    half = make()
    fitted(half, 1)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert [term.name for term in loaded.terms] == [term.name for term in half.terms]
    fitted(loaded, 3)
    for a, b in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_half_precision_and_a_batch_of_two():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        synthesizer = ZSKT(generator((8, 8, 1), width=4), student_steps=2)
        distiller = DataFreeDistiller(network(0), network(1, norm=False), synthesizer=synthesizer)
    finally:
        keras.config.set_dtype_policy("float32")
    distiller.compile("adam", synthesizer_optimizer="adam")
    logs = fitted(distiller, 4, batch_size=2)
    assert np.isfinite([value for values in logs.values() for value in values]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student_steps": 0}, "student_steps"),
        ({"student_steps": 2.5}, "student_steps"),
        ({"beta": -1.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"attention": "block"}, "attention"),
        ({"attention": ["block"]}, "attention"),
        ({"attention": [("a", "b", "c")]}, "attention"),
        ({"attention": [("a", 1)]}, "attention"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ZSKT(**settings)


def test_bad_combinations():
    attention = ZSKT(attention=[("block", "block")])
    with pytest.raises(ConfigurationError, match="and so have the 'losses'"):
        DataFreeDistiller(network(0), network(1), synthesizer=attention, losses=[kd.losses.SoftTargets()])
    with pytest.raises(ConfigurationError, match="blok"):
        DataFreeDistiller(network(0), network(1), synthesizer=ZSKT(attention=[("blok", "block")]))
    single = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(1, "sigmoid")])
    with pytest.raises(ConfigurationError, match="classifier of exclusive classes"):
        DataFreeDistiller(single, network(1), synthesizer=ZSKT())
    several = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(3, "sigmoid")])
    with pytest.raises(ConfigurationError, match="classifier of exclusive classes"):
        DataFreeDistiller(several, network(1), synthesizer=DAFL())


def test_bad_optimizers():
    distiller = DataFreeDistiller(network(0), network(1), synthesizer=ZSKT())
    adam = keras.optimizers.Adam
    with pytest.raises(ConfigurationError, match="same images"):
        distiller.compile(adam(gradient_accumulation_steps=2))
    with pytest.raises(ConfigurationError, match="one step for 10"):
        distiller.compile("adam", synthesizer_optimizer=adam(gradient_accumulation_steps=2))
    used = adam()
    used.build(network(1).trainable_variables)
    with pytest.raises(ConfigurationError, match="used before"):
        distiller.compile("adam", synthesizer_optimizer=used)
    distiller.compile("adam", synthesizer_optimizer=adam(gradient_accumulation_steps=10))
