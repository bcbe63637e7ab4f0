"""Chains against manual trainings, soft targets in float64 NumPy, and kills during training."""

import dataclasses
import itertools
import json
import os
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd import files
from keras_kd.chain import Chain, TrainingRecord, born_again, distill_chain, training
from keras_kd.chain.settings import Settings, plain
from keras_kd.data import Pipeline
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.locks import locked
from keras_kd.losses.multi_teacher import random_teacher_weights
from keras_kd.teachers import FrozenTeacher, fingerprint

layers = keras.layers
EPOCHS = 2
HINT = ("soft_targets", {"name": "hint", "teacher": "features", "student": "features"})
SETTINGS = Settings(
    optimizer="adam",
    loss=None,
    metrics=None,
    compile={},
    alpha=0.5,
    temperature=4.0,
    losses=None,
    guidance="",
    drop=0.0,
    batch_size=None,
    seed=0,
)
# So few steps run faster eagerly than compiled.
QUIET = {"compile": {"run_eagerly": True}, "progress": False}


class Killed(BaseException):
    """Simulates kill -9."""


class Kill(keras.callbacks.Callback):
    """Kills the training of the named student in an epoch, after the second batch."""

    def __init__(self, model, epoch):
        super().__init__()
        self._name, self._epoch = model, epoch

    def on_epoch_begin(self, epoch, logs=None):
        self._now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.model.student.name == self._name and self._now == self._epoch and batch == 1:
            raise Killed


class Late(keras.callbacks.Callback):
    """Checks that a model's training resumes no earlier than an epoch."""

    def __init__(self, model, epoch):
        super().__init__()
        self._name, self._epoch = model, epoch

    def on_epoch_begin(self, epoch, logs=None):
        assert self.model.student.name != self._name or epoch >= self._epoch


