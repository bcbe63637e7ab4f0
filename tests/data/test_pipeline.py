"""The pipeline: reproducible order and augmentations, and the batches that `fit` receives."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_kd.data import (
    CutMix,
    Flip,
    GaussianNoise,
    Mixup,
    PadAndCrop,
    Pipeline,
    PipelineInputs,
    epoch_order,
    open_source,
)
from keras_kd.data.sources import records
from keras_kd.errors import ConfigurationError


@pytest.fixture(scope="module")
def arrays():
    """Images whose first pixel and label are the example's number."""
    x = np.random.default_rng(0).random((100, 8, 8, 3), dtype="float32")
    x[:, 0, 0, 0] = np.arange(100)
    return x, np.arange(100)


@pytest.fixture(params=["arrays", "split", "streamed split", "tf.data", "streamed tf.data"])
def source(request, arrays, monkeypatch):
    """100 examples from each kind of source; streamed ones arrive in blocks of 25."""
    if request.param.startswith("streamed"):
        monkeypatch.setattr(records.ArrayRecords, "fits_in_memory", property(lambda self: False))
        monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 100 * 8 * 8 * 4)
    if "split" in request.param:
        digits = open_source("digits").train
        return digits.subset(range(100), "train").relabeled(np.arange(100), "train")
    if "tf.data" in request.param:
        return tf.data.Dataset.from_tensor_slices((arrays[0][..., :1], arrays[1]))
    return arrays


def rows_of(pipeline, epoch=0):
    return [y.tolist() for _, y in pipeline.epoch(epoch)]


# The order.


def test_order_is_a_pure_function_of_seed_and_epoch():
    order = epoch_order(50, seed=3, epoch=7)
    np.random.seed(1)
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(epoch_order(50, seed=3, epoch=7), order)
    assert sorted(order) == list(range(50))
    assert (order != epoch_order(50, seed=3, epoch=8)).any()
    assert (order != epoch_order(50, seed=4, epoch=7)).any()


def test_each_epoch_is_a_permutation_and_keeps_its_last_batch(source):
    pipeline = Pipeline(source, batch_size=16)
    epochs = [rows_of(pipeline, epoch) for epoch in range(3)]
    assert all([len(batch) for batch in rows] == [16] * 6 + [4] for rows in epochs)
    flat = [sum(rows, []) for rows in epochs]
    assert all(sorted(rows) == list(range(100)) for rows in flat)
    assert flat[0] != flat[1] != flat[2] and flat[0] != list(range(100))
    assert pipeline.steps_per_epoch == 7 and pipeline.num_examples == 100


def test_the_same_epoch_twice_and_another_seed(source):
    one, other = Pipeline(source, batch_size=16, seed=5), Pipeline(source, batch_size=16, seed=6)
    keras.utils.set_random_seed(1)
    first = rows_of(one, 3)
    keras.utils.set_random_seed(2)
    assert rows_of(one, 3) == first != rows_of(other, 3)


def test_inputs_stay_with_their_labels(source):
    whole = np.concatenate([x for x, _ in Pipeline(source, shuffle=False).epoch(0)])
    for x, rows in Pipeline(source, batch_size=16).epoch(1):
        np.testing.assert_array_equal(x, whole[rows])


def test_unshuffled_is_the_order_of_the_source(source):
    pipeline = Pipeline(source, batch_size=30, shuffle=False)
    assert sum(rows_of(pipeline, 1), []) == list(range(100))
    ids = [ids.tolist() for ids, _ in pipeline.in_order(batch_size=60)]
    assert ids == [list(range(60)), list(range(60, 100))]


def test_in_memory_batches_follow_epoch_order(arrays):
    rows = sum(rows_of(Pipeline(arrays, batch_size=16, seed=9), epoch=2), [])
    assert rows == epoch_order(100, seed=9, epoch=2).tolist()


def test_streamed_blocks_are_mixed_within(arrays, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    pipeline = Pipeline(dataset, batch_size=10)
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 4 * 50 * pipeline.examples.num_bytes_each)
    rows = sum(rows_of(pipeline), [])
    assert sorted(rows[:50]) == list(range(50)) and rows[:50] != list(range(50))
    assert [row - 50 for row in rows[50:]] != rows[:50]


