"""A user's module of model functions, which a recipe names as `example_models:NAME`."""

import keras
import numpy as np

from keras_kd.teachers import FunctionTeacher, StoredLogits

layers = keras.layers


def teacher(input_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(24, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(num_classes),
        ]
    )


def student(input_shape, num_classes, activation=None):
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(momentum=0.9),
            layers.Dropout(0.1),
            layers.Dense(num_classes, activation=activation),
        ]
    )


def softmax_student(**settings):
    return student(**settings, activation="softmax")


def other_student(input_shape, num_classes):
    model = student(input_shape, num_classes)
    model.layers[1].activation = keras.activations.tanh
    return model


def of_fixed_shape():
    return student((8, 8, 1), 10)


def of_another_shape(num_classes):
    return student((9, 8, 1), num_classes)


def with_another_class_count(input_shape):
    return student(input_shape, 11)


def with_two_outputs(input_shape, num_classes):
    image = keras.Input(input_shape)
    flat = layers.Flatten()(image)
    return keras.Model(image, [layers.Dense(num_classes)(flat), layers.Dense(num_classes)(flat)])


def with_an_unknown_end(input_shape, num_classes):
    model = student(input_shape, num_classes)
    return keras.Sequential([*model.layers, layers.Lambda(lambda x: x)])


def no_model(num_classes):
    return num_classes


def failing():
    return {}["depth"]


def asking_for_more(input_shape, num_classes, depth):
    return student(input_shape, num_classes)


not_a_function = 5


KEPT = {}


def the_same_each_time(input_shape, num_classes):
    return KEPT.setdefault("model", student(input_shape, num_classes))


def another_each_time(input_shape, num_classes):
    model = student(input_shape, num_classes)
    KEPT["calls"] = KEPT.get("calls", 0) + 1
    model.layers[1].kernel.assign_add(KEPT["calls"] * keras.ops.ones_like(model.layers[1].kernel))
    return model


def named_teacher(input_shape, num_classes, units=24):
    hidden = layers.Dense(units, activation="relu", name="hidden")
    return keras.Sequential([keras.Input(input_shape), layers.Flatten(), hidden, layers.Dense(num_classes)])


def named_student(input_shape, num_classes):
    return named_teacher(input_shape, num_classes, units=8)


def blind_student(input_shape, num_classes):
    """Sees nothing: its output does not depend on its input."""
    zeros = layers.Rescaling(0.0)
    return keras.Sequential([keras.Input(input_shape), zeros, layers.Flatten(), layers.Dense(num_classes)])


def sixteen_pixels(num_classes):
    """A teacher that is not a Keras model: the logits are pixels of the sixth row."""
    return FunctionTeacher(_sixth_row, num_classes=num_classes, fingerprint="the sixth row")


def _sixth_row(x):
    return x[:, 5, :10, 0]


def stored(num_classes):
    return StoredLogits({"logits": np.eye(num_classes).repeat(24, axis=0)}, outputs="logits")


def residual_student(input_shape, num_classes):
    """With a shared layer, a nested model and a sum, whose layers are not in the order of a chain."""
    image = keras.Input(input_shape)
    block = keras.Sequential([keras.Input((8, 8, 6)), layers.Conv2D(6, 3, padding="same"), layers.BatchNormalization()])
    stem = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(image)
    other = layers.Conv2D(6, 1, name="other")(image)
    hidden = layers.Add(name="hidden")([block(stem), other, layers.Dense(6)(stem)])
    deep = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(block(hidden))
    return keras.Model(image, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(deep)))
