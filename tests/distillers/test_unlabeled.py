"""Unlabeled examples are trained with alpha 1; checked against float64 NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.special import log_softmax, softmax

import keras_kd as kd
from keras_kd.distillers.unlabeled import LabelDeclarations, Unlabeled, declared_by
from keras_kd.losses import DecoupledKD, Hint, RelationalKD, SimilarityPreserving, SoftTargets, Weighted

RATE = 0.1
L = keras.layers
SPARSE = keras.losses.SparseCategoricalCrossentropy
SOFT = keras.losses.CategoricalCrossentropy
ROWS = {
    "some": np.arange(12) % 3 != 0,
    "all": np.ones(12, bool),
    "none": np.zeros(12, bool),
}


def linear_model():
    return keras.Sequential([keras.Input((6,)), L.Dense(4)])


def tapped_model():
    return keras.Sequential([keras.Input((6,)), L.Dense(5, "tanh", name="inner"), L.Dense(4)])


def copy_of(model):
    copy = keras.models.clone_model(model)
    copy.build(model.input_shape)
    copy.set_weights(model.get_weights())
    return copy


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 6)).astype("float32"), rng.integers(0, 4, 12)


def written(labels, unlabeled, kind):
    """The labels in the form that the loss of this kind expects, and the loss."""
    if kind == "zeros":
        return np.eye(4, dtype="float32")[labels] * ~unlabeled[:, None], SOFT(from_logits=True)
    ignored, dtype = {"-1": (-1, "int64"), "255": (255, "uint8"), "column": (-1, "int32")}[kind]
    labels = np.where(unlabeled, ignored, labels).astype(dtype)
    return labels[:, None] if kind == "column" else labels, SPARSE(from_logits=True, ignore_class=ignored)


def step_by_hand(weights, teacher_logits, x, y, unlabeled, *, alpha, temperature, sample_weight, is_sparse):
    """Weights after one step of SGD, and the logs."""
    kernel, bias = (np.asarray(weight, "float64") for weight in weights)
    z, v = x.astype("float64") @ kernel + bias, teacher_logits.astype("float64")
    onehot, w = np.eye(4)[y], sample_weight.astype("float64")
    q, p = softmax(z / temperature, -1), softmax(v / temperature, -1)
    soft = temperature**2 * (p * (log_softmax(v / temperature, -1) - log_softmax(z / temperature, -1))).sum(-1)
    count = max((~unlabeled).sum(), 1) if is_sparse else 12
    share = w * ~unlabeled / count
    a = np.where(unlabeled, 1.0, alpha) * w / 12
    supervised = -(share * (onehot * log_softmax(z, -1)).sum(-1)).sum()
    d_logits = (1 - alpha) * share[:, None] * (softmax(z, -1) - onehot) + a[:, None] * temperature * (q - p)
    after = [kernel - RATE * x.T @ d_logits, bias - RATE * d_logits.sum(0)]
    loss = (1 - alpha) * supervised + (a * soft).sum()
    return after, {"loss": loss, "student_loss": supervised, "distillation_loss": (w * soft).mean()}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("kind", "weighted", "settings"),
    [
        ("-1", False, {}),
        ("-1", True, {"run_eagerly": True}),
        ("255", True, {}),
        ("column", False, {"run_eagerly": True}),
        ("zeros", True, {"run_eagerly": True}),
        ("zeros", False, {"jit_compile": True}),
        ("-1", True, {"jit_compile": True}),
    ],
)
def test_a_step_is_that_of_the_formula(data, rows, alpha, kind, weighted, settings):
    (x, y), unlabeled = data, ROWS[rows]
    weight = np.linspace(0.5, 2, 12).astype("float32") if weighted else np.ones(12, "float32")
    teacher, student = linear_model(), linear_model()
    expected, logs_expected = step_by_hand(
        student.get_weights(),
        ops.convert_to_numpy(teacher(x)),
        x,
        y,
        unlabeled,
        alpha=alpha,
        temperature=3.0,
        sample_weight=weight,
        is_sparse=kind != "zeros",
    )
    labels, loss = written(y, unlabeled, kind)
    distiller = kd.Distiller(teacher, student, alpha=alpha, temperature=3.0)
    distiller.compile(keras.optimizers.SGD(RATE), loss=loss, **settings)
    logs = distiller.train_on_batch(x, labels, sample_weight=weight if weighted else None, return_dict=True)
    for ours, theirs in zip(student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for name, value in logs_expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


LOSSES = {
    "soft targets": lambda: [SoftTargets(temperature=2.0)],
    "confidence": lambda: [Weighted(SoftTargets(), 0.5, examples="confidence")],
    "a hint": lambda: [Hint(teacher="inner", student="inner"), SoftTargets()],
    "pairs": lambda: [RelationalKD(teacher="inner", student="inner"), SimilarityPreserving()],
    "labels": lambda: [DecoupledKD(), lambda t, s: keras.ops.mean(keras.ops.abs(t - s), -1)],
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares TensorFlow's gradient tape")
@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_any_loss_is_weighed_by_example(data, losses, alpha):
    """The reference is a tape over terms computed with the weight of one example at a time."""
    (x, y), unlabeled = data, ROWS["some"]
    labels = np.where(unlabeled, -1, y)
    teacher, student = tapped_model(), tapped_model()
    by_hand = copy_of(student)
    with tf.GradientTape() as tape:
        said = []
        for model in (teacher, by_hand):
            inner = model.get_layer("inner")(x)
            said.append({"inner": inner, "out": model.layers[-1](inner)})
        context = kd.losses.Context(labels=labels, teacher_logits=said[0]["out"])
        distillation = 0.0
        for term in map(kd.losses.get, LOSSES[losses]()):
            sides = [side[term.student or "out"] for side in said]
            for row in range(12):
                # the other weights are negligible, but not 0: the row keeps its partners
                weight = np.where(np.arange(12) == row, 1.0, 1e-20).astype("float32")
                a = 1.0 if unlabeled[row] else alpha
                distillation += a * term(*sides, sample_weight=weight, context=context)
        supervised = SPARSE(from_logits=True)(y[~unlabeled], tf.boolean_mask(said[1]["out"], ~unlabeled))
        loss = (1 - alpha) * supervised + distillation
    gradients = tape.gradient(loss, by_hand.trainable_variables)
    expected = [w - RATE * g for w, g in zip(by_hand.get_weights(), gradients, strict=True)]

    distiller = kd.Distiller(teacher, student, alpha=alpha, losses=LOSSES[losses]())
    distiller.compile(keras.optimizers.SGD(RATE), loss=SPARSE(from_logits=True, ignore_class=-1), run_eagerly=True)
    logs = distiller.train_on_batch(x, labels, return_dict=True)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-4)
    for ours, theirs in zip(student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_term_that_is_one_number_has_one_alpha(data):
    (x, y), unlabeled = data, ROWS["some"]
    terms = [lambda teacher, student: keras.ops.mean(keras.ops.square(teacher - student))]
    distiller = kd.Distiller(linear_model(), linear_model(), alpha=0.25, losses=terms)
    distiller.compile(keras.optimizers.SGD(RATE), loss=SPARSE(from_logits=True, ignore_class=-1))
    logs = distiller.train_on_batch(x, np.where(unlabeled, -1, y), return_dict=True)
    expected = 0.75 * logs["student_loss"] + 0.25 * logs["distillation_loss"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-6) and logs["distillation_loss"] > 0


@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_a_mean_over_sample_weights_is_divided_by_these_and_not_by_alpha(data, alpha):
    (x, y), unlabeled = data, ROWS["some"]
    weights = np.linspace(0.0, 2, 12).astype("float32")
    teacher, student = linear_model(), linear_model()
    each = ops.convert_to_numpy(kd.losses.soft_targets(teacher(x), student(x), 4.0)).astype("float64")
    term = Weighted(SoftTargets(reduction="mean_with_sample_weight"), 3.0)
    distiller = kd.Distiller(teacher, student, alpha=alpha, losses=[term])
    distiller.compile(keras.optimizers.SGD(RATE), loss=SPARSE(from_logits=True, ignore_class=-1))
    logs = distiller.train_on_batch(x, np.where(unlabeled, -1, y), sample_weight=weights, return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(3 * np.average(each, weights=weights), rel=1e-4)
    distillation = 3 * (np.where(unlabeled, 1.0, alpha) * each * weights).sum() / weights.sum()
    assert logs["loss"] == pytest.approx((1 - alpha) * logs["student_loss"] + distillation, rel=1e-4)


@pytest.mark.parametrize("losses", [name for name in LOSSES])
@pytest.mark.parametrize("kind", ["-1", "zeros"])
def test_with_every_label_nothing_changes_by_a_bit(data, losses, kind, monkeypatch):
    x, y = data
    labels, loss = written(y, ROWS["none"], kind)
    teacher, start = tapped_model(), tapped_model()
    results = []
    for is_known in (True, False):
        if not is_known:
            monkeypatch.setattr(kd.Distiller, "_unlabeled", lambda self, batch: Unlabeled({}, {}, is_single=True))
        student = copy_of(start)
        distiller = kd.Distiller(teacher, student, alpha=0.3, losses=LOSSES[losses]())
        distiller.compile(keras.optimizers.SGD(RATE), loss=loss, run_eagerly=losses == "pairs")
        logs = [distiller.train_on_batch(x, labels, return_dict=True) for _ in range(2)]
        results.append((student.get_weights(), logs))
    # pairs of examples are summed with their weights; XLA rounds the two programs differently
    rounding = 1e-6 if losses == "pairs" or keras.backend.backend() == "jax" else 0.0
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=rounding)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        assert one == pytest.approx(other, rel=rounding, abs=0)


def test_a_loss_that_declares_nothing_takes_every_label_as_one(data):
    """-1 and +1 under a hinge loss, and regression targets, are not missing labels."""
    x, y = data
    for loss, labels in (("hinge", np.where(y > 1, 1.0, -1.0)), ("mse", np.where(y > 1, 0.0, -1.0))):
        models = [keras.Sequential([keras.Input((6,)), L.Dense(1)]) for _ in range(2)]
        distiller = kd.Distiller(*models, alpha=0.25, losses=[SoftTargets(activation="sigmoid")])
        distiller.compile("sgd", loss=loss)
        logs = distiller.train_on_batch(x, labels[:, None], return_dict=True)
        expected = 0.75 * logs["student_loss"] + 0.25 * logs["distillation_loss"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-6)


def test_which_losses_declare_missing_labels():
    class Ignoring(keras.losses.Loss):
        ignore_class = 7

        def call(self, y_true, y_pred):
            return y_pred[:, 0]

    assert [declared_by(loss) and declared_by(loss).ignore_class for loss in (SPARSE(ignore_class=0), Ignoring())] == [
        0,
        7,
    ]
    soft = (SOFT(), "CategoricalCrossentropy", keras.losses.categorical_crossentropy, "categorical_focal_crossentropy")
    assert all(declared_by(loss).ignore_class is None for loss in soft)
    none = (SPARSE(), "sparse_categorical_crossentropy", keras.losses.BinaryCrossentropy(), "kl_divergence", len, None)
    assert not any(declared_by(loss) for loss in none)


def test_alpha_reacts_without_a_retrace(data):
    (x, y), unlabeled = data, ROWS["some"]
    labels = np.where(unlabeled, -1, y)
    num_traces = []

    def gap(teacher, student):
        num_traces.append(1)
        return keras.ops.mean(keras.ops.square(teacher - student), -1)

    distiller = kd.Distiller(linear_model(), linear_model(), alpha=0.5, losses=[gap])
    distiller.compile(keras.optimizers.SGD(0.0), loss=SPARSE(from_logits=True, ignore_class=-1))
    values = {}
    for alpha in (0.5, 0.0, 1.0, 0.25):
        distiller.alpha = alpha
        distiller.reset_metrics()
        values[alpha] = distiller.train_on_batch(x, labels, return_dict=True)["loss"]
    assert len(num_traces) == 1
    assert values[0.5] == pytest.approx((values[0.0] + values[1.0]) / 2, rel=1e-5)
    assert values[0.25] == pytest.approx(0.75 * values[0.0] + 0.25 * values[1.0], rel=1e-5)


def test_label_smoothing_does_not_reach_rows_of_zeros(data):
    (x, y), unlabeled = data, ROWS["some"]
    labels, _ = written(y, unlabeled, "zeros")
    student = linear_model()
    expected = SOFT(from_logits=True, label_smoothing=0.1)(labels[~unlabeled], student(x[~unlabeled]))
    distiller = kd.Distiller(linear_model(), student)
    distiller.compile("sgd", loss=SOFT(from_logits=True, label_smoothing=0.1))
    logs = distiller.train_on_batch(x, labels, return_dict=True)
    assert logs["student_loss"] == pytest.approx(float(expected) * (~unlabeled).sum() / 12, rel=1e-5)


def test_epoch_logs_are_about_the_labeled_examples(data):
    """With 4, 1 and 0 labels per batch, losses and weighted metrics are means over labels, not over batches."""
    (x, y), unlabeled = data, np.arange(12) > 4
    student = linear_model()
    labeled = x[:5], y[:5]
    student.compile(loss=SPARSE(from_logits=True), metrics=["accuracy"])
    expected = student.evaluate(*labeled, verbose=0, return_dict=True)
    distiller = kd.Distiller(linear_model(), student)
    loss = SPARSE(from_logits=True, ignore_class=-1)
    distiller.compile(keras.optimizers.SGD(0.0), loss=loss, weighted_metrics=["accuracy"])
    history = distiller.fit(x, np.where(unlabeled, -1, y), batch_size=4, shuffle=False, verbose=0).history
    assert history["student_loss"][0] == pytest.approx(expected["loss"], rel=1e-5)
    assert history["accuracy"][0] == pytest.approx(expected["accuracy"]) and 0 < expected["accuracy"] < 1


def test_an_example_of_many_positions_is_unlabeled_where_none_has_a_label(data):
    x = np.random.default_rng(1).normal(size=(3, 4, 6)).astype("float32")
    labels = np.array([[1, 2, -1, -1], [-1, -1, -1, -1], [0, 1, 2, 3]])
    teacher, student = (keras.Sequential([keras.Input((4, 6)), L.Dense(4)]) for _ in range(2))
    each = ops.convert_to_numpy(kd.losses.soft_targets(teacher(x), student(x), 4.0)).mean(-1)
    distiller = kd.Distiller(teacher, student, alpha=0.25)
    distiller.compile("sgd", loss=SPARSE(from_logits=True, ignore_class=-1), weighted_metrics=["accuracy"])
    logs = distiller.train_on_batch(x, labels, return_dict=True)
    expected = 0.75 * logs["student_loss"] + (each * [0.25, 1.0, 0.25]).mean()
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def two_outputs():
    x = keras.Input((6,))
    inner = L.Dense(5, "tanh", name="inner")(x)
    return keras.Model(x, {"a": L.Dense(4, name="a")(inner), "b": L.Dense(4, name="b")(inner)})


def test_each_output_has_labels_of_its_own(data):
    """An output's term depends on that output's labels, an inner layer's on whether the example has any label."""
    x, y = data
    missing = {"a": np.arange(12) % 2 == 0, "b": np.arange(12) % 3 == 0}
    labels = {name: np.where(missing[name], -1, y) for name in missing}
    teacher, student = two_outputs(), two_outputs()
    said = [keras.Model(m.inputs[0], m.output | {"inner": m.get_layer("inner").output})(x) for m in (teacher, student)]
    each = {name: ops.convert_to_numpy(kd.losses.soft_targets(said[0][name], said[1][name], 4.0)) for name in "ab"}
    each["inner"] = (ops.convert_to_numpy(said[0]["inner"] - said[1]["inner"]) ** 2).mean(-1)
    rows = missing | {"inner": missing["a"] & missing["b"]}
    losses = [SoftTargets(teacher=name, student=name) for name in "ab"] + [Hint(teacher="inner", student="inner")]
    distiller = kd.Distiller(teacher, student, alpha=0.25, losses=losses)
    distiller.compile("sgd", loss={name: SPARSE(from_logits=True, ignore_class=-1) for name in "ab"})
    logs = distiller.train_on_batch(x, labels, return_dict=True)
    expected = sum((each[name] * np.where(rows[name], 1.0, 0.25)).mean() for name in each)
    assert logs["loss"] == pytest.approx(0.75 * logs["student_loss"] + expected, rel=1e-4)