# The views.


def test_a_view_is_a_function_of_seed_number_and_view(source):
    augment = [PadAndCrop(2), Flip(), GaussianNoise(0.1)]
    pipeline = Pipeline(source, augment=augment, batch_size=16, seed=3)
    images = {}
    for x, rows in pipeline.epoch(2):
        images |= dict(zip(rows.tolist(), x, strict=True))
    elsewhere = Pipeline(source, augment=augment, batch_size=7, seed=8, augment_seed=3)
    for ids, (x, _) in elsewhere.in_order(view=2):
        for number, image in zip(ids.tolist(), x, strict=True):
            np.testing.assert_array_equal(image, images[number])
    other_view = next(elsewhere.in_order(view=1))[1][0]
    assert not np.array_equal(other_view[0], images[0])


def test_a_view_is_the_same_in_another_process(arrays):
    code = """
import hashlib, numpy as np
from keras_kd.data import Pipeline
x = np.random.default_rng(0).random((100, 8, 8, 3), dtype="float32")
augment = ["pad_and_crop", "flip", "color_jitter", "cutout", "gaussian_noise", "resized_crop", "mixup"]
pipeline = Pipeline((x, np.arange(100) % 10), augment=augment, seed=4)
print(hashlib.sha256(b"".join(part.tobytes() for part in pipeline.batch([5, 99, 3], view=7))).hexdigest())
print(pipeline.examples.fingerprint)
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout.split()) == 2


def test_epochs_count_modulo_the_views(arrays):
    pipeline = Pipeline(arrays, augment=Flip(), views=3)
    assert [pipeline.view_of(epoch) for epoch in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert Pipeline(arrays, augment=Flip()).view_of(7) == 7
    assert Pipeline(arrays, views=3).view_of(7) == 0  # all views are equal


@pytest.mark.parametrize("mixing", [Mixup(1.0), CutMix(1.0)])
def test_mixing_replays_its_partners_and_mixes_the_labels(arrays, mixing):
    x, _ = arrays
    y = np.arange(100) % 4
    pipeline = Pipeline((x, y), augment=[Flip(), mixing], seed=1)
    ids = np.array([4, 17, 60])
    mixed, labels = pipeline.batch(ids, view=2)
    for row, number in enumerate(ids):  # the same alone as in the batch
        alone = pipeline.batch([number], view=2)
        np.testing.assert_array_equal(alone[0][0], mixed[row])
        np.testing.assert_array_equal(alone[1][0], labels[row])
    assert labels.shape == (3, 4) and labels.dtype == np.float32
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
    # The pixels show the shares of the example and of its partner, each flipped as in its own view.
    flipped = Pipeline((x, y), augment=[Flip()], seed=1)
    own, _ = flipped.batch(ids, view=2)
    from keras_kd.data.draws import Draws

    draws = Draws(1, ids, 2).under("1")
    partners = mixing.partners(draws, 100)
    expected, share = mixing.mix(own, flipped.batch(partners, view=2)[0], draws)
    np.testing.assert_array_equal(mixed, expected)
    one_hot = np.eye(4)
    np.testing.assert_allclose(
        labels, share[:, None] * one_hot[y[ids]] + (1 - share[:, None]) * one_hot[y[partners]], rtol=1e-6
    )


def test_what_is_mixed_with_an_unlabeled_example_has_no_label(arrays):
    y = np.arange(100) % 4
    y[1:] = -1
    _, labels = Pipeline((arrays[0], y), augment=Mixup(1.0), num_classes=4).batch(np.arange(100))
    np.testing.assert_array_equal(labels, 0)


# What `fit` receives.


class Seen(keras.Model):
    """Records the labels of each batch and does not learn."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.weight = self.add_weight(shape=())

    def call(self, x):
        return keras.ops.sum(x, axis=(1, 2, 3)) * self.weight

    def train_step(self, data):
        self.rows.append(data[1].numpy().tolist())
        return {"loss": keras.ops.zeros(())}


def seen_by_fit(pipeline, **settings):
    model = Seen()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(pipeline, verbose=0, **settings)
    return model.rows


