"""Clustering of whole models: applied, trained, stripped, saved, distilled."""

import keras
import numpy as np
import pytest
from compressible import MODELS
from keras import ops

import keras_kd as kd
from keras_kd.compression import Clustering, Pruning, chain, strip
from keras_kd.compression.clustering import starts
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.errors import ConfigurationError

layers = keras.layers
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "weight decay": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "moving average": lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
}


def compiled(model, optimizer=None):
    """Ready to train; on TensorFlow mostly eagerly, since a graph takes longer to trace than these few steps."""
    eager = keras.backend.backend() == "tensorflow" and model.name != "sequential"
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.Adam(1e-2)
    model.compile(optimizer, loss=loss, run_eagerly=eager, jit_compile=False)
    return model


def predicted(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def kernels(model):
    return {w.path: ops.convert_to_numpy(w) for w in model.weights if w.name.endswith(("kernel", "embeddings"))}


def num_values(model):
    return {path: len(np.unique(value)) for path, value in kernels(model).items()}


def dense(*units, inputs=8, dtype=None):
    hidden = [layers.Dense(n, "relu", dtype=dtype) for n in units[:-1]]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(units[-1], dtype=dtype)])


def sparse_dense(*units):
    model, rng = dense(*units), np.random.default_rng(0)
    for layer in model.layers:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * (rng.random(kernel.shape) > 0.6), bias])
    return model


def centroids(model):
    return [w for w in model.trainable_weights if w.path.endswith("centroids")]


def test_a_whole_life(model, data, tmp_path):
    """Apply, fit, save, load, strip: the same outputs at each turn, and no more values than clusters."""
    x, y = data(model)
    before = [np.array(weight) for weight in model.get_weights()]
    cluster = Clustering(6)
    shared = cluster.apply(model, verbose=False)
    first = [ops.convert_to_numpy(weight) for weight in centroids(shared)]
    assert len(first) == len(kernels(model))

    compiled(shared).fit(x, y, batch_size=16, verbose=0)
    assert all((ops.convert_to_numpy(b) != a).any() for a, b in zip(first, centroids(shared), strict=True))
    outputs = predicted(shared, x)
    small = cluster.strip(shared)
    np.testing.assert_array_equal(predicted(small, x), outputs)
    assert max(num_values(small).values()) <= 6 and min(num_values(small).values()) > 2
    assert [w.shape for w in small.weights] == [w.shape for w in model.weights]

    shared.save(tmp_path / "shared.keras")
    loaded = keras.models.load_model(tmp_path / "shared.keras")
    np.testing.assert_array_equal(predicted(loaded, x), outputs)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)  # the user's model was not changed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_adds_values_or_moves_zeros(name, data):
    model = sparse_dense(12, 5)
    zeros = [kernel == 0 for kernel in kernels(model).values()]
    shared = compiled(Clustering(5).apply(model, verbose=False), OPTIMIZERS[name]())
    x, y = data(shared)
    for _ in range(4):
        shared.train_on_batch(x, y)
        for kernel, zero in zip(kernels(strip(shared)).values(), zeros, strict=True):
            assert len(np.unique(kernel)) <= 5 and (kernel[zero] == 0).all()
            assert (kernel != 0).any()


def test_the_gradients_of_centroids_and_weights():
    """A centroid has the mean of its weights' gradients; a weight has that of the value that replaces it."""
    model = dense(3)
    shared = Clustering(4, iterations=0, start="linear").apply(model, verbose=False)
    x, y = np.random.default_rng(0).random((2, 16, 8), "float32")
    y = y[:, :3]
    layer = next(iter(reparametrized_layers(shared).values()))
    kernel = ops.convert_to_numpy(layer.effective_weights()["kernel"]).astype("float64")
    first = [ops.convert_to_numpy(weight) for weight in (centroids(shared)[0], layer.layer.kernel)]
    shared.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    shared.train_on_batch(x, y)
    moved = [
        a - ops.convert_to_numpy(b) for a, b in zip(first, (centroids(shared)[0], layer.layer.kernel), strict=True)
    ]
    gradient = x.T @ (x @ kernel - y) * 2 / y.size
    np.testing.assert_allclose(moved[1], gradient, rtol=1e-4, atol=1e-6)
    means = [gradient[kernel == value].mean() for value in first[0][0].astype("float64")]
    np.testing.assert_allclose(moved[0][0], means, rtol=1e-4, atol=1e-6)


