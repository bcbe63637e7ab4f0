"""Values and gradients of the losses with decompositions, sorting or convolutions are the same on JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

NAMES = ("channel_wise", "singular_value", "prime_aware", "affinity", "knowledge_adaptation", "self_supervised")
RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import keras, numpy as np
import loss_table as table
from keras_kd.losses import singular_vectors

def slope(function, point):
    if keras.backend.backend() == "jax":
        import jax
        return jax.value_and_grad(function)(point)
    import tensorflow as tf
    point = tf.nest.map_structure(tf.Variable, point)
    with tf.GradientTape() as tape:
        value = function(point)
    return value, tape.gradient(value, point)

def numbers(tensors):
    return [np.asarray(x, "float64").ravel().tolist() for x in keras.tree.flatten(tensors)]

results, rng = {}, np.random.default_rng(0)
for name, row in table.ROWS.items():
    if not name.startswith(tuple(sys.argv[2].split(","))):
        continue
    loss, teacher, student = row.make(), table.draw(row.teacher), table.draw(row.student, seed=1)
    table.value(loss, row, teacher, student)  # builds it
    loss.set_weights([0.5 * rng.normal(size=w.shape) ** 2 + 0.1 for w in loss.get_weights()])
    results[name] = numbers(slope(lambda x: loss(teacher, x, context=table.context(row)), student))
for name, features in {
    "ties": np.eye(4), "pairs": np.diag([2.0, 2.0, 1.0, 1.0]), "zeros": np.zeros((4, 4)), "wide": np.eye(4)[:2]
}.items():
    weights = np.arange(1.0, 5.0).astype("float32")[None, :, None]
    function = lambda x: keras.ops.sum(keras.ops.square(singular_vectors(x, 2)[1]) * weights)
    results[name] = numbers(slope(function, features[None].astype("float32"))[1])
print(json.dumps(results))
"""


def run(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(Path(__file__).parent), ",".join(NAMES)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_values_and_gradients_are_those_of_tensorflow():
    jax, tensorflow = run("jax"), run("tensorflow")
    assert jax.keys() == tensorflow.keys() and all(any(key.startswith(name) for key in jax) for name in NAMES)
    for name, parts in jax.items():
        for mine, theirs in zip(parts, tensorflow[name], strict=True):
            assert np.isfinite(mine).all() and np.isfinite(theirs).all(), name
            if name not in ("ties", "pairs", "zeros", "wide"):  # equal singular values have any basis
                scale = max(np.abs(theirs).max(), 1e-3)
                np.testing.assert_allclose(np.divide(mine, scale), np.divide(theirs, scale), atol=2e-3, err_msg=name)
