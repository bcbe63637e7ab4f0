"""A training on small images, then on large ones: two fits of one compiled model."""

import keras
import numpy as np

import keras_kd as kd

RNG = np.random.default_rng(0)
IMAGES = RNG.random((24, 8, 8, 1)).astype("float32")
LABELS = RNG.integers(0, 3, 24)
SIZES = (4, 8)


def resized(size):
    """Images of another size, as a user may get them from `keras.ops.image.resize`: here, means of blocks."""
    blocks = IMAGES.shape[1] // size
    return IMAGES.reshape(len(IMAGES), size, blocks, size, blocks, 1).mean((2, 4))


def make_model(width, seed):
    layers = [keras.layers.Conv2D(width, 3, padding="same", activation="relu"), keras.layers.BatchNormalization()]
    model = keras.Sequential(
        [keras.Input((None, None, 1)), *layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    generator = np.random.default_rng(seed)
    model.set_weights([np.abs(generator.normal(size=weight.shape)) for weight in model.get_weights()])
    return model


def make_distiller():
    distiller = kd.Distiller(make_model(8, seed=1), make_model(4, seed=0), alpha=kd.schedules.Linear(1.0, 0.0, 12))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss=loss)
    return distiller


def pipelines():
    """Two epochs on each size; ids, order and labels are the same."""
    return [kd.data.Pipeline((resized(size), LABELS), batch_size=8) for size in SIZES]


def trained():
    """The losses by epoch, the optimizer's steps, and the trained weights."""
    distiller, losses = make_distiller(), []
    for stage, pipeline in enumerate(pipelines()):
        first = 2 * stage
        history = distiller.fit(pipeline.from_epoch(first), initial_epoch=first, epochs=first + 2, verbose=0)
        losses += history.history["loss"]
    weights = [weight.tolist() for weight in distiller.student.get_weights()]
    return losses, int(distiller.optimizer.iterations), weights


def step_by_step():
    """The same training in one custom loop over all batches of both sizes."""
    distiller = make_distiller()
    for stage, pipeline in enumerate(pipelines()):
        for epoch in (2 * stage, 2 * stage + 1):
            for x, y in pipeline.epoch(epoch):
                distiller.train_on_batch(x, y)
    return [weight.tolist() for weight in distiller.student.get_weights()]