class Forbidden(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise AssertionError("nothing should be trained")


@pytest.fixture(scope="module")
def data(digits):
    return digits[0][:32], digits[1][:32]


@pytest.fixture(scope="module")
def validation(digits):
    return digits[0][32:64], digits[1][32:64]


@pytest.fixture(scope="module")
def make():
    """Makes a model with dropout and batch normalization, whose state goes beyond the trained weights."""

    def make(name, width=4, classes=10):
        hidden = layers.Dense(width, activation="relu", name="features")
        body = [layers.Flatten(), hidden, layers.BatchNormalization()]
        return keras.Sequential([keras.Input((8, 8, 1)), *body, layers.Dropout(0.2), layers.Dense(classes)], name=name)

    return make


@pytest.fixture(scope="module")
def teacher(make):
    keras.utils.set_random_seed(1)
    model = make("teacher", 16)
    for weight in model.trainable_weights:
        weight.assign(weight + keras.random.normal(weight.shape, seed=1) * 0.3)
    return model


def assert_same_weights(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def by_hand(teacher, student, data, *, seed, alpha=0.5, epochs=EPOCHS):
    distiller = kd.Distiller(teacher, student, alpha=alpha, temperature=4.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile("adam", loss=loss, metrics=["accuracy"], run_eagerly=True)
    keras.utils.set_random_seed(seed)
    history = distiller.fit(Pipeline(data, batch_size=16, seed=seed), epochs=epochs, verbose=0, shuffle=False)
    return history.history


def soft_targets(teacher, student, x, temperature):
    """T^2 KL, averaged over the rows, in float64."""
    logits = [np.asarray(model(x, training=False), "float64") / temperature for model in (teacher, student)]
    p, q = (values - np.log(np.exp(values).sum(-1, keepdims=True)) for values in logits)
    return temperature**2 * float((np.exp(p) * (p - q)).sum(-1).mean())


# Students and their teachers.


def test_each_model_is_taught_by_the_previous_one(teacher, make, data):
    functions = [lambda: make("assistant", 8), lambda: make("student", 4)]
    chain = distill_chain([teacher, *functions], data, epochs=EPOCHS, batch_size=16, seed=5, **QUIET)

    previous = teacher
    for index, function in enumerate(functions):
        keras.utils.set_random_seed(5 + index)
        expected = function()
        history = by_hand(previous, expected, data, seed=5 + index)
        assert_same_weights(chain.models[index], expected)
        assert chain.trainings[index].history == history
        previous = expected
    assert chain.student is chain.models[-1] and chain.student.name == "student"
    assert [(record.name, record.teachers) for record in chain.trainings] == [
        ("assistant", ("teacher",)),
        ("student", ("assistant",)),
    ]


def test_the_teacher_is_unchanged(teacher, make, data, tmp_path):
    before = fingerprint(teacher)
    teacher.save(tmp_path / "teacher.keras")
    students = []
    for first in (teacher, FrozenTeacher(teacher), tmp_path / "teacher.keras"):
        keras.utils.set_random_seed(0)
        students.append(distill_chain([first, make("student")], data, epochs=1, **QUIET).student)
    assert fingerprint(teacher) == before
    assert_same_weights(students[0], students[1])
    assert_same_weights(students[0], students[2])


def without_learning(teacher, make, data, **settings):
    """A chain without weight changes, so that the last student's logs are those of its initial weights."""
    models = [teacher, make("assistant", 8), make("second", 6), make("student", 4)]
    for layer in models[-1].layers:
        if isinstance(layer, (layers.Dropout, layers.BatchNormalization)):
            layer.trainable = False  # runs batch normalization in inference mode
            layer.rate = 0.0
    settings = {"optimizer": keras.optimizers.SGD(0.0), "batch_size": 32, "temperature": 3.0} | settings
    return models, distill_chain(models, data, guidance="all", **settings, **QUIET)


def test_all_previous_models_teach_by_the_mean_of_their_soft_targets(teacher, make, data):
    models, chain = without_learning(teacher, make, data, epochs=1)
    *teachers, student = models
    assert [record.teachers for record in chain.trainings] == [
        ("teacher",),
        ("teacher", "assistant"),
        ("teacher", "assistant", "second"),
    ]
    expected = [soft_targets(model, student, data[0], 3.0) for model in teachers]
    logs = chain.trainings[-1].history
    for model, value in zip(teachers, expected, strict=True):
        assert logs[f"soft_targets_{model.name}"] == pytest.approx([value / 3], rel=1e-5)
    assert logs["distillation_loss"] == pytest.approx([np.mean(expected)], rel=1e-5)


def test_teachers_are_left_out_step_by_step(teacher, make, data):
    models, chain = without_learning(teacher, make, data, epochs=5, drop=0.5, seed=3)
    *teachers, student = models
    shares = random_teacher_weights(3, 0.5, seed=3 + 2)[:5]
    assert {0.0, 1.0} < set(shares.ravel().tolist())
    for model, share in zip(teachers, shares.T, strict=True):
        expected = share * soft_targets(model, student, data[0], 3.0)
        assert chain.trainings[-1].history[f"soft_targets_{model.name}"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.9])
def test_shares_of_those_not_left_out(drop):
    shares = random_teacher_weights(3, drop, seed=0)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert all(len(set(row[row > 0])) == 1 for row in shares)
    # each of 3 is kept with probability 1 - drop, or chosen as one of three if all were dropped
    expected = 1 - drop + drop**3 / 3
    np.testing.assert_allclose((shares > 0).mean(axis=0), expected, atol=0.03)
    np.testing.assert_array_equal(shares, random_teacher_weights(3, drop, seed=0))


def test_born_again(make, teacher, data):
    built = []

    def build():
        built.append(make("model", 8))
        built[-1].initial = fingerprint(built[-1])
        return built[-1]

    chain = born_again(teacher, build, 3, data, epochs=1, **QUIET)
    assert chain.models == tuple(built)
    assert [record.teachers for record in chain.trainings] == [("teacher",), ("model_1",), ("model_2",)]
    assert len({model.initial for model in built}) == 3, "each generation starts from other weights"


def test_each_training_has_new_losses(teacher, make, data):
    """The models differ in width, so a shared loss would meet shapes for which it was not built."""
    hint = kd.losses.Hint(teacher="features", student="features")
    models = [make(name, width) for name, width in (("teacher", 12), ("assistant", 8), ("student", 4))]
    models[0].set_weights(make("x", 12).get_weights())
    with pytest.warns(Notice):
        chain = distill_chain(models, data, epochs=1, losses=[hint], **QUIET)
    assert not hint.built and all(record.history["hint_features"][0] > 0 for record in chain.trainings)


def test_the_trained_layers_of_a_loss_keep_their_weights(teacher, make, data):
    """A config has no weights; two losses that differ in them alone are two settings."""
    classifiers = [keras.layers.Dense(3) for _ in range(2)]
    for number, classifier in enumerate(classifiers):
        classifier.build((None, 8))
        classifier.kernel.assign(np.full((8, 3), 0.1 * (number + 1)))
    losses = [
        kd.losses.Weighted(kd.losses.SoftmaxRegression(one, teacher="features", student="features"), 2.0)
        for one in classifiers
    ]
    (new,) = dataclasses.replace(SETTINGS, losses=[losses[1]]).new_losses()
    assert new is not losses[1]
    np.testing.assert_array_equal(new.trained_layers[0].get_weights()[0], np.full((8, 3), 0.2, "float32"))
    one, other = (plain(loss) for loss in losses)
    assert one[0] == other[0] and one != other and one == plain(losses[0])


def test_each_training_has_a_new_optimizer_and_metrics(teacher, make, data):
    models = [teacher, make("assistant"), make("student")]
    optimizer, metric = keras.optimizers.Adam(0.002), keras.metrics.SparseCategoricalAccuracy(name="share")
    chain = distill_chain(models, data, epochs=1, optimizer=optimizer, metrics=[metric], **QUIET)
    assert not optimizer.built and float(metric.result()) == 0.0
    assert all(record.history["share"][0] > 0 for record in chain.trainings)

    made = []
    distill_chain(
        [teacher, make("one"), make("two")], data, epochs=1, optimizer=lambda: made.append(1) or "sgd", **QUIET
    )
    assert len(made) == 2


def test_epochs_per_training(teacher, make, data, validation):
    trainings = distill_chain(
        [teacher, make("assistant"), make("student")], data, epochs=[1, 2], validation_data=validation, **QUIET
    ).trainings
    assert [record.epochs for record in trainings] == [1, 2]
    last = trainings[-1]
    assert last.metrics == {"loss": last.history["val_loss"][-1], "accuracy": last.history["val_accuracy"][-1]}
    assert last.best == {"loss": min(last.history["val_loss"]), "accuracy": max(last.history["val_accuracy"])}


def test_a_pipeline_with_a_cached_teacher(teacher, make, data, tmp_path):
    pipeline = Pipeline(data, batch_size=16, seed=4)
    cached = kd.teachers.CachedTeacher.build(teacher, pipeline, tmp_path / "cache", dtype="float32", progress=False)
    chains = []
    for first in (cached, teacher):
        keras.utils.set_random_seed(0)
        chains.append(distill_chain([first, make("assistant"), make("student")], pipeline, epochs=2, **QUIET))
    for one, other in zip(chains[0].models, chains[1].models, strict=True):
        for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_data_set(teacher, make, data):
    batches = tf.data.Dataset.from_tensor_slices(data).batch(16)
    record = distill_chain([teacher, make("student")], batches, epochs=2, **QUIET).trainings[0]
    assert record.epochs == 2 and record.history["loss"][1] < record.history["loss"][0]


# Interruptions.


@pytest.fixture(scope="module")
def call(teacher, make, data, validation):
    """Runs the same chain each time, in a folder; models are passed as functions or built from a seed."""

    def call(folder, *callbacks, first=teacher, functions=True, models=None, **settings):
        if models is None:
            models = [lambda: make("assistant", 8), lambda: make("student", 4)]
            keras.utils.set_random_seed(9)
            models = models if functions else [function() for function in models]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
            return distill_chain(
                [first, *models],
                **{"data": data, "epochs": EPOCHS, "validation_data": validation, "batch_size": 16, "folder": folder}
                | {"optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.9)}
                | {"callbacks": callbacks, **QUIET, **settings},
            )

    return call


@pytest.fixture(scope="module")
def whole(call):
    """The result of an uninterrupted call, by its settings."""
    chains = {}

    def whole(**settings):
        key = repr(settings)
        chains[key] = chains.get(key) or call(None, **settings)
        return chains[key]

    return whole


@pytest.fixture(scope="module")
def original(call, tmp_path_factory):
    """A folder with a finished chain of one epoch per training, and that chain."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, call(folder, epochs=[1, 1])


@pytest.fixture
def finished(original, tmp_path):
    """A copy of that folder that tests may change."""
    return shutil.copytree(original[0], tmp_path / "folder")


def assert_same_chain(one, other):
    for a, b in zip(one.models, other.models, strict=True):
        assert_same_weights(a, b)
    assert [record.history for record in one.trainings] == [record.history for record in other.trainings]


@pytest.mark.parametrize(
    ("model", "epoch", "settings"),
    [
        ("assistant", 0, {}),
        ("student", 0, {"losses": HINT}),
        ("student", 1, {}),
        ("student", 1, {"functions": False}),
        ("student", 1, {"guidance": "all", "drop": 0.3}),
    ],
)
@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_killed_and_called_again(model, epoch, settings, call, whole, tmp_path):
    with pytest.raises(Killed):
        call(tmp_path, Kill(model, epoch), **settings)
    assert (tmp_path / "training-1.keras").exists() == (model == "student")
    resumed = call(tmp_path, *([Late(model, epoch)] if epoch else []), **settings)
    assert_same_chain(resumed, whole(**settings))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".lock") == [
        f"training-{number}.{suffix}" for number in (1, 2) for suffix in ("json", "keras")
    ]


def test_killed_and_called_again_with_the_same_models(make, call, whole, tmp_path):
    """As in a notebook, when the cell is run again."""
    keras.utils.set_random_seed(9)
    models = [make("assistant", 8), make("student", 4)]
    initial = models[1].get_weights()
    with pytest.raises(Killed):
        call(tmp_path, Kill("student", 1), models=models)
    for weight, value in zip(models[1].get_weights(), initial, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert_same_chain(call(tmp_path, models=models), whole(functions=False))


def test_a_finished_training_is_not_repeated(call, original):
    folder, chain = original
    again = call(folder, Forbidden(), epochs=[1, 1])
    assert_same_chain(again, chain)
    assert again.trainings == chain.trainings
    assert_same_weights(keras.models.load_model(folder / "training-2.keras"), chain.student)


def test_a_damaged_stamp_counts_as_unfinished(call, finished):
    (finished / "training-1.json").write_text('{"key":')
    with pytest.raises(AssertionError, match="nothing should be trained"):
        call(finished, Forbidden(), epochs=[1, 1])


def relabeled(data):
    return data[0], (data[1] + 1) % 10


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"epochs": EPOCHS + 1},
        lambda data: {"alpha": 0.7},
        lambda data: {"alpha": kd.schedules.Linear(0.9, 0.5, steps=3)},
        lambda data: {"optimizer": keras.optimizers.Adam(0.01)},
        lambda data: {"seed": 1},
        lambda data: {"losses": ["logit_regression"]},
        lambda data: {"data": relabeled(data)},
        lambda data: {"data": (data[0] * 2, data[1])},
        lambda data: {"batch_size": 20},
    ],
)
def test_changed_arguments_retrain(change, call, data, finished):
    changed = {"epochs": [1, 1]} | change(data)
    with pytest.raises(AssertionError, match="nothing should be trained"):
        call(finished, Forbidden(), **changed)


def test_another_teacher_retrains(call, teacher, finished):
    other = keras.models.clone_model(teacher)
    other.set_weights([weight * 1.01 for weight in teacher.get_weights()])
    with pytest.raises(AssertionError, match="nothing should be trained"):
        call(finished, Forbidden(), first=other, epochs=[1, 1])


def test_a_change_in_the_second_leaves_the_first(call, finished):
    trained = []

    class Names(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            trained.append(self.model.student.name)

    call(finished, Names(), epochs=[1, 2])
    assert trained == ["student"]


@pytest.mark.parametrize("kill_at", [1, 2])
def test_killed_while_a_training_is_saved(kill_at, call, whole, finished, monkeypatch):
    """At the move of the model and at the move of its stamp, with files of an older run in place."""
    move, moves = files.move, []

    def killed(draft, file):
        if file.name.startswith("training-"):
            moves.append(file)
            if len(moves) == kill_at:
                raise Killed
        move(draft, file)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(files, "move", killed)
        call(finished)
    assert_same_chain(call(finished), whole())


def test_seconds_include_all_interrupted_parts(call, tmp_path, monkeypatch):
    clock = itertools.count(0, 7)
    monkeypatch.setattr(training, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    with pytest.raises(Killed):
        call(tmp_path, Kill("student", 1))
    assert [record.seconds for record in call(tmp_path).trainings] == [7 * EPOCHS, 7 * EPOCHS]


# Progress and output.


def test_the_table(make):
    metrics = {"loss": 0.7, "accuracy": 0.81}, {"loss": 0.6, "accuracy": 0.85}
    trainings = (
        TrainingRecord("assistant", ("teacher",), 12_345, 30, 71.6, *metrics, {}),
        TrainingRecord("student", ("teacher", "assistant"), 678, 5, 0.4, {"accuracy": 0.5}, {"accuracy": 0.5}, {}),
    )
    expected = """
model      parameters  taught by           epochs  seconds  accuracy  best
---------  ----------  ------------------  ------  -------  --------  ------
assistant  12,345      teacher             30      72       0.8100    0.8500
student    678         teacher, assistant  5       0        0.5000    0.5000
"""
    assert str(Chain((make("assistant"), make("student")), trainings)) == expected.strip()


def test_a_record_counts_parameters(teacher, make, data):
    (record,) = distill_chain([teacher, make("student")], data, epochs=1, **QUIET).trainings
    assert record.parameters == 64 * 4 + 4 + 4 * 4 + 4 * 10 + 10 == 326


def test_the_table_without_validation_data(teacher, make, data):
    chain = distill_chain([teacher, make("student")], data, epochs=1, **QUIET)
    assert "accuracy" not in str(chain) and chain.trainings[0].metrics == {}


def test_progress(call, tmp_path, capsys):
    call(tmp_path, progress=True, epochs=1)
    shown = capsys.readouterr().out
    assert "assistant, taught by teacher" in shown and "student, taught by assistant" in shown
    call(tmp_path, progress=True, epochs=1)
    shown = capsys.readouterr().out
    assert "assistant: loaded from" in shown and "taught by" not in shown
    call(tmp_path, progress=False, epochs=1)
    assert capsys.readouterr().out == ""


# Rejected arguments.


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (lambda teacher, make: [teacher], "a list of 1"),
        (lambda teacher, make: teacher, "a teacher and at least one model"),
        (lambda teacher, make: [lambda: teacher, make("student")], "which would build an untrained model"),
        (lambda teacher, make: [teacher, "student"], "must be a built keras.Model. Received: str"),
        (lambda teacher, make: [teacher, lambda: 3], "must be a built keras.Model. Received: int"),
        (lambda teacher, make: [teacher, keras.Sequential([layers.Dense(10)])], "is not built.*keras.Input"),
        (lambda teacher, make: [teacher, teacher], "appears twice.*Pass a function"),
        (lambda teacher, make: [teacher, make("a"), make("b", classes=7)], "'a' with 10, 'b' with 7"),
        (lambda teacher, make: [teacher, make("a", classes=7)], "'teacher' with 10, 'a' with 7"),
    ],
)
def test_models_that_do_not_form_a_chain(models, message, teacher, make, data):
    with pytest.raises(ConfigurationError, match=message):
        distill_chain(models(teacher, make), data, epochs=1, callbacks=[Forbidden()], **QUIET)


def test_a_missing_teacher(make, data, tmp_path):
    with pytest.raises(TeacherError, match="does not exist"):
        distill_chain([tmp_path / "teacher.keras", make("student")], data, epochs=1, **QUIET)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance": "none"}, "'previous', 'all'"),
        ({"drop": 0.2}, "requires several teachers"),
        ({"guidance": "all", "drop": 1.0}, "drop <= 0.99"),
        ({"guidance": "all", "losses": ["hint"]}, "which compare with one teacher"),
        ({"epochs": 0}, "at least 1"),
        ({"epochs": [1]}, "a list of 2"),
        ({"alpha": 2}, "alpha"),
    ],
)
def test_settings_out_of_range(settings, message, teacher, make, data):
    with pytest.raises(ConfigurationError, match=message):
        distill_chain([teacher, make("a"), make("b")], data, **{"epochs": 1, **QUIET, **settings})


def test_a_batch_size_for_a_pipeline(teacher, make, data):
    with pytest.raises(ConfigurationError, match="applies to arrays only. Received: batch_size=16 with a Pipeline"):
        distill_chain([teacher, make("a")], Pipeline(data), epochs=1, batch_size=16, **QUIET)


def test_all_does_not_support_a_cached_teacher(teacher, make, data, tmp_path):
    pipeline = Pipeline(data)
    cached = kd.teachers.CachedTeacher.build(teacher, pipeline, tmp_path, progress=False)
    with pytest.raises(ConfigurationError, match="a CachedTeacher, whose outputs come with"):
        distill_chain([cached, make("a"), make("b")], pipeline, epochs=1, guidance="all", **QUIET)


def test_no_generations(teacher, make, data):
    with pytest.raises(ConfigurationError, match="1 <= generations"):
        born_again(teacher, lambda: make("model"), 0, data, epochs=1)


def test_an_untrained_teacher_is_reported(make, data):
    with pytest.warns(Notice, match="'raw' looks untrained"):
        distill_chain([make("raw", 16), make("student")], data, epochs=1, **QUIET)


def test_a_concurrent_call_is_rejected(call, tmp_path):
    with locked(tmp_path / ".lock"), pytest.raises(ConfigurationError, match=f"process {os.getpid()} on .* is using"):
        call(tmp_path, Forbidden(), epochs=[1, 1])


def test_the_stamp_identifies_the_model(original):
    folder, _ = original
    stamp = json.loads((folder / "training-2.json").read_text())
    assert stamp["record"]["name"] == "student" and stamp["record"]["teachers"] == ["assistant"]
    assert stamp["final"] == fingerprint(keras.models.load_model(folder / "training-2.keras"))
