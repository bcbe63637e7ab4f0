"""Data-free distillation on every backend; `test_on_jax.py` runs this file again on JAX."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.regimes import DataFreeDistiller
from keras_kd.synthesis import DAFL, DeepInversion, generator

L = keras.layers


@pytest.fixture(scope="module")
def images():
    """Three kinds of bars, `[n, 8, 8, 1]`, and which kind each is."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    x = rng.normal(0, 0.2, (240, 8, 8, 1)).astype("float32")
    for index, kind in enumerate(y):
        at = rng.integers(1, 7)
        if kind != 1:
            x[index, at, :, 0] += 2
        if kind != 0:
            x[index, :, at, 0] += 2
    return x, y


def network(width=8, norm=True, name=None, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(width, 3, padding="same", use_bias=not norm, name="conv")(inputs)
    x = L.BatchNormalization(momentum=0.9, name="norm")(x) if norm else x
    x = L.GlobalMaxPooling2D(name="pool")(L.ReLU(name="relu")(x))
    return keras.Model(inputs, L.Dense(3, name="head")(L.Dense(16, "relu")(x)), name=name)


@pytest.fixture(scope="module")
def teacher(images):
    model = network(16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss=loss, metrics=["accuracy"])
    model.fit(*images, batch_size=48, epochs=12, verbose=0)
    assert model.evaluate(*images, verbose=0)[1] > 0.95
    return model


def compiled(distiller):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss=loss, metrics=["accuracy"], synthesizer_optimizer=keras.optimizers.Adam(0.01))
    return distiller


def test_generator_and_student_are_trained_and_the_teacher_is_not(teacher, images):
    before = teacher.get_weights()
    distiller = compiled(DataFreeDistiller(teacher, network(4, seed=1), synthesizer=DAFL(features="pool")))
    trained = {id(variable) for variable in distiller.trainable_variables}
    assert {id(one) for one in distiller.generator.trainable_variables} <= trained
    start = [keras.ops.convert_to_numpy(one) for one in distiller.trainable_variables]
    history = distiller.fit(epochs=2, steps_per_epoch=3, batch_size=16, validation_data=images, verbose=0).history
    assert {"one_hot", "entropy", "activation", "soft_targets", "val_accuracy", "loss"} <= set(history)
    total = sum(history[name][-1] for name in ("one_hot", "entropy", "activation", "soft_targets"))
    assert history["loss"][-1] == pytest.approx(total, rel=1e-4)
    pairs = zip(start, distiller.trainable_variables, strict=True)
    moved = [np.abs(keras.ops.convert_to_numpy(after) - before).max() for before, after in pairs]
    assert min(moved) > 0
    for a, b in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert distiller.images(5).shape == (5, 8, 8, 1)


def test_the_losses_are_those_of_the_paper(teacher):
    """One step: the logs equal float64 NumPy on the same images."""
    distiller = compiled(DataFreeDistiller(teacher, network(4, seed=1), synthesizer=DAFL(features="pool")))
    student = keras.models.clone_model(distiller.student)
    student.set_weights(distiller.student.get_weights())
    images = distiller._draw(kd.teachers.Batch(np.zeros((16, 8, 8, 1), "float32")), keras.ops.convert_to_tensor(0))
    features = keras.Model(teacher.input, teacher.get_layer("pool").output)(images, training=False)
    z, s = (
        np.asarray(keras.ops.convert_to_numpy(one), "float64")
        for one in (teacher(images, training=False), student(images, training=True))
    )
    features = np.asarray(keras.ops.convert_to_numpy(features), "float64")
    logs = distiller.fit(epochs=1, steps_per_epoch=1, batch_size=16, verbose=0).history
    p, q = (np.exp(one - one.max(-1, keepdims=True)) for one in (z, s))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    expected = {
        "one_hot": -np.log(p.max(-1)).mean(),
        "activation": -0.1 * np.abs(features).mean(),
        "entropy": 5 * (p.mean(0) * np.log(p.mean(0))).sum(),
        "soft_targets": (p * np.log(p / q)).sum(-1).mean(),
    }
    for name, value in expected.items():
        assert logs[name][0] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def test_the_student_does_not_train_the_generator(teacher):
    """With all weights of the synthesizer 0, the generator's weights stay as they are."""
    nothing = DAFL(one_hot=0.0, activation=0.0, entropy=0.0)
    distiller = DataFreeDistiller(teacher, network(4, seed=1), synthesizer=nothing)
    distiller.compile("sgd", synthesizer_optimizer="sgd")
    before = [keras.ops.convert_to_numpy(one) for one in distiller.generator.trainable_variables]
    distiller.fit(epochs=1, steps_per_epoch=2, batch_size=16, verbose=0)
    for a, b in zip(before, distiller.generator.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))


def test_a_saved_training_continues(teacher, tmp_path):
    teacher.save(tmp_path / "teacher.keras")

    def make():
        keras.utils.set_random_seed(3)
        synthesizer = DAFL(features="pool")
        return compiled(DataFreeDistiller(tmp_path / "teacher.keras", network(4, seed=1), synthesizer=synthesizer))

    settings = {"epochs": 1, "steps_per_epoch": 3, "batch_size": 16, "verbose": 0}
    whole = make()
    whole.fit(**settings)
    whole.fit(**settings)
    half = make()
    half.fit(**settings)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    loaded.fit(**settings)
    for a, b in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda teacher: DAFL(generator((8, 12, 1))), "does not make the teacher's inputs"),
        (lambda teacher: DAFL(generator((8, 8, 3))), "does not make the teacher's inputs"),
        (lambda teacher: DAFL(network()), "does not make the teacher's inputs"),
        (lambda teacher: DAFL(features="pol"), "pool"),
        (lambda teacher: DAFL(one_hot=-1.0), "one_hot"),
    ],
)
def test_bad_synthesizers(teacher, make, message):
    with pytest.raises(ConfigurationError, match=message):
        DataFreeDistiller(teacher, network(4), synthesizer=make(teacher))


