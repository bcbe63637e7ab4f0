"""Tiny models for each task, as in a user's module."""

import keras

layers = keras.layers


def table_teacher(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(16, activation="relu"), layers.Dense(num_classes)])


def table_student(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(6, activation="relu"), layers.Dense(num_classes)])


def sigmoid_student(input_shape, num_classes):
    hidden = [keras.Input(input_shape), layers.Dense(6, activation="relu")]
    return keras.Sequential([*hidden, layers.Dense(num_classes, activation="sigmoid")])


def _pixels(input_shape, num_classes, filters):
    convolution = layers.Conv2D(filters, 3, padding="same", activation="relu")
    return keras.Sequential([keras.Input(input_shape), convolution, layers.Conv2D(num_classes, 1)])


def pixel_teacher(input_shape, num_classes, label_shape):
    assert label_shape == input_shape[:2]
    return _pixels(input_shape, num_classes, 8)


def pixel_student(input_shape, num_classes):
    return _pixels(input_shape, num_classes, 3)


def _tokens(input_shape, num_classes, vocabulary_size, units):
    ids = keras.Input(input_shape, dtype="int32")
    x = layers.Embedding(vocabulary_size, units)(ids)
    return keras.Model(ids, layers.Dense(num_classes)(layers.Dense(units, activation="relu")(x)))


def token_teacher(input_shape, num_classes, vocabulary_size):
    return _tokens(input_shape, num_classes, vocabulary_size, 12)


def token_student(input_shape, num_classes, vocabulary_size):
    return _tokens(input_shape, num_classes, vocabulary_size, 4)


def image_student(input_shape, num_classes):
    return keras.Sequential([keras.Input(input_shape), layers.Flatten(), layers.Dense(num_classes)])
