import keras
import numpy as np
import pytest

from keras_kd import models
from keras_kd.errors import ConfigurationError

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (1, 1, 1), (15, 9, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", models.names())
def test_every_model_gives_logits_for_any_small_image(name, shape):
    model = models.build(name, input_shape=shape, num_classes=7)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    logits = keras.ops.convert_to_numpy(model(x))
    assert logits.shape == (3, 7) and np.isfinite(logits).all()
    head = model.layers[-1]
    assert isinstance(head, keras.layers.Dense) and head.activation is keras.activations.linear


@pytest.mark.parametrize("name", models.names())
def test_models_can_be_saved(name, tmp_path):
    model = models.build(name, input_shape=(8, 8, 1), num_classes=10)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.ones((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_digits_pair_has_the_documented_sizes():
    # Counted by hand: kernels k*k*in*out, batch normalisation 4*out, Dense in*out + out.
    blocks = [(1, 8), (8, 12), (12, 16), (16, 24)]
    student = sum(9 * a * b + 4 * b for a, b in blocks) + 24 * 10 + 10
    conv = [(1, 32), *[(32, 32)] * 2, (32, 64), (64, 64), (64, 128), (128, 128)]
    shortcuts = [(32, 64), (64, 128)]
    teacher = sum(9 * a * b + 4 * b for a, b in conv) + sum(a * b + 4 * b for a, b in shortcuts) + 1290
    shape = {"input_shape": (8, 8, 1), "num_classes": 10}
    assert models.build("digits_student", **shape).count_params() == student == 6610
    assert models.build("digits_teacher", **shape).count_params() == teacher == 309418
    assert teacher / student >= 40


def test_student_is_made_of_fusable_blocks():
    names = [type(layer).__name__ for layer in models.digits_student((8, 8, 1), 10).layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"]
    assert names == ["InputLayer", *block * 4, "GlobalAveragePooling2D", "Dense"]


def test_settings_reach_the_model():
    model = models.build("digits_student", input_shape=(8, 8, 1), num_classes=10, widths=(4, 4))
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit_student"}, "Did you mean 'digits_student'"),
        ({"name": None}, "one of digits_student, digits_teacher"),
        ({"width": 3}, "got an unexpected keyword argument 'width'.*widths"),
        ({"input_shape": (8, 8)}, "height, width, channels"),
        ({"input_shape": (None, 8, 1)}, "height, width, channels"),
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": True}, "at least 2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        models.build(**({"name": "digits_student", "input_shape": (8, 8, 1), "num_classes": 10} | arguments))


def validation_accuracy(name, epochs, learning_rate):
    from keras_kd import data

    source = data.open_source("digits")
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=source.input_shape, num_classes=source.num_classes)
    steps = data.steps_per_epoch(source.train, 64)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    training = data.batches(source.train, 64, seed=0, epochs=epochs)
    model.fit(training, steps_per_epoch=steps, epochs=epochs, verbose=0, shuffle=False)
    return model.evaluate(data.evaluation_batches(source.validation, 359), verbose=0)[1]


def test_the_student_learns():
    assert validation_accuracy("digits_student", epochs=12, learning_rate=1e-2) > 0.9


@pytest.mark.long
def test_the_pair_learns_the_digits_well():
    """Three seeds gave 98.6 to 99.4% and 98.1 to 99.2%."""
    assert validation_accuracy("digits_teacher", epochs=30, learning_rate=3e-3) > 0.98
    assert validation_accuracy("digits_student", epochs=60, learning_rate=1e-2) > 0.97
