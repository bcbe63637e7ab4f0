"""Pruning of whole models: applied, trained, stripped, saved, distilled."""

import keras
import numpy as np
import pytest
from compressible import MODELS
from keras import ops

import keras_kd as kd
from keras_kd.compression import Pruning, Reparametrized, sparsity, strip
from keras_kd.compression.pruning.patterns import Pattern
from keras_kd.compression.stripping import reparametrized_layers

layers = keras.layers
SCHEDULE = kd.schedules.Polynomial(0.0, 0.75, steps=6)
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "weight decay": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "moving average": lambda: keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3),
}


def compiled(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-2), loss=loss)
    return model


def predicted(model, x):
    return model.predict(x, verbose=0)


def masks(model):
    found = [f for layer in reparametrized_layers(model).values() for f in layer.reparametrizations.values()]
    return [ops.convert_to_numpy(mask.mask) for mask in found]


def test_a_whole_life(model, data, tmp_path):
    """Apply, fit, save, load, strip: the same outputs at each turn, and the sparsity that was asked for."""
    x, y = data(model)
    before = [np.array(weight) for weight in model.get_weights()]
    prune = Pruning(SCHEDULE, begin=1, frequency=2)
    sparse = prune.apply(model, verbose=False)
    np.testing.assert_array_equal(predicted(sparse, x), predicted(model, x))

    compiled(sparse).fit(x, y, batch_size=4, epochs=2, verbose=0)
    found = sparsity(sparse)
    assert len(found) >= 2
    weights = {f"{path}/{name}": value for path, layer in reparametrized_layers(sparse).items()
               for name, value in layer.effective_weights().items()}  # fmt: skip
    for path, value in found.items():
        size = ops.size(weights[path])
        assert value == pytest.approx(1 - max(1, round(int(size) * 0.25)) / int(size))

    outputs = predicted(sparse, x)
    small = prune.strip(sparse)
    np.testing.assert_array_equal(predicted(small, x), outputs)
    assert [type(layer) for layer in small.layers] == [type(layer) for layer in model.layers]
    assert [w.shape for w in small.weights] == [w.shape for w in model.weights]
    assert not reparametrized_layers(small)

    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.models.load_model(tmp_path / "sparse.keras")
    np.testing.assert_array_equal(predicted(loaded, x), outputs)
    assert sparsity(loaded) == found
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)  # the user's model was not changed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_are_zero_after_every_step(name, data):
    model = compiled(Pruning(0.5, frequency=1000).apply(keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, "relu", kernel_regularizer="l2"), layers.Dense(5)]
    ), verbose=False), OPTIMIZERS[name]())  # fmt: skip
    x, y = data(model)
    model.train_on_batch(x, y)
    first = masks(model)
    for _ in range(6):
        model.train_on_batch(x, y)
        for layer, mask in zip(reparametrized_layers(model).values(), first, strict=True):
            kernel = ops.convert_to_numpy(layer.effective_weights()["kernel"])
            assert ((kernel != 0) == (mask == 1)).all()
    for mask, other in zip(first, masks(model), strict=True):
        np.testing.assert_array_equal(mask, other)


def test_masks_change_at_the_steps_and_to_the_sparsities_of_the_schedule(data):
    model = Pruning(kd.schedules.Polynomial(0.1, 0.8, steps=6, power=3.0), begin=2, frequency=3).apply(
        keras.Sequential([keras.Input((8,)), layers.Dense(50)]), verbose=False
    )
    model.compile("sgd", loss="mse")
    x = np.random.default_rng(0).random((4, 8), "float32")
    seen = []
    for _ in range(12):
        model.train_on_batch(x, np.zeros((4, 50)))
        seen.append(float(masks(model)[0].mean()))

    def kept(step):  # of 400 weights
        return round(400 * (0.2 + 0.7 * (1 - min(step / 6, 1)) ** 3)) / 400

    at = {2: kept(0), 5: kept(3), 8: kept(6)}  # computed in the step that is counted from 0
    expected = [at[max(known)] if (known := [s for s in at if s <= step]) else 1.0 for step in range(12)]
    assert seen == pytest.approx(expected)


