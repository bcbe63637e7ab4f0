"""The contract of a step: pure parts, explicit state, and step files that only compute and apply the gradient."""

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.losses import ContrastiveKD, SoftTargets, Weighted
from keras_kd.teachers import Batch, FrozenTeacher, ModelOutputs

L = keras.layers
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6)).astype("float32"), rng.integers(0, 4, 12)


def network(units=5, **settings):
    return keras.Sequential([keras.Input((6,)), L.Dense(units, "tanh", name="inner"), L.Dense(4, **settings)])


def compiled(teacher, student, optimizer=None, **settings):
    distiller = kd.Distiller(teacher, student, **settings)
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), loss=CROSS_ENTROPY(from_logits=True))
    return distiller


def test_two_students_teach_each_other_in_one_step(data):
    """Deep mutual learning (Zhang et al., 2018) from the parts of two distillers, against plain Keras."""
    x, y = data
    students = network(5), network(3)
    copies = [keras.models.clone_model(student) for student in students]
    for copy, student in zip(copies, students, strict=True):
        copy.set_weights(student.get_weights())

    pair = [compiled(peer, own, alpha=0.5, temperature=1.0) for own, peer in (students, students[::-1])]
    batch = pair[0].prepare_batch((x, y))
    with tf.GradientTape(persistent=True) as tape:
        studied = [distiller.study(batch.x) for distiller in pair]
        peers = [keras.tree.map_structure(keras.ops.stop_gradient, logits) for _, logits in reversed(studied)]
        loss = 0.0
        for distiller, own, peer in zip(pair, studied, peers, strict=True):
            loss += distiller.loss_and_parts(batch, peer, step=0, studied=own).loss
    for distiller in pair:
        variables = distiller.trainable_variables
        distiller.optimizer.apply(tape.gradient(loss, variables), variables)

    with tf.GradientTape(persistent=True) as tape:
        logits = [copy(x) for copy in copies]
        expected = 0.0
        for own, peer in (logits, logits[::-1]):
            p, log_p = tf.nn.softmax(tf.stop_gradient(peer)), tf.nn.log_softmax(tf.stop_gradient(peer))
            divergence = tf.reduce_mean(tf.reduce_sum(p * (log_p - tf.nn.log_softmax(own)), axis=-1))
            expected += 0.5 * CROSS_ENTROPY(from_logits=True)(y, own) + 0.5 * divergence
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for copy, student in zip(copies, students, strict=True):
        slopes = tape.gradient(expected, copy.trainable_variables)
        for weight, slope, after in zip(copy.weights, slopes, student.weights, strict=True):
            np.testing.assert_allclose(after, weight - 0.1 * slope, atol=1e-6)


def distiller_of_many_parts():
    terms = [
        Weighted(SoftTargets(temperature=2.0), 0.5),
        ContrastiveKD(teacher="inner", student="inner", memory_size=8),
    ]
    student = keras.Sequential([keras.Input((6,)), L.Dense(5, name="inner"), L.BatchNormalization(), L.Dropout(0.5)])
    student.add(L.Dense(4, kernel_regularizer="l2"))
    return compiled(network(), student, losses=terms)


