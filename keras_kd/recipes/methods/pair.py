"""A student and the generator that made its images, as one model in one file."""

from __future__ import annotations

import keras

IMAGES, STUDENT = "images", "student"


def pair_of(generator: keras.Model, student: keras.Model) -> keras.Model:
    """One model with the layers `"images"` and `"student"`, to save two in one file."""
    models = {IMAGES: generator, STUDENT: student}
    inputs = [keras.Input(model.input_shape[1:]) for model in models.values()]
    parts = [_renamed(model, name) for name, model in models.items()]
    return keras.Model(inputs, [part(one) for part, one in zip(parts, inputs, strict=True)], name="pair")


def _renamed(model: keras.Model, name: str) -> keras.Model:
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(inputs), name=name)


def part_of(pair: keras.Model, name: str) -> keras.Model:
    """The generator (`"images"`) or the student (`"student"`) of `pair_of`, as it was built."""
    return next(layer for layer in pair.get_layer(name).layers if isinstance(layer, keras.Model))