def test_bad_models_and_calls(teacher, images):
    other = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(3)])
    with pytest.raises(ConfigurationError, match="same, fixed shape"):
        DataFreeDistiller(teacher, other, synthesizer=DAFL())
    with pytest.raises(ConfigurationError, match="multiples of 4"):
        generator((10, 10, 1))
    distiller = compiled(DataFreeDistiller(teacher, network(4), synthesizer=DAFL()))
    with pytest.raises(ConfigurationError, match="its own images"):
        distiller.fit(images[0])
    with pytest.raises(ConfigurationError, match="steps_per_epoch"):
        distiller.fit(epochs=1)


# DeepInversion


def test_inverted_images_are_recognized_and_have_the_stored_statistics(teacher):
    inversion = DeepInversion(teacher, steps=150, learning_rate=0.1, batch_norm=1.0, batch_size=30)
    images, labels = inversion.images(60, progress=False)
    assert images.shape == (60, 8, 8, 1) and images.dtype == np.float32
    assert np.bincount(labels).tolist() == [20, 20, 20]
    noise = np.random.default_rng(0).normal(size=images.shape).astype("float32")
    is_right = teacher.predict(images, verbose=0).argmax(-1) == labels
    assert is_right.mean() > 0.9
    entering = keras.Model(teacher.input, teacher.get_layer("norm").input)
    norm = teacher.get_layer("norm")

    def distance(x):
        values = entering.predict(x, verbose=0)
        mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(one)) for one in (norm.moving_mean, norm.moving_variance)
        )
        return np.linalg.norm(values.mean((0, 1, 2)) - mean) + np.linalg.norm(values.var((0, 1, 2)) - variance)

    assert distance(images) < 0.5 * distance(noise)


def test_the_same_seed_gives_the_same_images(teacher):
    inversion = DeepInversion(teacher, steps=5, batch_size=4, value_range=(0.0, 1.0))
    one, labels = inversion.images(6, labels=[0, 1, 2, 2, 1, 0], seed=1, progress=False)
    two, _ = inversion.images(6, labels=[0, 1, 2, 2, 1, 0], seed=1, progress=False)
    other, _ = inversion.images(6, labels=[0, 1, 2, 2, 1, 0], seed=2, progress=False)
    np.testing.assert_array_equal(one, two)
    assert labels.tolist() == [0, 1, 2, 2, 1, 0] and np.abs(one - other).max() > 0.1
    assert one.min() >= 0 and one.max() <= 1


def test_a_step_is_that_of_adam(teacher):
    """The first step of Adam moves each pixel by the learning rate, against the sign of its gradient."""
    inversion = DeepInversion(teacher, steps=1, learning_rate=0.01, shift=0, batch_size=4)
    images, labels = inversion.images(4, labels=[0, 1, 2, 0], progress=False)
    start = np.random.default_rng([0, 0]).normal(size=(4, 8, 8, 1)).astype("float32")
    one_hot = np.eye(3, dtype="float32")[labels]
    up, down = (
        float(inversion.loss(keras.ops.convert_to_tensor(start + sign * (images - start)), one_hot)) for sign in (1, -1)
    )
    np.testing.assert_allclose(np.abs(images - start), 0.01, rtol=1e-2)
    assert up < float(inversion.loss(keras.ops.convert_to_tensor(start), one_hot)) < down


def test_a_competition_finds_images_that_the_student_gets_wrong(teacher):
    student = network(4, seed=7)
    settings = {"steps": 60, "batch_norm": 1.0, "batch_size": 30}
    values = []
    for competition in (0.0, 10.0):
        inversion = DeepInversion(teacher, student=student, competition=competition, **settings)
        images, _ = inversion.images(30, progress=False)
        agreed = kd.synthesis.agreement(teacher(images), student(images))
        values.append(float(keras.ops.mean(agreed)))
    assert values[1] < values[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"batch_norm": -1}, "batch_norm"),
        ({"competition": 1.0}, "needs a student"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_bad_settings_of_deep_inversion(teacher, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        DeepInversion(teacher, **settings)


def test_bad_teachers_and_labels_of_deep_inversion(teacher):
    with pytest.raises(ConfigurationError, match="no batch normalization"):
        DeepInversion(network(norm=False))
    assert DeepInversion(network(norm=False), batch_norm=0.0, steps=1, batch_size=2).images(1, progress=False)[0].shape
    with pytest.raises(ConfigurationError, match="images of a fixed size"):
        DeepInversion(keras.Sequential([keras.Input((4,)), L.Dense(3)]))
    for labels in ([0, 1], [0, 1, 3], [0.0, 1.0, 2.0], [-1, 0, 1]):
        with pytest.raises(ConfigurationError, match="labels"):
            DeepInversion(teacher, steps=1).images(3, labels=labels, progress=False)