@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_sees_the_epochs_in_turn(source, shuffle):
    pipeline = Pipeline(source, batch_size=16)
    expected = sum((rows_of(pipeline, epoch) for epoch in range(3)), [])
    assert seen_by_fit(pipeline, epochs=3, shuffle=shuffle) == expected
    assert seen_by_fit(pipeline, epochs=3) == expected  # each fit starts from the first epoch


def test_a_resumed_fit_sees_the_rest(source):
    pipeline = Pipeline(source, batch_size=16)
    expected = sum((rows_of(pipeline, epoch) for epoch in (2, 3)), [])
    assert seen_by_fit(pipeline.from_epoch(2), initial_epoch=2, epochs=4) == expected
    assert seen_by_fit(pipeline, epochs=1) == rows_of(pipeline, 0)  # the original is unchanged


def test_validation_between_the_epochs_changes_nothing(arrays):
    """Keras draws a batch beforehand to build metrics, and requests more than one data set."""
    x, y = arrays[0], arrays[1] % 4
    pipeline = Pipeline((x, y), augment=[Flip(), PadAndCrop(1)], batch_size=16, seed=2)

    def losses(**settings):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-4), loss, metrics=["accuracy"])
        return model.fit(pipeline, epochs=3, verbose=0, **settings).history["loss"]

    plain = losses()
    assert losses(validation_data=Pipeline((x, y), shuffle=False)) == pytest.approx(plain, rel=1e-6)

    class Given(keras.callbacks.Callback):
        pass

    assert losses(callbacks=[Given()], steps_per_epoch=7) == pytest.approx(plain, rel=1e-6)


def test_under_a_strategy_keras_looks_at_a_batch_first(arrays):
    """Keras builds the model from one batch before the first epoch; this must not count as an epoch."""
    pipeline = Pipeline((arrays[0], arrays[1] % 4), batch_size=16)
    epochs = []

    class Epochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append((epoch, pipeline._clock.epoch))

    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(pipeline, epochs=3, verbose=0, callbacks=[Epochs()])
    assert epochs == [(0, 0), (1, 1), (2, 2)]


def test_other_parts_and_evaluate_and_predict(arrays):
    x, y = arrays
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    weights = np.linspace(0, 1, 100, dtype="float32")
    pipeline = Pipeline((x, y, weights), shuffle=False)
    expected = model.evaluate(x, y, sample_weight=weights, batch_size=64, verbose=0)
    assert model.evaluate(pipeline, verbose=0) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(model.predict(Pipeline((x,), shuffle=False), verbose=0), model.predict(x, verbose=0))
    np.testing.assert_allclose(model.predict(Pipeline(x, shuffle=False), verbose=0), model.predict(x, verbose=0))


def test_inputs_of_several_parts(arrays):
    x = {"image": arrays[0], "size": np.arange(100.0)}
    (batch, y), *_ = Pipeline((x, arrays[1]), batch_size=10).epoch(0)
    np.testing.assert_array_equal(batch["size"], y)
    assert batch["size"].dtype == np.float32
    with pytest.raises(ConfigurationError, match=r"The input 'size': .*images \[H, W, C\].*Only\(NAME, Flip"):
        Pipeline((x, arrays[1]), augment=Flip())
    with pytest.raises(ConfigurationError, match="several parts.*a tuple.*a dict of arrays by name"):
        Pipeline(((arrays[0], arrays[0]), arrays[1]), augment=Flip())


def test_numbers_and_text_ids_stay_whole_numbers():
    (tokens,), *_ = Pipeline((np.arange(12).reshape(4, 3),), shuffle=False).epoch(0)
    assert tokens.dtype == np.int64


# User-defined data sets.


def test_tfds_ids_decide_whatever_the_order(arrays):
    def dataset(order):
        names = np.array([f"mnist-train.tfrecord-{n // 40:05d}-of-00003__{n % 40}" for n in range(100)])
        parts = {"image": arrays[0][order], "label": arrays[1][order], "tfds_id": names[order]}
        return tf.data.Dataset.from_tensor_slices(parts)

    one, other = (Pipeline(dataset(np.random.default_rng(seed).permutation(100)), batch_size=20) for seed in (0, 1))
    assert one.identity() == other.identity()
    for (x, y), (x_other, y_other) in zip(one.epoch(1), other.epoch(1), strict=True):
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)


