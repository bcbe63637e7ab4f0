"""Two replicas take the step that one takes."""

import subprocess
import sys

CODE = """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
import keras_kd as kd

def run(strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        teacher, student = (
            keras.Sequential([
                keras.Input((4,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3, kernel_regularizer="l2")
            ])
            for width in (16, 4)
        )
        distiller = kd.Distiller(teacher, student, alpha=kd.schedules.Linear(0.9, 0.1, steps=8), losses=[
            kd.losses.SoftTargets(), lambda t, s: keras.ops.mean(keras.ops.square(t - s))])
        distiller.compile(keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 3, 64)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    history = distiller.fit(data, epochs=2, shuffle=False, verbose=0).history
    return student.get_weights(), {k: v for k, v in history.items()}

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
(one, log_one), (two, log_two) = run(tf.distribute.get_strategy()), run(strategy)
print(max(np.abs(a - b).max() for a, b in zip(one, two)))
for name in log_one:
    print(name, np.abs(np.array(log_one[name]) - np.array(log_two[name])).max())
"""


def test_two_mirrored_replicas_agree_with_one(tmp_path):
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    first, *logs = result.stdout.split("\n")[:-1]
    assert float(first) < 1e-6
    differences = {line.split()[0]: float(line.split()[1]) for line in logs}
    assert set(differences) >= {"loss", "student_loss", "distillation_loss", "alpha"}
    assert max(differences.values()) < 1e-5, differences