def test_an_output_that_declares_nothing_makes_every_example_labeled_for_inner_layers(data):
    x, y = data
    labels = {"a": np.where(y == 0, -1, y), "b": y}
    losses = {"a": SPARSE(from_logits=True, ignore_class=-1), "b": SPARSE(from_logits=True)}
    found = LabelDeclarations(losses, ["a", "b"]).find(labels)
    np.testing.assert_array_equal(found.rows(SoftTargets(teacher="a", student="a")), y == 0)
    assert found and found.rows(SoftTargets(teacher="b", student="b")) is None
    assert found.rows(Hint(teacher="inner", student="inner")) is None
    only_a = LabelDeclarations({"a": losses["a"]}, ["a", "b"]).find(labels)
    np.testing.assert_array_equal(only_a.rows(Hint(teacher="inner", student="inner")), y == 0)
    in_a_list = LabelDeclarations([losses["a"], losses["b"]], ["0", "1"]).find([labels["a"], labels["b"]])
    np.testing.assert_array_equal(in_a_list.rows(SoftTargets(teacher="0", student="0")), y == 0)
    assert not LabelDeclarations(losses["b"], ["output"]).find(y)
    assert not LabelDeclarations(losses["a"], ["output"]).find(None)


def test_losses_of_this_package_know_no_label_as_minus_1_whatever_the_number(data):
    (x, y), unlabeled = data, ROWS["some"]
    teacher, start = linear_model(), linear_model()
    logs = []
    for kind in ("-1", "255", "column"):
        labels, loss = written(y, unlabeled, kind)
        distiller = kd.Distiller(teacher, copy_of(start), losses=[DecoupledKD()])
        distiller.compile("sgd", loss=loss)
        logs.append(distiller.train_on_batch(x, labels, return_dict=True))
    assert logs[0] == pytest.approx(logs[1], rel=1e-6) and logs[0] == pytest.approx(logs[2], rel=1e-6)


def test_half_precision(data):
    (x, y), unlabeled = data, ROWS["some"]
    policy = keras.DTypePolicy("mixed_float16")
    student = keras.Sequential([keras.Input((6,)), L.Dense(5, "relu", dtype=policy), L.Dense(4, dtype=policy)])
    distiller = kd.Distiller(linear_model(), student, alpha=0.0)
    distiller.compile(keras.optimizers.SGD(0.05), loss=SPARSE(from_logits=True, ignore_class=-1))
    history = distiller.fit(x, np.where(unlabeled, -1, y), epochs=5, verbose=0).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]