def test_streamed_tfds_ids_survive_shuffling(arrays, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 100 * 8 * 8 * 4)
    names = np.array([f"train__{n:03d}" for n in range(100)])
    parts = {"image": arrays[0], "label": arrays[1], "tfds_id": names}
    shuffled = tf.data.Dataset.from_tensor_slices(parts).shuffle(100, seed=1)
    pipeline = Pipeline(shuffled)
    assert not pipeline.examples.random_access
    for ids, (_, y) in pipeline.in_order():
        np.testing.assert_array_equal(ids, y)


def test_batches_of_a_data_set_are_taken_apart(arrays):
    pipeline = Pipeline(tf.data.Dataset.from_tensor_slices(arrays).batch(30), shuffle=False)
    assert pipeline.num_examples == 100 and sum(rows_of(pipeline), []) == list(range(100))


def test_an_order_that_is_not_fixed_is_found(arrays, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).shuffle(100)
    with pytest.raises(ConfigurationError, match="not fixed.*Remove shuffle"):
        Pipeline(dataset).identity()


def test_mixing_needs_examples_in_memory(arrays, monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    with pytest.raises(ConfigurationError, match="mixup and cut_mix"):
        Pipeline(tf.data.Dataset.from_tensor_slices(arrays), augment=Mixup())


# The identity of the inputs.


def test_the_identity_is_of_inputs_order_and_augmentation(arrays):
    x, y = arrays
    identity = Pipeline(arrays, augment=Flip(), seed=1).identity()
    assert Pipeline((x.copy(), y % 2), augment=Flip(), batch_size=7, seed=5, augment_seed=1).identity() == identity
    assert Pipeline((x[::-1], y), augment=Flip(), seed=1).identity()["data"] != identity["data"]
    assert Pipeline(arrays, augment=Flip(0.4), seed=1).identity()["augment"] != identity["augment"]
    assert Pipeline(arrays, augment=Flip(), seed=2).identity()["augment_seed"] == 2
    assert Pipeline(arrays, seed=2).identity() == Pipeline(arrays, seed=3).identity()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "1 <= batch_size"),
        ({"batch_size": 1.5}, "Received: 1.5"),
        ({"seed": -1}, "0 <= seed"),
        ({"views": 0}, "1 <= views"),
        ({"augment": "flop"}, "Did you mean 'flip'"),
        ({"augment": {"name": "flip", "probability": 2}}, "probability"),
        ({"source": "digits"}, "Unsupported data source"),
        ({"source": (np.zeros((3, 2)), np.zeros(4))}, r"x \(3, 2\), y \(4,\)"),
        ({"source": (np.zeros((0, 2)),)}, "at least one"),
    ],
)
def test_bad_settings(arrays, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Pipeline(**({"source": arrays} | settings))


def test_what_travels_is_taken_apart_again(arrays):
    from keras_kd.data.pipeline_inputs import inputs_of

    x = arrays[0][:2]
    assert inputs_of(PipelineInputs(x, np.arange(2), np.zeros(2), {})) is x and inputs_of(x) is x


@pytest.mark.long
def test_on_jax_without_tensorflow(tmp_path):
    """Keras draws a batch before the first epoch on JAX; epochs and cache match TensorFlow's."""
    code = f"""
import sys
import keras, numpy as np
from keras_kd.data import Flip, Pipeline
from keras_kd.teachers import CachedTeacher
x, y = np.random.default_rng(0).random((100, 8, 8, 1), "float32"), np.arange(100) % 4
pipeline, epochs = Pipeline((x, y), augment=Flip(), batch_size=16), []
class Epochs(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        epochs.append((epoch, pipeline._clock.epoch))
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
model.fit(pipeline, epochs=3, verbose=0, callbacks=[Epochs()])
cached = CachedTeacher.build(model, pipeline, {str(tmp_path / "cache")!r}, views=2, progress=False)
assert np.abs(cached.outputs_for(np.arange(3), 1, None)["output"] - model(pipeline.batch([0, 1, 2], 1)[0])).max() < 1e-2
print(epochs, "tensorflow" in sys.modules)
"""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "[(0, 0), (1, 1), (2, 2)] False", result.stderr