def test_a_layer_that_runs_twice_counts_one_step(data):
    x = keras.Input((8,))
    shared = layers.Dense(8, name="shared")
    model = keras.Model(x, layers.Dense(5, name="head")(shared(shared(x))))
    sparse = compiled(Pruning(0.5, begin=2, frequency=1).apply(model, verbose=False))
    inputs, y = data(model)
    for step in range(4):
        sparse.train_on_batch(inputs, y)
        assert set(sparsity(sparse).values()) == ({0.0} if step < 2 else {0.5})


def test_inference_changes_nothing(data):
    model = Pruning(0.5, frequency=1).apply(keras.Sequential([keras.Input((8,)), layers.Dense(5)]), verbose=False)
    x, _ = data(model)
    predicted(model, x)
    model(x, training=False)
    assert set(sparsity(model).values()) == {0.0}


def test_pruned_weights_stay_pruned(data):
    model = compiled(Pruning(SCHEDULE, frequency=1).apply(
        keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu"), layers.Dense(5)]), verbose=False
    ), keras.optimizers.Adam(0.3))  # fmt: skip
    x, y = data(model)
    before = masks(model)
    for _ in range(8):
        model.train_on_batch(x, y)
        after = masks(model)
        assert all((b <= a).all() for a, b in zip(before, after, strict=True))
        before = after


def test_resumed_in_the_middle_of_a_schedule(data, tmp_path):
    def made():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu"), layers.Dense(5)])
        return compiled(Pruning(SCHEDULE, frequency=2).apply(model, verbose=False))

    unbroken = made()
    x, y = data(unbroken)
    for _ in range(8):
        unbroken.train_on_batch(x, y)
    part = made()
    for _ in range(3):
        part.train_on_batch(x, y)
    part.save(tmp_path / "part.keras")
    resumed = keras.models.load_model(tmp_path / "part.keras")
    for _ in range(5):
        resumed.train_on_batch(x, y)
    for one, other in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_under_a_distiller(model, data):
    x, y = data(model)
    sparse = Pruning(0.5, frequency=1).apply(model, verbose=False)
    distiller = compiled(kd.Distiller(model, sparse, alpha=0.5))
    distiller.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert min(sparsity(sparse).values()) > 0.45
    np.testing.assert_array_equal(predicted(strip(distiller.student), x), predicted(sparse, x))


