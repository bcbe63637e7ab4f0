"""A pipeline with a curriculum: which examples its batches take, and what stays as without one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.curricula import ByScores
from keras_kd.data import GaussianNoise, Pipeline
from keras_kd.data.curriculum.arrangement import in_order_of_difficulty
from keras_kd.data.sources import records
from keras_kd.errors import ConfigurationError

N = 100
RNG = np.random.default_rng(0)
X = RNG.random((N, 4), dtype="float32")
X[:, 0] = np.arange(N)
Y = np.arange(N) % 7
SCORES = RNG.permutation(N).astype(float)


def by_scores(scores=SCORES, *, start=0.3, full_after=20, **settings):
    return ByScores(difficulties_by_id=scores, start=start, full_after=full_after, **settings)


def make(curriculum=None, data=(X, Y), **settings):
    return Pipeline(data, **{"batch_size": 16, "seed": 3, "curriculum": curriculum} | settings)


def ids_of(pipeline, epoch):
    return [batch[0].ids.tolist() for batch in pipeline.with_ids().epoch(epoch)]


def test_batches_come_from_the_allowed_examples():
    """7 batches an epoch; 70% are added over 20 batches."""
    pipeline = make(by_scores())
    easiest = np.argsort(SCORES).tolist()
    seen = set()
    for epoch in range(3):
        batches = ids_of(pipeline, epoch)
        assert [len(ids) for ids in batches] == [16] * 6 + [4]
        for number, ids in enumerate(batches):
            step = 7 * epoch + number
            allowed = easiest[: int(N * (0.3 + 0.7 * step / 20) + 1e-9)]
            assert set(ids) <= set(allowed) and len(set(ids)) == len(ids), step
        seen |= set(sum(batches, []))
    assert max(SCORES[sum(ids_of(pipeline, 0), [])]) > 40  # not only the first ones
    assert len(seen) > 75


@pytest.mark.parametrize("batch_size", [4, 10])
def test_all_allowed_examples_are_drawn_equally_often(batch_size):
    """30 examples are many batches of 4 and a few of 10."""
    pipeline = make(by_scores(full_after=10**9), batch_size=batch_size)
    counts = np.bincount(sum((sum(ids_of(pipeline, epoch), []) for epoch in range(100)), []), minlength=N)
    assert (counts[SCORES >= 30] == 0).all()
    expected = 100 * 100 / 30
    chi_squared = ((counts[SCORES < 30] - expected) ** 2 / expected).sum()
    assert chi_squared < 49.6  # 99% of 29 degrees of freedom; draws within a batch do not repeat, which lowers it


def test_once_all_are_allowed_the_order_is_that_without_a_curriculum():
    """In the middle of an epoch, too."""
    plain = make()
    for full_after in (1, 7, 17):
        pipeline = make(by_scores(full_after=full_after))
        for epoch in range(4):
            for number, (own, other) in enumerate(zip(ids_of(pipeline, epoch), ids_of(plain, epoch), strict=True)):
                assert (own == other) == (epoch * 7 + number >= full_after)
    whole = make(by_scores(start=1.0))
    assert [ids_of(whole, epoch) for epoch in range(2)] == [ids_of(plain, epoch) for epoch in range(2)]


def test_an_epoch_depends_only_on_seed_and_number():
    one, same = make(by_scores()), make(by_scores())
    keras.utils.set_random_seed(7)
    assert ids_of(one, 1) == ids_of(same.from_epoch(1), 1) == ids_of(one, 1) != ids_of(one, 0)
    assert ids_of(make(by_scores(), seed=4), 1) != ids_of(one, 1)
    for batch, ids in zip(one.epoch(1), ids_of(one, 1), strict=True):
        np.testing.assert_array_equal(batch[0], X[ids])
        np.testing.assert_array_equal(batch[1], Y[ids])


def test_examples_keep_their_views():
    noisy = [GaussianNoise(0.1)]
    batches = list(make(by_scores(), augment=noisy, views=2).with_ids().epoch(3))
    for inputs, _ in batches:
        np.testing.assert_array_equal(inputs.view, 1)
        np.testing.assert_array_equal(inputs.x, make(augment=noisy).batch(inputs.ids, view=1)[0])


# Orders.


def test_orders():
    easiest = np.argsort(SCORES)
    firsts = {}
    for order in ("easy_first", "hard_first", "random"):
        pipeline = make(by_scores(full_after=10**9, order=order))
        firsts[order] = set(sum((sum(ids_of(pipeline, epoch), []) for epoch in range(5)), []))
    assert firsts["easy_first"] == set(easiest[:30]) and firsts["hard_first"] == set(easiest[-30:])
    assert len(firsts["random"]) == 30 and 2 < len(firsts["random"] & firsts["easy_first"]) < 20


def test_equal_difficulties_do_not_follow_the_order_of_the_source():
    pipeline = make(by_scores(np.zeros(N), full_after=10**9))
    drawn = set(sum((sum(ids_of(pipeline, epoch), []) for epoch in range(5)), []))
    assert len(drawn) == 30 and max(drawn) > 50


def test_balanced_takes_each_class_in_proportion():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    scores = np.where(labels == 2, 100.0, labels) + RNG.random(N)  # class 2 would come last
    order = in_order_of_difficulty(scores, np.arange(N), labels)
    for size in range(1, N + 1):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert (np.abs(counts - size * np.array([0.6, 0.3, 0.1])) <= 1 + 1e-9).all()
    for label in range(3):
        assert (np.diff(scores[order[labels[order] == label]]) > 0).all()
    for y in (labels, labels[:, None], np.eye(3, dtype="float32")[labels]):
        pipeline = make(by_scores(scores, full_after=10**9, balanced=True), (X, y))
        drawn = sum((sum(ids_of(pipeline, epoch), []) for epoch in range(5)), [])
        assert np.bincount(labels[sorted(set(drawn))]).tolist() == [18, 9, 3]


@pytest.mark.parametrize("data", [(X,), (X, X), (X, {"a": Y})], ids=["none", "numbers", "several"])
def test_balanced_needs_classes(data):
    with pytest.raises(ConfigurationError, match="class of each example|fit no task"):
        make(by_scores(balanced=True), data)


# Refusals.


def test_sources_that_are_read_in_order_are_refused(monkeypatch):
    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", 0)
    with pytest.raises(ConfigurationError, match="random access.*numpy.memmap"):
        make(by_scores(), tf.data.Dataset.from_tensor_slices((X, Y)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 0}, "0 < start"),
        ({"start": 1.5}, "start <= 1"),
        ({"start": float("nan")}, "'start'"),
        ({"start": True}, "'start'"),
        ({"full_after": 0}, "full_after"),
        ({"full_after": 2.5}, "full_after"),
        ({"pacing": "cubic"}, "'log'"),
        ({"order": "easy"}, "'easy_first'"),
        ({"balanced": "yes"}, "'balanced'"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        by_scores(**settings)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (SCORES[:-1], "shape .99"),
        (SCORES[:, None], "shape"),
        (np.where(SCORES == 5, np.nan, SCORES), "nan for example"),
        (np.where(SCORES < 2, np.inf, SCORES), "and 1 more"),
        (["a"] * N, "finite numbers"),
        (None, "object"),
    ],
)
def test_scores_that_do_not_fit(scores, message):
    with pytest.raises(ConfigurationError, match=message):
        make(by_scores(scores))


def test_other_objects_and_unshuffled_pipelines_are_refused():
    with pytest.raises(ConfigurationError, match="ByTeacherConfidence"):
        make("by_teacher_confidence")
    with pytest.raises(ConfigurationError, match="shuffle=False"):
        make(by_scores(), shuffle=False)


def classifier(outputs=7):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss=loss)
    return model


def test_evaluation_is_refused():
    """It would measure on the examples that are allowed first."""
    model, pipeline = classifier(), make(by_scores())
    for method in (model.evaluate, model.predict):
        with pytest.raises(ConfigurationError, match="for training"):
            method(pipeline, verbose=0)
    with pytest.raises(ConfigurationError, match="for training"):
        model.fit(X, Y, validation_data=pipeline, verbose=0)
    assert len(model.predict(make(), verbose=0)) == N


def test_an_epoch_of_other_length_is_refused():
    """Steps of the curriculum are counted in whole epochs."""
    model, pipeline = classifier(), make(by_scores(), batch_size=2)
    with pytest.raises(ConfigurationError, match="fewer than 50 batches.*steps_per_epoch"):
        model.fit(pipeline, steps_per_epoch=25, epochs=4, verbose=0)
    for _ in range(2):
        model.fit(pipeline, epochs=2, verbose=0)
    model.fit(pipeline, steps_per_epoch=50, epochs=2, verbose=0)


# Fit.


class Recorder(keras.Model):
    """Records the ids that `fit` trains on."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.scale = self.add_weight(shape=())

    def call(self, x):
        return x[:, :1] * self.scale

    def train_step(self, data):
        self.rows.append(np.asarray(data[0])[:, 0].astype(int).tolist())
        return {"loss": keras.ops.zeros(())}


