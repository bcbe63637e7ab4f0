"""Models that see each image in four rotations."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.features import with_rotations
from keras_kd.losses import SelfSupervisedKD, SoftTargets, Weighted

L = keras.layers


def classifier(width=4, activation=None, size=6):
    inputs = keras.Input((size, 6, 2))
    x = L.Conv2D(width, 3, activation="relu", name="conv")(inputs)
    x = L.BatchNormalization(name="norm")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dense(width, activation="relu", name="features")(x)
    return keras.Model(inputs, L.Dense(3, activation=activation, name="head")(x), name="classifier")


def images(count=5):
    return np.random.default_rng(0).normal(size=(count, 6, 6, 2)).astype("float32")


def test_views_are_those_of_rotated_images_and_the_output_that_of_the_image():
    model, x = classifier(), images()
    rotated = with_rotations(model, "features")
    inner = keras.Model(model.inputs[0], [model.get_layer("features").output, model.output])
    views, logits = keras.Model(
        rotated.inputs[0], [rotated.get_layer(name).output for name in ("views", "logits_of_views")]
    )(x)
    for turns in range(4):
        features, expected = inner(np.rot90(x, turns, axes=(1, 2)))
        np.testing.assert_allclose(views[:, turns], features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits[:, turns], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rotated(x), model(x), rtol=1e-5, atol=1e-6)


def test_training_it_trains_the_model_itself():
    teacher, student = classifier(5), classifier(4)
    views = with_rotations(student, "features")
    names = {"teacher": "logits_of_views", "student": "logits_of_views"}
    distiller = kd.Distiller(
        with_rotations(teacher, "features"),
        views,
        losses=[
            Weighted(SelfSupervisedKD(teacher="views", student="views"), 10.0),
            Weighted(SoftTargets(4.0, **names), 3.6),
        ],
    )
    distiller.compile(keras.optimizers.SGD(0.05), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = student.get_weights()
    x, y = images(8), np.arange(8) % 3
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(logs["loss"]) and logs["self_supervised_kd_views"] > 0
    assert all((one != other).any() for one, other in zip(before, student.get_weights(), strict=True))
    np.testing.assert_allclose(views.predict(x, verbose=0), student.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    assert distiller.evaluate(x, y, verbose=0) is not None


def test_it_is_saved_and_loaded(tmp_path):
    rotated = with_rotations(classifier(), "features")
    rotated.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images()), rotated(images()), rtol=1e-6)


def around():
    inputs = keras.Input((6, 6, 2))
    x = L.Dense(4, name="features")(L.Flatten(name="flat")(inputs))
    return keras.Model(inputs, L.Dense(3)(L.Concatenate()([x, L.Flatten()(inputs)])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_rotations("model", "features"), "a str.*Functional or Sequential"),
        (lambda: with_rotations(classifier(), "pool"), "'pool'.*no layer of that name"),
        (lambda: with_rotations(classifier(), "conv"), r"'conv'.*\(None, 4, 4, 4\)"),
        (lambda: with_rotations(classifier(activation="softmax"), "features"), "without the softmax"),
        (lambda: with_rotations(classifier(size=5), "features"), r"\(None, 5, 6, 2\)"),
        (lambda: with_rotations(keras.Sequential([L.Dense(3)]), "dense"), "Functional or Sequential"),
        (lambda: with_rotations(around(), "features"), "does not depend on 'features' alone"),
    ],
)
def test_other_models_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
