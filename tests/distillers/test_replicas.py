"""Two replicas take the same step as one."""

import subprocess
import sys

import pytest

CODE = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
import keras_kd as kd

L = keras.layers
SPARSE = keras.losses.SparseCategoricalCrossentropy
rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)

{build}

def run(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        distiller = build()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    history = distiller.fit(data, epochs=2, shuffle=False, verbose=0).history
    left = [name for layer in distiller.student.layers for name in vars(layer) if name == "call"]
    assert not left, "the taps are still there"
    return distiller.get_weights(), history

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
(one, log_one), (two, log_two) = run(tf.distribute.get_strategy()), run(strategy)
print("weights", max(np.abs(a - b).max() for a, b in zip(one, two)))
for name in log_one:
    print(name, np.abs(np.array(log_one[name]) - np.array(log_two[name])).max())
"""

OWN_LOSS = """
def build():
    teacher, student = (
        keras.Sequential([keras.Input((4,)), L.Dense(width, "relu"), L.Dense(3, kernel_regularizer="l2")])
        for width in (16, 4)
    )
    losses = [kd.losses.SoftTargets(), lambda t, s: keras.ops.mean(keras.ops.square(t - s))]
    distiller = kd.Distiller(teacher, student, alpha=kd.schedules.Linear(0.9, 0.1, steps=8), losses=losses)
    distiller.compile(keras.optimizers.SGD(0.1), loss=SPARSE(from_logits=True))
    return distiller
"""

# 2 labels in each half batch: Keras takes its mean over the labels per replica
UNLABELED = """
y[np.arange(64) % 4 != 0] = -1

def build():
    teacher, student = (keras.Sequential([keras.Input((4,)), L.Dense(w, "relu"), L.Dense(3)]) for w in (16, 4))
    distiller = kd.Distiller(teacher, student, alpha=kd.schedules.Linear(0.9, 0.1, steps=8))
    loss = SPARSE(from_logits=True, ignore_class=-1)
    distiller.compile(keras.optimizers.SGD(0.1), loss=loss, weighted_metrics=["accuracy"])
    return distiller
"""

# synchronized normalization interleaves the replicas in the middle of the forward pass
TAPS = """
def model(width):
    return keras.Sequential([
        keras.Input((4,)), L.Dense(width, name="dense"), L.BatchNormalization(synchronized=True),
        L.Activation("relu", name="relu"), L.Dense(3, activation="softmax", name="head")])

def build():
    hint = kd.losses.Hint(teacher="relu", student="relu", projector=L.Dense(16))
    distiller = kd.Distiller(model(16), model(4), losses=[kd.losses.SoftTargets(), hint])
    distiller.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    return distiller
"""


# the attack of each replica is on its own half of the batch
ROBUST = """
x = (x - x.min()) / (x.max() - x.min())

def model(width):
    return keras.Sequential([keras.Input((4,)), L.Dense(width, "gelu"), L.Dense(3)])

def build():
    adversary = kd.adversaries.PGD(0.1, steps=3, random_start=False)
    distiller = kd.Distiller(model(16), model(4), adversary=adversary)
    distiller.compile(keras.optimizers.SGD(0.1), loss=SPARSE(from_logits=True), metrics=["accuracy"])
    return distiller
"""

PEERS = """
def build():
    peers = [keras.Sequential([keras.Input((4,)), L.Dense(w, "gelu"), L.Dense(3)], name=f"peer_{w}") for w in (8, 4)]
    distiller = kd.MutualDistiller(peers)
    optimizers = [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.01)]
    distiller.compile(optimizers, loss=SPARSE(from_logits=True), metrics=["accuracy"])
    return distiller
"""

# the average of the weights is one variable for both replicas
AVERAGED = """
def build():
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, "gelu"), L.Dense(3)])
    distiller = kd.SelfDistiller(model, teacher={teacher!r})
    distiller.compile(keras.optimizers.SGD(0.1), loss=SPARSE(from_logits=True), metrics=["accuracy"])
    return distiller
"""
EMA, PREVIOUS = (AVERAGED.format(teacher=teacher) for teacher in ("ema", "previous_epoch"))


@pytest.mark.parametrize(
    ("build", "logged"),
    [
        (OWN_LOSS, {"loss", "student_loss", "distillation_loss", "alpha"}),
        (UNLABELED, {"loss", "student_loss", "accuracy", "alpha"}),
        (TAPS, {"loss", "student_loss", "hint_relu"}),
        (ROBUST, {"loss", "student_loss", "soft_targets_adversarial", "outside_value_range"}),
        (PEERS, {"loss", "peer_8_loss", "peer_4_accuracy", "alpha"}),
        (EMA, {"loss", "soft_targets", "alpha"}),
        (PREVIOUS, {"loss", "soft_targets", "alpha"}),
    ],
    ids=["own loss", "unlabeled", "taps", "robust", "peers", "moving average", "previous epoch"],
)
def test_two_mirrored_replicas_agree_with_one(build, logged, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", CODE.replace("{build}", build)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    differences = {name: float(value) for name, value in map(str.split, result.stdout.splitlines())}
    assert differences.pop("weights") < (1e-5 if build is TAPS else 1e-6)
    assert differences.keys() >= logged
    assert max(differences.values()) < 1e-5, differences


ALONE = """
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    image = keras.Input((8, 8, 1))
    teacher, student = (keras.Model(image, L.Dense(3)(L.Flatten()(image))) for _ in range(2))
    distiller = kd.DataFreeDistiller(teacher, student, synthesizer=kd.synthesis.DAFL())
    distiller.compile("adam")
try:
    distiller.fit(epochs=1, steps_per_epoch=1, batch_size=4, verbose=0)
except kd.errors.ConfigurationError as error:
    print(error)
"""


def test_replicas_that_would_make_the_same_images_are_refused(tmp_path):
    setup = CODE.partition("rng = ")[0]
    command = [sys.executable, "-W", "ignore", "-c", setup + ALONE]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Received: a strategy with 2 replicas. Expected: one device." in result.stdout, result.stderr[-3000:]
