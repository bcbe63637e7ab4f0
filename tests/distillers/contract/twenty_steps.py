"""Trains for twenty steps on the current backend: `python twenty_steps.py FOLDER`, called by `test_on_jax.py`.

FOLDER holds the initial weights and the cache of teacher outputs; the trained weights are written there.
"""

import json
import os
import sys
from pathlib import Path

import every_loss
import keras
import numpy as np

import keras_kd as kd

L = keras.layers
BATCH, EPOCHS = 16, 5  # of 64 examples: 20 steps


def model(width):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(width, 3, strides=2, use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Flatten(),
            L.Dense(10),
        ]
    )


def arrays():
    rng = np.random.default_rng(0)
    return rng.random((64, 8, 8, 1), "float32"), rng.integers(0, 10, 64)


def pipeline(folder):
    """The examples of an .npz file, augmented."""
    source = kd.data.open_source(f"npz:{folder / 'data.npz'}")
    return kd.data.Pipeline(source, augment=[kd.data.PadAndCrop(1), kd.data.Flip()], batch_size=BATCH, seed=1)


def write_inputs(folder):
    """Writes the files that both backends start from."""
    keras.utils.set_random_seed(0)
    x, y = arrays()
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_val=x, y_val=y, x_test=x, y_test=y)
    for name, width in (("teacher", 8), ("student", 4)):
        weights = model(width).get_weights()
        if name == "teacher":  # the statistics read in inference mode
            weights = [w + 0.1 * np.random.default_rng(1).random(w.shape, "float32") for w in weights]
        np.savez(folder / f"{name}.npz", *weights)
    every_loss.write_weights(folder)


def start(folder, name, width):
    made = model(width)
    with np.load(folder / f"{name}.npz") as weights:
        made.set_weights(list(weights.values()))
    return made


def train(folder, data, *, teacher=None, cached=False):
    teacher, student = teacher or start(folder, "teacher", 8), start(folder, "student", 4)
    if cached:
        teacher = kd.teachers.CachedTeacher.build(teacher, data, folder / "cache", views=2, progress=False)
        data = data.with_teacher(teacher)
    distiller = kd.Distiller(teacher, student, alpha=0.6, temperature=3.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss=loss, metrics=["accuracy"])
    settings = {} if isinstance(data, kd.data.Pipeline) else {"batch_size": BATCH, "shuffle": False}
    arguments = [data] if isinstance(data, kd.data.Pipeline) else data
    history = distiller.fit(*arguments, epochs=EPOCHS, verbose=0, **settings).history
    return student, history


def run(folder):
    """Three trainings: on arrays, through a pipeline, and with a cached teacher."""
    students, histories = {}, {}
    for name, data in (("arrays", arrays()), ("pipeline", pipeline(folder)), ("cached", pipeline(folder))):
        students[name], histories[name] = train(folder, data, cached=name == "cached")
    return students, histories


def run_on_devices(folder):
    """Repeats the training on arrays, with the batches split across the devices; the teacher exists before."""
    teacher = start(folder, "teacher", 8)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        student, _ = train(folder, arrays(), teacher=teacher)
        assert all(len(variable.value.devices()) == 2 for variable in teacher.variables), "copied at every step"
        return student
    finally:
        keras.distribution.set_distribution(None)


def main(folder):
    students, histories = run(folder)
    weights, logs = every_loss.run(folder)
    for name, trained in weights.items():
        np.savez(folder / f"every_loss_{name}_trained.npz", *trained)
    loaded_tensorflow = "tensorflow" in sys.modules
    devices = keras.distribution.list_devices()
    results = {
        "histories": histories,
        "every_loss": logs,
        "loaded_tensorflow": loaded_tensorflow,
        "num_devices": len(devices),
    }
    (folder / "results.json").write_text(json.dumps(results))
    x, _ = arrays()
    np.save(folder / "predicted.npy", students["arrays"].predict(x, verbose=0))
    students["arrays"].save(folder / "student.keras")
    if len(devices) > 1:
        students["devices"] = run_on_devices(folder)
    for name, student in students.items():
        np.savez(folder / f"{name}_trained.npz", *student.get_weights())


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main(Path(sys.argv[1]))
