"""Properties of every distillation loss. A new loss is one more row of `loss_table.py`."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import ROWS, context, draw, each, value

import keras_kd as kd
from keras_kd.losses import DecoupledKD, Hint, Weighted, for_keras, get
from keras_kd.losses.base import registry
from keras_kd.serialization import deserialize, serialize

layers = keras.layers


def test_every_registered_loss_has_a_row():
    made = {type(row.make()).__name__ for row in ROWS.values()}
    assert {cls.__name__ for cls in registry.members} <= made


def test_zero_when_student_equals_teacher(row):
    if not row.is_zero:
        pytest.skip("not by its definition")
    teacher = draw(row.teacher)
    assert value(row.make(), row, teacher, teacher) == pytest.approx(0.0, abs=1e-5)


def test_positive_when_student_differs(row):
    assert abs(value(row.make(), row, draw(row.teacher), draw(row.student, seed=1))) > 1e-5


def test_is_invariant_to_the_order_of_the_batch(row):
    loss, teacher, student = row.make(), draw(row.teacher), draw(row.student, seed=1)
    order = np.random.default_rng(1).permutation(6)
    straight = value(loss, row, teacher, student)
    assert value(loss, row, teacher, student, order) == pytest.approx(straight, rel=1e-4)


def test_a_sample_weight_of_0_equals_removing_the_row(row):
    loss, teacher, student = row.make(), draw(row.teacher), draw(row.student, seed=1)
    weight = np.float32([1, 1, 0, 1, 0, 1])
    weighted = value(loss, row, teacher, student, sample_weight=weight) * 6  # times 6: the sum over the batch
    removed = value(loss, row, teacher, student, np.flatnonzero(weight)) * 4
    assert weighted == pytest.approx(removed, rel=1e-4, abs=1e-6)


def test_sample_weights_multiply(row):
    loss, teacher, student = row.make(), draw(row.teacher), draw(row.student, seed=1)
    doubled = value(loss, row, teacher, student, sample_weight=np.full(6, 2.0, "float32"))
    assert doubled == pytest.approx(2 * value(loss, row, teacher, student), rel=1e-5)


@pytest.mark.parametrize(
    ("size", "dtype", "batch"), [(0.0, "float32", 4), (60.0, "float16", 4), (1e4, "float32", 4), (1e4, "float16", 1)]
)
def test_gradients_are_finite_at_any_size(row, size, dtype, batch):
    loss, about = row.make(), context(row, batch=batch)
    if dtype == "float16" and (row.positions or isinstance(row.teacher, list) or len(row.teacher) == 3):
        size = min(size, 60.0)  # the gradient of a product of two features overflows half precision
    teacher = each(lambda x: np.sign(x).astype(dtype) * dtype_size(size, dtype), draw(row.teacher, batch))
    student = each(lambda x: tf.Variable(-np.sign(x).astype(dtype) * dtype_size(size, dtype)), draw(row.student, batch))
    with tf.GradientTape() as tape:
        result = loss(teacher, each(tf.convert_to_tensor, student), context=about)
    assert np.isfinite(float(result)) and result.dtype == tf.float32
    gradients = keras.tree.flatten(tape.gradient(result, student))
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def dtype_size(size, dtype):
    return np.asarray(size, dtype)


def test_config_round_trip(row):
    loss, teacher, student = row.make(), draw(row.teacher), draw(row.student, seed=1)
    before = value(loss, row, teacher, student)
    again = deserialize(serialize(loss))
    assert type(again) is type(loss) and again.name == loss.name
    assert serialize(again) == serialize(loss)
    assert again.built and len(again.weights) == len(loss.weights)
    for mine, theirs in zip(again.weights, loss.weights, strict=True):
        mine.assign(theirs)
    assert value(again, row, teacher, student) == pytest.approx(before, rel=1e-6)


def test_compiles_with_xla_for_any_batch_size(row):
    loss, teacher, student = row.make(), draw(row.teacher), draw(row.student, seed=1)
    expected = value(loss, row, teacher, student)
    free = [each(lambda x: tf.TensorSpec((None, *x.shape[1:])), xs) for xs in (teacher, student)]

    @tf.function(input_signature=[*free, tf.TensorSpec((None,), "int64")], jit_compile=True)
    def compiled(teacher, student, labels):
        about = dataclasses.replace(context(row), labels=labels if row.labels else None)
        return loss(teacher, student, context=about)

    assert float(compiled(teacher, student, np.arange(6))) == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_trains_a_student_in_the_distiller(row):
    """One step with models that have layers of these shapes is finite and changes the student."""
    teacher, student = (tapped_model(shapes) for shapes in (row.teacher, row.student))
    taps = [f"tap_{index}" for index in range(len(row.teacher))] if isinstance(row.teacher, list) else "tap_0"
    loss = row.make()
    if isinstance(loss, DecoupledKD) and len(row.teacher) > 1:
        pytest.skip("the labels of this batch are of examples, not of tokens")
    loss.teacher = loss.student = tuple(taps) if isinstance(taps, list) else taps
    if isinstance(loss, Weighted):
        loss.loss.teacher = loss.loss.student = taps
    distiller = kd.Distiller(teacher, student, alpha=0.9, losses=[loss])
    distiller.compile(keras.optimizers.SGD(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [w.copy() for w in student.get_weights()]
    x, y = np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.arange(6) % 10
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(logs["loss"]) and logs["distillation_loss"] == logs[loss.name] != 0
    taps_kernel = [weight.path for weight in student.weights].index(student.layers[1].kernel.path)
    assert (before[taps_kernel] != student.get_weights()[taps_kernel]).any()


def tapped_model(shapes):
    """A model with layers `tap_0`, `tap_1`, ... of these shapes, and 10 logits."""
    shapes = shapes if isinstance(shapes, list) else [shapes]
    inputs = keras.Input((4,))
    taps = [
        layers.Reshape(shape, name=f"tap_{index}")(layers.Dense(int(np.prod(shape)))(inputs))
        for index, shape in enumerate(shapes)
    ]
    flat = layers.Concatenate()([layers.Flatten()(tap) for tap in [*taps, inputs]])
    return keras.Model(inputs, layers.Dense(10)(flat))


def test_works_in_the_keras_distiller(row):
    if getattr(row.make(), "examples", None):
        pytest.skip("Keras' Distiller does not give a loss on layers the teacher's logits")
    teacher, student = (tapped_model(shape) for shape in (row.teacher, row.student))
    loss = row.make()
    names = [f"tap_{index}" for index in range(len(row.teacher) if isinstance(row.teacher, list) else 1)]
    loss.teacher = loss.student = tuple(names) if loss.several_taps else names[0]
    distiller = keras.distillation.Distiller(teacher, student, distillation_losses=for_keras(loss))
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.default_rng(0).normal(size=(6, 4)).astype("float32"), np.arange(6) % 10
    taps = [each_tap(model, names, loss.several_taps)(x) for model in (teacher, student)]
    before = loss.get_weights()
    expected = loss(*taps)
    loss.set_weights(before)  # a memory would already contain this batch
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert float(logs["distillation_loss"]) == pytest.approx(float(expected), rel=1e-3, abs=1e-6)
    trained = {id(variable) for variable in distiller.trainable_variables}
    assert {id(variable) for variable in loss.trainable_variables} <= trained


def each_tap(model, names, several):
    outputs = [model.get_layer(name).output for name in names]
    return keras.Model(model.inputs[0], outputs if several else outputs[0])


def test_by_name_with_settings():
    loss = get({"name": "soft_targets", "temperature": 2.0, "activation": "sigmoid"})
    assert (loss.temperature, loss.activation) == (2.0, "sigmoid")


def test_by_name_with_a_weight():
    loss = get({"name": "hint", "teacher": "a", "student": "b", "weight": 100, "examples": "confidence"})
    assert (type(loss), loss.weight, loss.examples) == (Weighted, 100.0, "confidence")
    assert (type(loss.loss), loss.teacher, loss.student) == (Hint, "a", "b")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hint(projector="dense"), "'projector'.*'dense'.*'conv', 'linear'"),
        (lambda: Hint(teacher=3), "Received: 3.*one output or layer"),
        (lambda: Hint(teacher=["a", "b"]), "a loss of its own"),
        (lambda: for_keras("flow_of_solution"), "does not name the layers.*teacher="),
        (lambda: kd.taps("model.keras"), "not a model.*model.keras.*keras.Model"),
        (lambda: kd.match_layers("a", "b"), "not a model"),
    ],
)
def test_unreadable_taps_are_refused_at_construction(make, message):
    with pytest.raises(kd.errors.ConfigurationError, match=message):
        make()