@pytest.mark.parametrize("first", [0, 2])
def test_fit_follows_the_epochs(first):
    model = Recorder()
    model.compile(run_eagerly=True, loss="mse", optimizer="sgd")
    pipeline = make(by_scores())
    model.fit(pipeline.from_epoch(first), initial_epoch=first, epochs=4, verbose=0)
    expected = [ids for epoch in range(first, 4) for ids in ids_of(pipeline, epoch)]
    assert model.rows == expected


class Killed(BaseException):
    pass


class KillAt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise Killed


def test_a_resumed_training_equals_an_unbroken_one(tmp_path):
    def run(*callbacks):
        keras.utils.set_random_seed(0)
        model = classifier()
        model.fit(make(by_scores()), epochs=4, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    unbroken = run()
    with pytest.raises(Killed):
        run(KillAt(), kd.callbacks.Resume(tmp_path, every_seconds=0))
    resumed = run(kd.callbacks.Resume(tmp_path, every_seconds=0))
    for one, other in zip(unbroken, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "other",
    [None, by_scores(-SCORES), by_scores(full_after=21), by_scores(pacing="root"), by_scores(order="random")],
    ids=["none", "scores", "full_after", "pacing", "order"],
)
def test_resume_refuses_another_curriculum(tmp_path, other):
    def run(curriculum, *callbacks):
        keras.utils.set_random_seed(0)
        resume = kd.callbacks.Resume(tmp_path, every_seconds=0)
        classifier().fit(make(curriculum), epochs=3, verbose=0, callbacks=[*callbacks, resume])

    with pytest.raises(Killed):
        run(by_scores(), KillAt())
    with pytest.raises(ConfigurationError, match="data.curriculum"):
        run(other)


def test_a_cache_does_not_depend_on_the_curriculum():
    assert make(by_scores()).identity() == make().identity()
