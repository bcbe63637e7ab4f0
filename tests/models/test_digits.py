import keras
import pytest

from keras_kd import models


def test_digits_pair_has_the_documented_sizes():
    # Counted by hand: kernels k*k*in*out, batch normalization 4*out, Dense in*out + out.
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


def validation_accuracy(name, epochs, learning_rate):
    from keras_kd import data

    source = data.open_source("digits")
    keras.utils.set_random_seed(0)
    model = models.build(name, input_shape=source.input_shape, num_classes=source.num_classes)
    steps = data.steps_per_epoch(source.train, 64)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    model.fit(data.Pipeline(source.train, batch_size=64), epochs=epochs, verbose=0)
    return model.evaluate(data.evaluation_batches(source.validation, 359), verbose=0)[1]


def test_the_student_learns():
    assert validation_accuracy("digits_student", epochs=12, learning_rate=1e-2) > 0.9


@pytest.mark.long
def test_the_pair_learns_the_digits_well():
    """Three seeds gave 98.6 to 99.4% and 98.1 to 99.2%."""
    assert validation_accuracy("digits_teacher", epochs=30, learning_rate=3e-3) > 0.98
    assert validation_accuracy("digits_student", epochs=60, learning_rate=1e-2) > 0.97