def test_probabilities_are_recovered_through_a_pruned_head(data):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5, activation="softmax")])
    x, y = data(model)
    with pytest.warns(kd.errors.Notice, match="the student's 'output' ends in softmax"):
        distiller = kd.Distiller(model, Pruning(0.5).apply(model, verbose=False), alpha=0.5)
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy())
    history = distiller.fit(x, y, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_half_precision(data):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu"), layers.Dense(5)])
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu"), layers.Dense(5)])
        finally:
            keras.config.set_dtype_policy("float32")
        sparse = compiled(Pruning(0.5, frequency=1).apply(model, verbose=False))
        x, y = data(model)
        np.testing.assert_array_equal(predicted(sparse, x), predicted(model, x))
        sparse.fit(x, y, epochs=1, verbose=0)
        assert set(sparsity(sparse).values()) == {0.5}
        np.testing.assert_array_equal(predicted(strip(sparse), x), predicted(sparse, x))


@pytest.mark.parametrize("pattern", ["2:4", "1x4", (2, 2)])
def test_patterns_in_a_model(data, pattern):
    model = MODELS["convolutional"]()
    x, y = data(model)
    sparse = compiled(Pruning(0.6, pattern=pattern, frequency=1).apply(model, verbose=False))
    sparse.train_on_batch(x, y)
    assert all(0.4 < value < 0.7 for value in sparsity(sparse).values())


def test_two_of_four_runs_along_the_inputs_of_every_kind_of_kernel(data):
    x = keras.Input((5, 8))
    h = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    h = layers.Conv1D(8, 3, padding="same", name="conv")(h)
    h = layers.Conv1DTranspose(6, 3, name="transposed")(h)
    model = keras.Model(x, layers.Dense(4, name="head")(h))
    sparse = Pruning(pattern="2:4", frequency=1).apply(model, verbose=False)
    sparse.compile("sgd", loss="mse")
    sparse.train_on_batch(np.ones((2, 5, 8)), np.ones((2, 7, 4)))
    kernels = {f"{path}/{name}": ops.convert_to_numpy(value) != 0
               for path, layer in reparametrized_layers(sparse).items()
               for name, value in layer.effective_weights().items()}  # fmt: skip

    def most(kept, axes):
        """The most weights kept in any group of 4 along the flattened `axes`."""
        moved = np.moveaxis(kept, axes, range(len(axes)))
        return moved.reshape(-1, 4, *moved.shape[len(axes) :]).sum(axis=1).max()

    assert most(kernels["attention/query/kernel"], [0]) == 2  # (channels, heads, dim)
    assert most(kernels["attention/attention_output/kernel"], [0, 1]) == 2  # (heads, dim, channels)
    assert most(kernels["conv/kernel"], [1]) == 2  # (width, inputs, outputs)
    assert most(kernels["transposed/kernel"], [2]) == 2  # (width, outputs, inputs)


@pytest.mark.parametrize(
    "prune, steps, message",
    [
        (Pruning(0.5, begin=3), 0, "begins at step 3"),
        (Pruning(0.5, begin=3), 3, "no mask was computed in 3 steps"),
        (Pruning(SCHEDULE, begin=1, frequency=2), 6, "computed at step 5, and the sparsity rises"),
        (Pruning(SCHEDULE, begin=1, frequency=2), 8, None),
        (Pruning(SCHEDULE, scope="global", frequency=5), 3, "computed at step 0"),
        (Pruning(0.0), 0, None),
        (Pruning(kd.schedules.Linear(0.75, 0.0, steps=6), frequency=1), 2, None),
    ],
)
def test_stripped_before_the_schedule_ends(prune, steps, message):
    x = keras.Input((8,))
    shared = layers.Dense(8, name="shared")
    model = prune.apply(keras.Model(x, shared(shared(x))), verbose=False)
    for _ in range(steps):
        model(np.ones((1, 8), "float32"), training=True)
    if message is None:
        prune.strip(model)  # warnings are errors
    else:
        with pytest.warns(kd.errors.Notice, match=f"before the training was complete: shared/kernel.*{message}"):
            prune.strip(model)


def test_exported_without_the_masks(data, tmp_path):
    """The masks are folded into the kernels of a file, also if the model was not stripped."""
    model = MODELS["convolutional"]()
    x, y = data(model)
    sparse = compiled(Pruning(0.5, frequency=1).apply(model, verbose=False))
    sparse.train_on_batch(x, y)
    result = kd.export_tflite(sparse, tmp_path / "sparse.tflite", samples=x[:8])
    stored = (tmp_path / "sparse.tflite").stat().st_size
    assert result is not None and stored < 4 * model.count_params() + 20_000  # the masks would double the kernels


def test_what_is_left_alone_is_reported_with_the_reason():
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(8, 3, name="stem")(x)
    h = layers.DepthwiseConv2D(3, name="depthwise")(h)
    h = layers.BatchNormalization(name="norm")(h)
    frozen = layers.Conv2D(8, 1, name="frozen", trainable=False)
    h = layers.GlobalAveragePooling2D()(frozen(h))
    model = keras.Model(x, layers.Dense(8, name="head")(layers.Dense(8, name="left")(h)))
    report = Pruning(pattern="2:4", skip=["left"]).report(model)
    reasons = {row.path: row.reason for row in report.rows}
    assert reasons == {
        "stem": "kernel: 3 inputs, fewer than the 4 of 2:4",
        "depthwise": "kernel: does not sum over inputs, which 2:4 needs",
        "norm": "no trainable kernel",
        "frozen": "no trainable kernel",
        "left": "listed in skip",
        "head": "",
    }
    assert all(word in str(report) for word in ("layer", "stem", "Conv2D", "fewer than the 4"))


class OwnPattern(Pattern):
    """Could not be saved by its text, which is that of the unstructured pattern."""


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda m: Pruning(1.5), "sparsity"),
        (lambda m: Pruning(float("nan")), "sparsity"),
        (lambda m: Pruning(), "'sparsity' is missing"),
        (lambda m: Pruning("much"), "schedule"),
        (lambda m: Pruning(0.25, pattern="2:4"), "2:4"),
        (lambda m: Pruning(kd.schedules.Linear(0.0, 0.3, steps=5), pattern="2:4"), "which ends at 0.3.*0.5 or more"),
        (lambda m: Pruning(0.5, pattern=np.array([1, 4])), "Unknown 'pattern'"),
        (lambda m: Pruning(0.5, pattern=OwnPattern()), "Unknown 'pattern'"),
        (lambda m: Pruning(0.5, pattern="3of4"), "pattern"),
        (lambda m: Pruning(0.5, pattern="4:2"), "pattern"),
        (lambda m: Pruning(0.5, pattern=(0, 4)), "pattern"),
        (lambda m: Pruning(0.5, frequency=0), "frequency"),
        (lambda m: Pruning(0.5, begin=-1), "begin"),
        (lambda m: Pruning(0.5, pattern="64x64").apply(m), "No layer"),
        (lambda m: Pruning(0.5, skip=["hed"]).apply(m), "Did you mean 'head'"),
        (lambda m: Pruning(0.5).apply(Pruning(0.5).apply(m, verbose=False)), "compressed already"),
        (lambda m: strip(m), "nothing to strip"),
        (lambda m: sparsity(m), "not being pruned"),
        (lambda m: Pruning(kd.schedules.Linear(0.0, 3.0, steps=5)), "goes from 0 to 3"),
        (lambda m: Pruning(0.5, skip=3), "skip"),
        (lambda m: Pruning(0.5).apply("model.keras"), "a keras.Model"),
        (lambda m: strip(3), "a keras.Model"),
        (lambda m: sparsity(3), "a keras.Model"),
        (lambda m: Pruning(0.5).apply(Subclassed()), "graph of layers"),
    ],
)
def test_bad_settings_get_one_clear_error(make, message):
    with pytest.raises(kd.errors.ConfigurationError, match=message) as error:
        make(keras.Sequential([keras.Input((8,)), layers.Dense(8, name="body"), layers.Dense(5, name="head")]))
    assert "Received" in str(error.value)


class Subclassed(keras.Model):
    def call(self, x):
        return x


class Noisy(layers.Layer):
    """A layer with code of its own: state, a loss, randomness and an inner layer."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = layers.Dense(8)
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.3, seed=3)

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((*shape[:-1], 8))
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x, training=None):
        self.count.assign(self.count + 1)
        h = self.norm(self.dense(x), training=training)
        self.add_loss(0.1 * ops.mean(ops.square(h)))
        return self.dropout(h, training=training)


def test_state_losses_and_randomness_inside_a_layer_go_on_as_before(data):
    """Without zeros, training a pruned model is training the plain one, bit for bit."""

    def made(prune):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((8,)), Noisy(name="noisy"), layers.Dense(5)])
        return compiled(Pruning(0.0).apply(model, verbose=False) if prune else model)

    plain, sparse = made(False), made(True)
    x, y = data(plain)
    assert isinstance(sparse.layers[0], Reparametrized)
    losses = [
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history["loss"] for model in (plain, sparse)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    for one, other in zip(plain.get_weights(), strip(sparse).get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert float(strip(sparse).layers[0].count) == 8
