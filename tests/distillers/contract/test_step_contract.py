"""The contract of a Distiller on every backend; `test_on_jax.py` runs this file again on JAX."""

import contextlib

import every_loss
import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd import losses
from keras_kd.errors import ConfigurationError
from keras_kd.losses.multi_teacher import soft_targets_per_teacher
from keras_kd.teachers import Batch, Ensemble, Panel

L = keras.layers
IS_JAX = keras.backend.backend() == "jax"
NUM_CLASSES = 5
pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")  # notices about projectors


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, NUM_CLASSES, 48)


def network(width, *, norm=True, dropout=0.0, name=None):
    inputs = keras.Input((6,))
    x = L.Dense(width, use_bias=not norm, name="hidden")(inputs)  # else Adam amplifies the rounding of a zero gradient
    x = L.BatchNormalization(name="norm")(x) if norm else x
    x = L.ReLU(name="relu")(x)
    x = L.Dropout(dropout)(x) if dropout else x
    return keras.Model(inputs, L.Dense(NUM_CLASSES, name="head")(x), name=name)


def twin(model):
    """A model with the same weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def from_logits(**settings):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **settings)


def distiller_of(teacher, student, *, compiled=None, **settings):
    distiller = kd.Distiller(teacher, student, **settings)
    compiled = {"optimizer": keras.optimizers.Adam(0.01), "loss": from_logits(), **(compiled or {})}
    distiller.compile(**compiled)
    return distiller


def assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_fit_evaluate_and_predict(data):
    x, y = data
    student = network(4, dropout=0.2)
    distiller = distiller_of(network(8), student, compiled={"metrics": ["accuracy"]})
    history = distiller.fit(x, y, batch_size=16, epochs=2, validation_data=(x, y), verbose=0).history
    names = {"loss", "student_loss", "distillation_loss", "soft_targets", "alpha", "accuracy"}
    assert set(history) == names | {"val_loss", "val_accuracy"}
    student.compile(loss=from_logits(), metrics=["accuracy"])
    expected = student.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(distiller.evaluate(x, y, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose([history["val_loss"][-1], history["val_accuracy"][-1]], expected, rtol=1e-5)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), student.predict(x, verbose=0), atol=1e-6)
    logs = distiller.test_on_batch(x, y, return_dict=True)
    assert logs == {"loss": pytest.approx(expected[0]), "accuracy": pytest.approx(expected[1])}


def test_steps_are_the_same_however_they_are_executed(data):
    x, y = data
    teacher, student = network(8), network(4)
    trained = []
    for settings in ({}, {"steps_per_execution": 2}, {"run_eagerly": True}):
        distiller = distiller_of(teacher, twin(student), compiled=settings)
        distiller.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        trained.append(distiller.student)
    assert int(distiller.optimizer.iterations) == 6
    for other in trained[1:]:
        assert_same_weights(trained[0], other, atol=1e-5)


def test_alpha_and_temperature_react_at_the_next_step_without_a_retrace(data):
    x, y = data
    traces = []

    class Counting(L.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    inputs = keras.Input((6,))
    student = keras.Model(inputs, L.Dense(NUM_CLASSES)(Counting()(inputs)))
    teacher, expected = network(8), network(4)
    distiller = distiller_of(teacher, student, alpha=0.9, temperature=4.0, compiled={"optimizer": "sgd"})
    distiller.train_on_batch(x, y)
    traces.clear()
    before = student.get_weights()
    for alpha, temperature in ((0.5, 4.0), (0.0, 2.0), (0.7, 1.0)):
        student.set_weights(before)
        distiller.alpha, distiller.temperature = alpha, temperature
        logs = distiller.train_on_batch(x, y, return_dict=True)
        assert logs["alpha"] == pytest.approx(alpha)
        expected = (1 - alpha) * logs["student_loss"] + alpha * logs["distillation_loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
        student.set_weights(before)
        soft = losses.soft_targets(teacher(x), student(x), temperature=temperature)
        assert logs["soft_targets"] == pytest.approx(float(keras.ops.mean(soft)), rel=1e-5)
    # only the manual forward passes above
    assert len(traces) == 3


def test_a_callback_changes_alpha_between_two_steps_of_fit(data):
    x, y = data

    class Change(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.alpha = 0.25 * batch

        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["alpha"]))

    seen = []
    distiller_of(network(8), network(4)).fit(x, y, batch_size=16, callbacks=[Change()], verbose=0)
    assert seen == pytest.approx([0.0, 0.25, 0.5])


def test_the_teacher_is_neither_changed_nor_saved(data, tmp_path):
    x, y = data
    teacher, student = network(8, dropout=0.5), network(4)
    before = teacher.get_weights()
    distiller = distiller_of(teacher, student, losses=["soft_targets", losses.Hint(teacher="relu", student="relu")])
    distiller.fit(x, y, batch_size=16, verbose=0)
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    distiller.save_weights(tmp_path / "all.weights.h5")
    own = sum(w.size for w in student.get_weights()) + sum(v.numpy().size for v in distiller.terms[1].variables)
    assert sum(v.numpy().size for v in distiller.variables) <= own
    assert not {id(v) for v in teacher.variables} & {id(v) for v in distiller.variables}


@pytest.mark.skipif(not IS_JAX, reason="Keras' own error on TensorFlow")
def test_data_without_a_batch_are_refused(data):
    x, y = data
    with pytest.raises(ConfigurationError, match="no batches.*at least one example"):
        distiller_of(network(8), network(4)).fit(x[:0], y[:0], verbose=0)


def test_a_step_that_fails_leaves_the_student_as_it_was(data):
    x, y = data
    student = network(4)
    distiller = distiller_of(network(8), student, compiled={"metrics": ["accuracy"]})
    before = student.get_weights()
    with pytest.raises(Exception, match="label|shape|range|Shape|rank"):
        distiller.fit(x, np.zeros((48, 7, 3)), verbose=0)
    for one, other in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_student_that_starts_from_its_teacher_does_not_take_its_buffers(data):
    x, y = data
    teacher, student = network(4), network(4)
    for one, other in zip(student.variables, teacher.variables, strict=True):
        one.assign(other)
    before = teacher.get_weights()
    distiller_of(teacher, student).fit(x, y, batch_size=16, epochs=2, verbose=0)
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_variable_that_only_a_loss_reads_may_change(data):
    x, y = data
    factor = keras.Variable(1.0, trainable=False)

    def scaled(teacher, student):
        return factor * keras.ops.mean(keras.ops.square(teacher - student), axis=-1)

    distiller = distiller_of(network(8), network(4), losses=[scaled], compiled={"optimizer": keras.optimizers.SGD(0.0)})
    values = []
    for value in (1.0, 3.0):
        factor.assign(value)
        values.append(distiller.train_on_batch(x, y, return_dict=True)["scaled"])
    assert values[1] == pytest.approx(3 * values[0], rel=1e-5)


def test_a_changed_setting_takes_effect_at_the_next_step(data):
    """Settings that are constants in a compiled step: the weights of an ensemble, and schedules in place of numbers."""
    x, y = data
    ensemble = Ensemble([network(8, norm=False), network(6, norm=False)], weights="learned").learn(x, y)
    student = network(4, norm=False)
    term = losses.Weighted(losses.SoftTargets(temperature=2.0), 2.0)
    distiller = distiller_of(ensemble, student, losses=[term], compiled={"optimizer": keras.optimizers.SGD(0.0)})

    def check(weight):
        logs = distiller.train_on_batch(x, y, return_dict=True)
        soft = losses.soft_targets(ensemble(Batch(x)).outputs["output"], student(x), temperature=2.0)
        assert logs["soft_targets"] == pytest.approx(weight * float(keras.ops.mean(soft)), rel=1e-5)
        values.append(logs["soft_targets"])
        return logs

    values = []
    check(2.0)
    ensemble.learn(x, np.argmax(ensemble.members[1](Batch(x)).outputs["output"], axis=-1))
    check(2.0)
    ensemble.weights = [9, 1]
    check(2.0)
    term.weight = kd.schedules.Linear(3.0, 1.0, steps=10)
    check(3.0 - 0.2 * 3)
    term.weight = 2.0
    distiller.alpha = kd.schedules.Linear(1.0, 0.0, steps=10)
    assert check(2.0)["alpha"] == pytest.approx(0.6)
    assert len({round(value, 4) for value in values[:4]}) == 4


def test_a_callback_replaces_numbers_by_schedules_between_two_steps_of_fit(data):
    x, y = data
    term = losses.Weighted(losses.SoftTargets(), 2.0)

    class Change(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                term.weight = kd.schedules.Linear(1.0, 0.0, steps=4)
                self.model.alpha = kd.schedules.Linear(1.0, 0.0, steps=5)

        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(logs["alpha"]))

    seen = []
    distiller = distiller_of(network(8), network(4), losses=[term], alpha=0.5, compiled={"optimizer": "sgd"})
    distiller.fit(x, y, batch_size=16, callbacks=[Change()], verbose=0)
    assert seen == pytest.approx([0.5, 0.8, 0.6])
    assert term.weight == kd.schedules.Linear(1.0, 0.0, steps=4)


def test_a_variable_without_a_path_to_the_loss_stays_as_it_is(data):
    """On JAX its gradient is zero rather than None; weight decay would shrink it."""
    x, y = data

    def model():
        inputs = keras.Input((6,))
        return keras.Model(inputs, {"kind": L.Dense(NUM_CLASSES)(inputs), "unused": L.Dense(2, name="unused")(inputs)})

    student = model()
    terms = [losses.SoftTargets(teacher="kind", student="kind")]
    compiled = {"optimizer": keras.optimizers.AdamW(0.1, weight_decay=0.5), "loss": {"kind": from_logits()}}
    distiller = distiller_of(model(), student, losses=terms, compiled=compiled)
    before = student.get_weights()
    with pytest.warns(UserWarning, match="Gradients do not exist for variables .*unused"):
        distiller.fit(x, {"kind": y}, batch_size=16, verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(before, student.get_weights(), strict=True)]
    assert moved[0] > 0.01 and moved[2:] == [0.0, 0.0]


def test_batches_without_labels(data):
    x, y = data
    teacher, student = network(8), network(4)
    one = distiller_of(teacher, student, alpha=0.3, compiled={"metrics": ["accuracy"]})
    other = distiller_of(teacher, twin(student), alpha=1.0, compiled={"metrics": ["accuracy"]})
    history = one.fit(x, batch_size=16, shuffle=False, verbose=0).history
    assert set(history) == {"loss", "distillation_loss", "soft_targets", "alpha"}
    other.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert_same_weights(one.student, other.student)


def test_examples_without_labels_follow_the_teacher_alone(data):
    x, y = data
    y = np.where(np.arange(48) % 3, y, -1)
    teacher, student = network(8, norm=False), network(4, norm=False)
    z, t = student.predict(x, verbose=0).astype("float64"), teacher.predict(x, verbose=0).astype("float64")
    distiller = distiller_of(
        teacher, student, alpha=0.4, temperature=2.0, compiled={"loss": from_logits(ignore_class=-1)}
    )
    logs = distiller.train_on_batch(x, y, return_dict=True)

    def log_softmax(values):
        values = values - values.max(-1, keepdims=True)
        return values - np.log(np.exp(values).sum(-1, keepdims=True))

    p, q = log_softmax(t / 2.0), log_softmax(z / 2.0)
    soft = 4.0 * (np.exp(p) * (p - q)).sum(-1)
    labeled = y != -1
    supervised = -log_softmax(z)[labeled, y[labeled]].sum() / labeled.sum()
    weighed = np.where(labeled, 0.4, 1.0) * soft
    assert logs["loss"] == pytest.approx(0.6 * supervised + weighed.mean(), rel=1e-4)


def test_weights_of_examples_and_classes(data):
    x, y = data
    weight = np.linspace(0.5, 2.0, NUM_CLASSES)
    teacher, student = network(8), network(4)
    by_class = distiller_of(teacher, twin(student))
    by_class.fit(x, y, batch_size=16, shuffle=False, class_weight=dict(enumerate(weight)), verbose=0)
    by_example = distiller_of(teacher, student)
    by_example.fit(x, y, batch_size=16, shuffle=False, sample_weight=weight[y].astype("float32"), verbose=0)
    assert_same_weights(by_class.student, by_example.student)


def test_several_outputs(data):
    x, y = data

    def model(width):
        inputs = keras.Input((6,))
        hidden = L.Dense(width, activation="relu")(inputs)
        return keras.Model(inputs, {"kind": L.Dense(NUM_CLASSES)(hidden), "size": L.Dense(1)(hidden)})

    compiled = {"loss": {"kind": from_logits(), "size": "mse"}, "metrics": {"kind": ["accuracy"]}}
    distiller = distiller_of(model(8), model(4), compiled=compiled)
    labels = {"kind": y, "size": x[:, :1]}
    history = distiller.fit(x, labels, batch_size=16, validation_data=(x, labels), verbose=0).history
    assert {"kind_accuracy", "val_kind_accuracy", "val_loss"} <= set(history)
    assert all(np.isfinite(values).all() for values in history.values())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(data, policy):
    x, y = data
    teacher, plain = network(8), network(4)
    keras.config.set_dtype_policy(policy)
    try:
        student = network(4)
        student.set_weights(plain.get_weights())
        distiller = distiller_of(teacher, student, compiled={"optimizer": keras.optimizers.SGD(0.1)})
    finally:
        keras.config.set_dtype_policy("float32")
    logs = distiller.train_on_batch(x, y, return_dict=True)
    exact = distiller_of(teacher, plain, compiled={"optimizer": keras.optimizers.SGD(0.1)})
    assert logs["loss"] == pytest.approx(exact.train_on_batch(x, y, return_dict=True)["loss"], rel=0.03)
    assert hasattr(distiller.optimizer, "inner_optimizer") == (policy == "mixed_float16")
    assert_same_weights(student, plain, atol=0.03)


def test_several_teachers_and_a_student_built_by_its_first_batch(data):
    x, y = data
    student = keras.Sequential([L.Dense(4, activation="relu"), L.Dense(NUM_CLASSES)])
    teachers = Ensemble([network(8), network(6)], weights="confidence")
    history = distiller_of(teachers, student).fit(x, y, batch_size=16, verbose=0).history
    assert np.isfinite(history["soft_targets"]).all()
    student = network(4)
    terms = soft_targets_per_teacher(student, ["teacher_1", "teacher_2"], drop=0.5, seed=0)
    distiller = distiller_of(Panel([network(8), network(6)]), student, losses=terms)
    assert np.isfinite(distiller.fit(x, y, verbose=0).history["loss"]).all()


def test_the_state_of_a_training_resumes_bit_for_bit(data, tmp_path):
    x, y = data

    class Killed(BaseException):
        pass

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Killed

    def make():
        keras.utils.set_random_seed(1)
        terms = ["soft_targets", losses.Hint(teacher="relu", student="relu"), losses.ContrastiveKD(memory_size=16)]
        alpha = kd.schedules.Linear(0.9, 0.1, steps=9)
        return distiller_of(network(8), network(4, dropout=0.3), alpha=alpha, losses=terms)

    def fit(distiller, *callbacks):
        return distiller.fit(x, y, batch_size=16, epochs=3, shuffle=False, callbacks=list(callbacks), verbose=0)

    whole = make()
    fit(whole)
    with pytest.raises(Killed):
        fit(make(), kd.callbacks.Resume(tmp_path, every_seconds=0.0), Kill())
    resumed = make()
    history = fit(resumed, kd.callbacks.Resume(tmp_path, every_seconds=0.0)).history
    assert len(history["loss"]) == 3
    assert_same_weights(whole, resumed, atol=0)


@pytest.mark.parametrize("name", every_loss.NAMES)
def test_every_kind_of_loss_learns_in_one_step_without_a_leak(name):
    """All in one step, since compiling takes longer than computing; on JAX no tracer outlives it."""
    distiller, data = every_loss.make(name)
    before = {term.name: [np.array(w) for w in term.get_weights()] for term in distiller.terms}
    with no_leaks():
        logs = distiller.train_on_batch(*data, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())
    for term in distiller.terms:
        after = term.get_weights()
        assert not after or any((a != b).any() for a, b in zip(before[term.name], after, strict=True)), term.name


def no_leaks():
    if not IS_JAX:
        return contextlib.nullcontext()
    import jax

    return jax.checking_leaks()


@pytest.mark.skipif(not IS_JAX, reason="TensorFlow reads variables where they are")
def test_no_weight_is_a_constant_of_the_compiled_step(data):
    import jax

    from keras_kd.distillers._jax import FedBatch

    distiller = distiller_of(network(64), network(4))
    distiller.train_on_batch(*data)
    groups = (
        distiller.trainable_variables,
        distiller.non_trainable_variables,
        distiller.optimizer.variables,
        distiller.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in groups)
    frozen = [variable.value for variable in distiller.frozen_state]
    assert sum(value.size for value in frozen) > 64 * 6
    program = jax.make_jaxpr(distiller.train_step)(state, FedBatch(frozen, data))
    assert max((np.size(constant) for constant in program.consts), default=0) <= 8