def test_the_parts_are_a_function_of_explicit_state(data):
    """All variables are passed in: other values give another loss, and the variables themselves do not change."""
    x, y = data
    distiller = distiller_of_many_parts()
    batch = distiller.prepare_batch((x, y))
    state = [*distiller.variables, *distiller.frozen_state]
    assert len({id(variable) for variable in state}) == len(state)
    before = [np.array(variable) for variable in state]

    def loss_with(other):
        mapping = [(v, keras.ops.convert_to_tensor(other.get(id(v), b))) for v, b in zip(state, before, strict=True)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            targets = distiller.teach(batch)
            parts = distiller.loss_and_parts(batch, targets, step=0)
        return float(parts.loss), {id(v): np.array(scope.get_current_value(v)) for v in state}

    loss, after = loss_with({})
    assert loss_with({})[0] == loss
    for variable in distiller.frozen_state:
        np.testing.assert_array_equal(after[id(variable)], variable)
    changed = [v.path for v, b in zip(state, before, strict=True) if not np.array_equal(after[id(v)], b)]
    for name in ("moving_mean", "moving_variance", "seed_generator_state", "teacher_memory"):
        assert any(name in path for path in changed), name
    for variable, value in zip(state, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    named = {v.name: id(v) for v in distiller.frozen_state if v.name in ("alpha", "weight")}
    assert len(named) == 2
    others = [{named["alpha"]: np.float32(0.9)}, {named["weight"]: np.float32(0.1)}]
    others.append({id(distiller.teacher.variables[0]): np.zeros((6, 5), "float32")})
    assert all(abs(loss_with(other)[0] - loss) > 1e-3 for other in others)


def test_the_frozen_state_is_what_no_other_list_has(data):
    teacher = network()
    distiller = compiled(FrozenTeacher(teacher, dtype="float32"), network(), losses=[Weighted(SoftTargets(), 2.0)])
    distiller.train_on_batch(*data)
    frozen = {id(variable) for variable in distiller.frozen_state}
    assert {id(variable) for variable in teacher.variables} < frozen
    assert len(frozen) == 2 * len(teacher.variables) + 3  # the copy's weights; alpha, temperature and a weight
    metrics = {id(variable) for variable in distiller.metrics_variables}
    assert {id(variable) for variable in distiller.trackers.variables} <= metrics
    assert not frozen & (
        {id(v) for v in distiller.variables} | {id(v) for v in distiller.optimizer.variables} | metrics
    )


def test_shared_frozen_layers_are_listed_once():
    shared = L.Dense(5, trainable=False)
    teacher, student = (keras.Sequential([keras.Input((6,)), shared, L.Dense(4)]) for _ in range(2))
    distiller = compiled(teacher, student)
    own = {id(variable) for variable in distiller.variables}
    assert {id(v) for v in shared.variables} <= own and not own & {id(v) for v in distiller.frozen_state}


def test_a_step_file_has_the_gradient_and_nothing_more():
    source = Path(inspect.getfile(kd.Distiller)).with_name("_tensorflow.py").read_text()
    assert len(source.splitlines()) < 60
    for word in ("alpha", "temperature", "sample_weight", "unlabeled", "keras_kd"):
        assert word not in source, word


def test_a_teacher_that_returns_a_dict_is_refused(data):
    class Flat(kd.teachers.Teacher):
        fingerprint, output_shapes = "flat", {"output": (None, 4)}

        def __call__(self, batch, taps=()):
            return {"output": batch.x[:, :4]}

    with pytest.raises(kd.errors.ConfigurationError, match="Flat.*a dict.*ModelOutputs"):
        compiled(Flat(), network()).train_on_batch(*data)


class Recording(kd.teachers.Teacher):
    """Records the batches that it is called with."""

    fingerprint, output_shapes = "recording", {"output": (None, 4)}

    def __init__(self):
        self.batches = []

    def __call__(self, batch, taps=()):
        self.batches.append(batch)
        return ModelOutputs({"output": batch.x[:, :4]})


def test_a_batch_has_the_ids_and_the_view_of_its_pipeline(data):
    teacher = Recording()
    distiller = kd.Distiller(teacher, network())
    distiller.compile("sgd", loss=CROSS_ENTROPY(from_logits=True), run_eagerly=True)
    pipeline = kd.Pipeline(data, augment=kd.data.GaussianNoise(0.1), batch_size=5, seed=3)
    distiller.fit(pipeline, epochs=2, verbose=0)
    batches = [batch for batch in teacher.batches if hasattr(batch.x, "numpy")]
    assert [batch.view.numpy().tolist() for batch in batches] == [[e] * n for e in (0, 1) for n in (5, 5, 2)]
    for epoch in (0, 1):
        ids = np.concatenate([batch.ids for batch in batches[3 * epoch : 3 * epoch + 3]])
        np.testing.assert_array_equal(ids, kd.data.epoch_order(12, 3, epoch))
    for batch in batches:
        np.testing.assert_array_equal(batch.x, pipeline.batch(batch.ids, int(batch.view[0]))[0])
        assert batch.teacher_outputs is None
    distiller.train_on_batch(*data)
    assert teacher.batches[-1].ids is None and teacher.batches[-1].view is None
    assert set(Batch.of((data[0],))[3:]) == {None}


def test_the_losses_get_the_ids(data):
    seen = []

    class Looking(SoftTargets):
        def call(self, teacher, student, context):
            seen.append((context.ids, context.view))
            return super().call(teacher, student, context)

    distiller = kd.Distiller(network(), network(), losses=[Looking()])
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(kd.Pipeline(data, batch_size=12, shuffle=False), verbose=0)
    np.testing.assert_array_equal(seen[-1][0], np.arange(12))
    np.testing.assert_array_equal(seen[-1][1], np.zeros(12))