def test_each_channel_has_clusters_of_its_own(data):
    model = MODELS["convolutional"]()
    cluster = Clustering(3, per_channel=True)
    report = cluster.report(model)
    assert {row.path: row.reason for row in report.rows if row.reason} == {
        "norm": "no trainable kernel",
        "separable": "depthwise_kernel: no output channels",
        "depthwise": "kernel: no output channels",
    }
    shared = compiled(cluster.apply(model, verbose=False))
    shared.fit(*data(model), batch_size=16, verbose=0)
    found = kernels(cluster.strip(shared))
    conv, transposed, head = (next(v for p, v in found.items() if p.startswith(n)) for n in ("conv/", "transp", "head"))
    for kernel, axis in ((conv, 3), (transposed, 2), (head, 1)):
        channels = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        assert {len(np.unique(channel)) for channel in channels} == {3}
        assert len(np.unique(kernel)) > 3


def test_the_start_is_the_one_that_was_asked_for():
    model = dense(30)
    value = next(iter(kernels(model).values())).reshape(-1)
    for start in starts.STARTS:
        for iterations in (0, 3):
            shared = Clustering(4, start=start, iterations=iterations, seed=5).apply(model, verbose=False)
            first = starts.first_centroids(value, 4, start=start, rng=np.random.default_rng(5))
            expected = starts.lloyd(value, first, iterations)
            np.testing.assert_allclose(ops.convert_to_numpy(centroids(shared)[0])[0], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
def test_half_precision(dtype, data):
    shared = compiled(Clustering(4).apply(dense(12, 5, dtype=dtype), verbose=False))
    x, y = data(shared)
    shared.fit(x, y, epochs=2, verbose=0)
    small = strip(shared)
    assert set(num_values(small).values()) == {4}
    np.testing.assert_array_equal(predicted(small, x), predicted(shared, x))


def test_resumed_in_the_middle(data, tmp_path):
    def made():
        keras.utils.set_random_seed(1)
        return compiled(Clustering(4).apply(dense(8, 5), verbose=False))

    unbroken, part = made(), made()
    x, y = data(unbroken)
    for _ in range(5):
        unbroken.train_on_batch(x, y)
    for _ in range(2):
        part.train_on_batch(x, y)
    part.save(tmp_path / "part.keras")
    resumed = keras.models.load_model(tmp_path / "part.keras")
    for _ in range(3):
        resumed.train_on_batch(x, y)
    for one, other in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_under_a_distiller(data):
    teacher, student = dense(16, 5), dense(8, 5)
    shared = Clustering(4).apply(student, verbose=False)
    distiller = kd.Distiller(teacher, shared, alpha=0.9)
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data(student)
    first = ops.convert_to_numpy(centroids(shared)[0])
    distiller.fit(x, y, verbose=0)
    assert (ops.convert_to_numpy(centroids(shared)[0]) != first).any()
    assert set(num_values(strip(shared)).values()) == {4}


@pytest.mark.filterwarnings("ignore:Stripped before")
def test_pruned_and_clustered_at_once(data):
    """The zeros appear while the model is trained, and are one of the clusters then."""
    shared = compiled(chain(Pruning(0.5, begin=2), Clustering(4)).apply(dense(20, 5), verbose=False))
    x, y = data(shared)
    for step in range(4):
        shared.train_on_batch(x, y)
        assert all(((v == 0).mean() >= 0.5) == (step >= 2) for v in kernels(strip(shared)).values())
        assert max(num_values(strip(shared)).values()) <= 4


def test_clusters_of_a_model_that_is_pruned_next_keep_their_number(data):
    shared = compiled(Clustering(4).apply(dense(20, 5), verbose=False))
    x, y = data(shared)
    shared.fit(x, y, verbose=0)
    again = Pruning(0.5).apply(strip(shared), verbose=False)
    np.testing.assert_array_equal(predicted(again, x[: 0 or 4]).shape, (4, 5))
    compiled(again).fit(x, y, epochs=2, verbose=0)
    assert set(num_values(strip(again)).values()) <= {2, 3, 4, 5}


def test_what_is_left_out_and_why():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="small"), layers.Dense(8, name="skipped"),
         layers.Dense(8, kernel_initializer="zeros", name="zeros"), layers.Dense(8, name="head")]
    )  # fmt: skip
    reasons = {row.path: row.reason for row in Clustering(16, skip=["skipped"]).report(model).rows}
    assert reasons == {
        "small": "kernel: 16 weights, for 16 clusters",
        "skipped": "listed in skip",
        "zeros": "kernel: all weights are 0",
        "head": "",
    }
    rows = Clustering(2).report(sparse_dense(20)).rows
    assert rows[0].reason == "kernel: 2 clusters are too few for a kernel with zeros, which take one of them"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"clusters": 1}, "Invalid 'clusters'. Received: 1"),
        ({"clusters": 2.5}, "Invalid 'clusters'. Received: 2.5"),
        ({"clusters": True}, "Invalid 'clusters'. Received: True"),
        ({"start": "kmeans"}, "Invalid 'start'. Received: 'kmeans'. Expected: one of 'kmeans++'"),
        ({"iterations": -1}, "Invalid 'iterations'"),
        ({"per_channel": "yes"}, "Invalid 'per_channel'"),
        ({"per_channel": 1}, "Invalid 'per_channel'"),
        ({"seed": -1}, "Invalid 'seed'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ConfigurationError) as error:
        Clustering(**settings)
    assert str(error.value).startswith(message)


def test_weights_that_are_not_numbers():
    model = dense(30)
    model.layers[0].kernel.assign(np.full((8, 30), np.nan))
    with pytest.raises(ConfigurationError, match="kernel with 240 values that are NaN or infinite"):
        Clustering().apply(model)
    with pytest.raises(ConfigurationError, match="No layer of"):
        Clustering(1000).apply(dense(5))


def test_training_steps_are_those_of_tfmot():
    """Centroids, weights and assignments after steps of gradient descent, with TFMOT's mean of the gradients."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("TFMOT runs on TensorFlow")
    import os

    before = dict(os.environ)
    algorithm = pytest.importorskip("tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm")
    os.environ.clear()
    os.environ.update(before)
    import tensorflow as tf

    rng, model = np.random.default_rng(0), dense(6)
    x, y = rng.normal(size=(64, 8)).astype("float32"), rng.normal(size=(64, 6)).astype("float32")
    shared = Clustering(5, start="linear", iterations=0).apply(model, verbose=False)
    layer = next(iter(reparametrized_layers(shared).values()))
    weight, bias = (tf.Variable(w) for w in model.get_weights())
    found = tf.Variable(np.linspace(weight.numpy().min(), weight.numpy().max(), 5, dtype="float32"))
    average = algorithm.GradientAggregation.AVG
    theirs = algorithm.ClusteringAlgorithm(found, cluster_gradient_aggregation=average)
    shared.compile(keras.optimizers.SGD(0.05), loss="mse", jit_compile=False)
    changed = False
    for _ in range(12):
        with tf.GradientTape() as tape:
            index = theirs.get_pulling_indices(weight)
            loss = tf.reduce_mean((x @ theirs.get_clustered_weight(index, weight) + bias - y) ** 2)
        variables = [weight, found, bias]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.05 * tf.convert_to_tensor(gradient))
        shared.train_on_batch(x, y)
        changed |= bool((theirs.get_pulling_indices(weight).numpy() != index.numpy()).any())
    assert changed
    np.testing.assert_allclose(ops.convert_to_numpy(centroids(shared)[0])[0], found.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.layer.kernel), weight.numpy(), rtol=1e-4, atol=1e-6)
    clustered = theirs.get_clustered_weight(theirs.get_pulling_indices(weight), weight).numpy()
    effective = ops.convert_to_numpy(layer.effective_weights()["kernel"])
    np.testing.assert_allclose(effective, clustered, rtol=1e-4, atol=1e-6)
