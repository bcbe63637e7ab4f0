"""The regimes on every backend; `test_on_jax.py` runs this file again on JAX."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.losses import DiversePeers
from keras_kd.regimes import GroupedOptimizer, MutualDistiller, SelfDistiller, branches, with_exits

L = keras.layers
NUM_CLASSES = 4


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, NUM_CLASSES, 48)


def network(width=8, *, name="net", seed=0, activation=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = L.Dense(width, "relu", name="first")(inputs)
    x = L.Dense(width, use_bias=False, name="second")(x)  # Adam would amplify the rounding of a zero gradient
    x = L.ReLU(name="second_relu")(L.BatchNormalization(name="norm")(x))
    return keras.Model(inputs, L.Dense(NUM_CLASSES, activation, name="head")(x), name=name)


def from_sum(name):
    """Ends in a layer with weights that is no class layer."""
    inputs = keras.Input((6,))
    return keras.Model(inputs, L.BatchNormalization()(L.Dense(NUM_CLASSES)(inputs)), name=name)


def from_logits(**settings):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **settings)


def compiled(distiller, optimizer=None, **settings):
    distiller.compile(optimizer or keras.optimizers.SGD(0.1), loss=from_logits(), **settings)
    return distiller


def assert_close(one, other, atol=1e-5):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


# float64 NumPy


def log_softmax(z):
    z = np.asarray(z, "float64")
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def cross_entropy(z, y):
    return -log_softmax(z)[np.arange(len(y)), y].mean()


def kl(teacher, student, temperature=1.0):
    p, q = log_softmax(np.asarray(teacher) / temperature), log_softmax(np.asarray(student) / temperature)
    return temperature**2 * (np.exp(p) * (p - q)).sum(-1).mean()


def outputs_of(model, x):
    """The outputs in training mode."""
    made = model(x, training=True)
    return {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in made.items()}


# Exits


def test_the_loss_of_exits_is_the_published_one(data):
    x, y = data
    distiller = compiled(SelfDistiller(network(), exits=["first"], alpha=0.3, temperature=3.0, feature_weight=0.5))
    tapped = keras.Model(
        distiller.student.input, [distiller.student.get_layer(name).output for name in ("second_relu", "exit_1_relu")]
    )
    deep, own = (np.asarray(keras.ops.convert_to_numpy(one), "float64") for one in tapped(x, training=True))
    z = outputs_of(distiller.student, x)
    logs = distiller.fit(x, y, batch_size=48, epochs=1, shuffle=False, verbose=0).history
    supervised = cross_entropy(z["output"], y) + cross_entropy(z["exit_1"], y)
    terms = kl(z["output"], z["exit_1"], 3.0) + 0.5 * np.square(deep - own).mean()
    assert logs["student_loss"][0] == pytest.approx(supervised, rel=1e-4)
    assert logs["distillation_loss"][0] == pytest.approx(terms, rel=1e-4)
    assert logs["loss"][0] == pytest.approx(0.7 * supervised + 0.3 * terms, rel=1e-4)


def test_targets_have_no_gradient(data):
    """With alpha 1 only the terms train: the layers that only the deepest output uses stay as they are."""
    x, y = data
    distiller = compiled(SelfDistiller(network(), exits=["first"], alpha=1.0))
    before = {layer.name: layer.get_weights() for layer in distiller.student.layers}
    distiller.fit(x, y, batch_size=48, epochs=1, verbose=0)
    for name in ("second", "head"):
        assert_close(distiller.student.get_layer(name).get_weights(), before[name], atol=0)
    moved = np.abs(distiller.student.get_layer("first").get_weights()[0] - before["first"][0]).max()
    assert moved > 1e-4


def test_strip_returns_the_users_model(data):
    x, y = data
    model = network()
    distiller = compiled(SelfDistiller(model, exits=["first", "second_relu"]), metrics=["accuracy"])
    history = distiller.fit(x, y, epochs=1, verbose=0, validation_data=(x, y)).history
    assert {"output_accuracy", "exit_1_accuracy", "exit_2_accuracy", "val_exit_2_accuracy"} <= set(history)
    assert distiller.strip() is model
    kept = distiller.strip(exits=True).predict(x, verbose=0)
    assert set(kept) == {"output", "exit_1", "exit_2"}
    assert_close([kept["output"]], [model.predict(x, verbose=0)], atol=1e-6)


def test_exits_have_the_shapes_of_the_deepest_features():
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, padding="same", name="stage_1")(inputs)
    x = L.Conv2D(16, 3, 2, padding="same", name="stage_2")(x)
    x = L.Conv2D(24, 3, 2, padding="same", name="stage_3")(x)
    model = keras.Model(inputs, L.Dense(5, "softmax")(L.GlobalAveragePooling2D()(x)))
    student = with_exits(model, ["stage_1", "stage_2"])
    assert {name: output.shape for name, output in student.output.items()} == {
        name: (None, 5) for name in ("output", "exit_1", "exit_2")
    }
    for name in ("exit_1", "exit_2"):
        assert student.get_layer(f"{name}_features_relu").output.shape == (None, 4, 4, 24)
    probabilities = student(np.zeros((2, 16, 16, 3)))
    assert_close([keras.ops.sum(probabilities["exit_1"], -1)], [np.ones(2)])


def test_early_exits_trade_accuracy_for_operations(data):
    x, y = data
    student = with_exits(network(), ["first", "second_relu"])
    z = student.predict(x, verbose=0)
    names = ["exit_1", "exit_2", "output"]
    p = np.stack([np.exp(log_softmax(z[name])) for name in names])
    curve = kd.regimes.early_exits(student, x, y, thresholds=[0.0, 0.3, 1.0])
    dense = {"first": 48, "second": 64, "head": 32, "exit_1": 64 + 32, "exit_2": 64 + 32}
    whole = dense["first"] + dense["second"] + dense["head"]
    costs = [dense["first"] + dense["exit_1"], 0, 0]
    costs[1] = costs[0] + dense["second"] + dense["exit_2"]
    costs[2] = costs[1] + dense["head"]
    for point in curve.points:
        at = [
            next((i for i in (0, 1) if p[i, row].max() >= point.threshold and point.threshold < 1), 2)
            for row in range(48)
        ]
        assert point.accuracy == pytest.approx(np.mean([p[i, row].argmax() == y[row] for row, i in enumerate(at)]))
        assert point.operations == pytest.approx(np.mean([costs[i] for i in at]) / whole)
        assert list(point.leaving.values()) == pytest.approx([at.count(i) / 48 for i in range(3)])
    assert "at exit_2" in str(curve) and 0 < curve.points[1].leaving["exit_1"] < 1
    labeled = np.arange(48) % 3 > 0
    few = kd.regimes.early_exits(student, x, np.where(labeled, y, -1), thresholds=[0.3])
    assert few == kd.regimes.early_exits(student, x[labeled], y[labeled], thresholds=[0.3])
    with pytest.raises(ConfigurationError, match="No example has a label"):
        kd.regimes.early_exits(student, x, np.full(48, -1))
    with pytest.raises(ConfigurationError, match="no exits"):
        kd.regimes.early_exits(network(), x, y)
    with pytest.raises(ConfigurationError, match="47 labels"):
        kd.regimes.early_exits(student, x, y[1:])


def test_a_model_with_auxiliary_outputs_teaches_them(data):
    x, y = data
    inputs = keras.Input((6,))
    h = L.Dense(8, "relu")(inputs)
    model = keras.Model(inputs, {"output": L.Dense(4)(L.Dense(8, "relu")(h)), "aux": L.Dense(4)(h)})
    distiller = compiled(SelfDistiller(model, exits=["aux"]))
    logs = distiller.fit(x, y, epochs=1, verbose=0).history
    assert "soft_targets_aux" in logs
    assert distiller.strip().predict(x, verbose=0).shape == (48, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfDistiller(network()), "needs exits or a teacher"),
        (lambda: SelfDistiller(network(), exits=["first"], teacher="ema"), "needs exits or a teacher"),
        (lambda: SelfDistiller(network(), exits=["frist"]), "first"),
        (lambda: SelfDistiller(network(), exits=[]), "exits"),
        (lambda: SelfDistiller(network(), exits=["first", "first"]), "different layers"),
        (lambda: SelfDistiller(network(), exits=["head"]), "own output"),
        (lambda: SelfDistiller(network(), teacher="emma"), "ema"),
        (lambda: SelfDistiller(network(), teacher="ema", decay=1.5), "decay"),
        (lambda: SelfDistiller(network(), teacher="ema", correct=0.9), "does not take"),
        (lambda: SelfDistiller(network(), teacher="previous_epoch", decay=0.9), "does not take"),
        (lambda: SelfDistiller(kd.regimes.with_exits(network(), ["first"]), exits=["first"]), "are these outputs"),
        (lambda: SelfDistiller(network(), teacher="label_smoothing", correct=0.2), "chance"),
        (lambda: SelfDistiller("model", exits=["a"]), "keras.Model"),
    ],
)
def test_bad_settings_of_self_distillation(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


# Teachers with other weights


def test_ema_is_that_of_the_paper(data):
    x, y = data
    model = network()
    distiller = compiled(SelfDistiller(model, teacher="ema", decay=0.6, alpha=0.5))
    average = [weight.astype("float64") for weight in model.get_weights()]
    for step in range(1, 5):
        before = distiller.teacher(kd.teachers.Batch(keras.ops.convert_to_tensor(x))).outputs["output"]
        copy = network()
        copy.set_weights(average)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(before), copy.predict(x, verbose=0), atol=1e-5)
        teacher = copy.predict(x, verbose=0)
        student = keras.ops.convert_to_numpy(twin(model)(x, training=True))
        logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
        assert logs["distillation_loss"][0] == pytest.approx(kl(teacher, student, 4.0), rel=1e-3, abs=1e-6)
        decay = min(1 - 1 / (step + 1), 0.6)
        average = [decay * a + (1 - decay) * w for a, w in zip(average, model.get_weights(), strict=True)]
    assert_close(distiller.strip(averaged=True).get_weights(), average)
    assert distiller.strip() is model and not np.allclose(model.get_weights()[0], average[0])
    with pytest.raises(ConfigurationError, match="no averaged weights"):
        SelfDistiller(network(), exits=["first"]).strip(averaged=True)


def twin(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def test_ema_teaches_on_examples_without_a_label(data):
    x, _ = data
    distiller = SelfDistiller(network(), teacher="ema", decay=0.9)
    distiller.compile(keras.optimizers.SGD(0.1))
    logs = distiller.fit(x, batch_size=16, epochs=2, verbose=0).history
    assert logs["distillation_loss"][-1] > 0


def test_the_previous_epoch_teaches_the_next(data):
    x, y = data
    model = network()
    distiller = compiled(SelfDistiller(model, teacher="previous_epoch", alpha=0.7))
    first = distiller.fit(x, y, batch_size=16, epochs=1, verbose=0).history
    assert first["alpha"] == [0.0] and first["loss"] == pytest.approx(first["student_loss"], rel=1e-5)
    earlier = twin(model)
    distiller.train_on_batch(x, y)  # within an epoch of one's own: the teacher stays
    teacher, student = earlier.predict(x, verbose=0), keras.ops.convert_to_numpy(twin(model)(x, training=True))
    second = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    assert second["alpha"] == pytest.approx([0.7])
    expected = 0.3 * cross_entropy(student, y) + 0.7 * kl(teacher, student, 4.0)
    assert second["loss"] == pytest.approx([expected], rel=1e-4)
    others = [keras.ops.convert_to_numpy(other) for _, other in distiller.teacher.state.pairs]
    assert_close(others, model.get_weights(), atol=1e-6)


def test_the_previous_epoch_teaches_nothing_in_the_first(data):
    x, y = data
    model = network()
    before = model.get_weights()
    distiller = SelfDistiller(model, teacher="previous_epoch", alpha=0.7)
    distiller.compile(keras.optimizers.SGD(0.1), loss=from_logits(ignore_class=-1))
    distiller.fit(x, np.full(len(x), -1), batch_size=16, epochs=1, verbose=0)
    trainable = [weight.trainable for weight in model.weights]
    assert_close(
        *([w for w, own in zip(all_of, trainable, strict=True) if own] for all_of in (before, model.get_weights()))
    )
    some = np.where(np.arange(48) % 2, y, -1)
    logs = distiller.fit(x, some, batch_size=16, epochs=1, verbose=0).history
    assert logs["alpha"] == pytest.approx([0.7])


def test_a_virtual_teacher_is_that_of_the_published_code(data):
    x, y = data
    model = network()
    distiller = compiled(SelfDistiller(model, teacher="label_smoothing", correct=0.9, alpha=0.1))
    student = keras.ops.convert_to_numpy(twin(model)(x, training=True))
    logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    p = np.full((48, NUM_CLASSES), 0.1 / 3)
    p[np.arange(48), y] = 0.9
    assert logs["distillation_loss"][0] == pytest.approx(kl(p / 20, student), rel=1e-4)
    assert logs["loss"][0] == pytest.approx(0.9 * cross_entropy(student, y) + 0.1 * kl(p / 20, student), rel=1e-4)


def test_a_virtual_teacher_has_no_targets_without_labels(data):
    x, y = data
    some = np.where(np.arange(48) % 2, y, -1)
    settings = {"optimizer": keras.optimizers.SGD(0.1), "loss": from_logits(ignore_class=-1)}
    weights = []
    for rows, labels in ((x, some), (np.where(np.arange(48)[:, None] % 2, x, 1 - x), some)):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        model = keras.Model(inputs, L.Dense(NUM_CLASSES)(inputs))
        distiller = SelfDistiller(model, teacher="label_smoothing")
        distiller.compile(**settings | {"optimizer": keras.optimizers.SGD(0.1)})
        distiller.fit(rows, labels, batch_size=48, epochs=1, verbose=0)
        weights.append(model.get_weights())
    assert_close(*weights, atol=1e-6)
    with pytest.raises(TeacherError, match="none"):
        distiller.fit(x, epochs=1, verbose=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"exits": ["first"]},
        {"teacher": "ema"},
        {"teacher": "previous_epoch"},
        {"teacher": "label_smoothing"},
    ],
    ids=str,
)
def test_a_saved_self_distiller_continues(data, tmp_path, settings):
    x, y = data
    whole = compiled(SelfDistiller(network(), **settings), keras.optimizers.Adam(0.01))
    whole.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    half = compiled(SelfDistiller(network(), **settings), keras.optimizers.Adam(0.01))
    half.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    loaded.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    assert_close(loaded.get_weights(), whole.get_weights())
    assert_close([loaded.strip().predict(x, verbose=0)], [whole.strip().predict(x, verbose=0)])


def test_exits_that_read_numbered_layers_resume(data, tmp_path):
    """The deepest features have a name that Keras counts up with each model of a process."""

    def trained(epochs):
        layers = [L.Dense(8, "relu", name="first"), L.Dense(8, "relu"), L.Dropout(0.1), L.Dense(NUM_CLASSES)]
        model = keras.Sequential([keras.Input((6,)), *layers])
        distiller = compiled(SelfDistiller(model, exits=["first"]))
        assert "dropout" not in distiller.kept_terms[0].teacher  # which is not the same twice
        pipeline = kd.data.Pipeline(data, batch_size=16)
        distiller.fit(pipeline, epochs=epochs, verbose=0, callbacks=[kd.callbacks.Resume(tmp_path)])
        return int(distiller.optimizer.iterations)

    assert (trained(1), trained(2)) == (3, 6)


# Mutual learning


def numpy_pairs(z, y, temperature=1.0):
    """Deep Mutual Learning, equations 3 to 7."""
    supervised = sum(cross_entropy(own, y) for own in z.values())
    others = len(z) - 1
    terms = sum(kl(z[b], z[a], temperature) / others for a in z for b in z if a != b)
    return supervised, terms


def test_dml_is_that_of_the_paper(data):
    x, y = data
    peers = [network(4, seed=1), network(8, seed=2), network(6, name="other", seed=3)]
    distiller = compiled(MutualDistiller(peers, alpha=0.5))
    z = outputs_of(distiller.student, x)
    assert list(distiller.peers) == ["net_1", "net_2", "other"] and set(z) == set(distiller.peers)
    logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    supervised, terms = numpy_pairs(z, y)
    assert logs["student_loss"][0] == pytest.approx(supervised, rel=1e-4)
    assert logs["distillation_loss"][0] == pytest.approx(terms, rel=1e-4)


def test_peers_are_trained_as_if_by_distillers_of_their_own(data):
    """The gradient of a peer is that of its own loss, whatever the others' optimizers."""
    x, y = data
    peers = [network(4, seed=1), network(8, seed=2, name="other")]
    copies = [network(4, seed=1), network(8, seed=2, name="other")]
    distiller = MutualDistiller(peers, alpha=0.4, temperature=2.0)
    optimizers = [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.01)]
    compiled(distiller, optimizers)
    distiller.fit(x, y, batch_size=48, epochs=1, verbose=0)
    for index, optimizer in enumerate((keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.01))):
        other = twin([network(4, seed=1), network(8, seed=2, name="other")][1 - index])
        targets = keras.ops.convert_to_numpy(other(x, training=True))
        fixed = kd.teachers.FunctionTeacher(
            lambda given, targets=targets: targets[: len(given)], num_classes=NUM_CLASSES, fingerprint="z"
        )
        pipeline = kd.data.Pipeline((x, y), batch_size=48, shuffle=False).with_teacher(fixed)
        alone = compiled(kd.Distiller(fixed, copies[index], alpha=0.4, temperature=2.0), optimizer)
        alone.fit(pipeline, epochs=1, verbose=0)
        assert_close(copies[index].get_weights(), peers[index].get_weights())


@pytest.mark.parametrize("rule", ["mean", "best", "min_logit"])
def test_kdcl_is_that_of_the_paper(data, rule):
    x, y = data
    distiller = compiled(MutualDistiller([network(4, seed=1), network(8, seed=2)], method="kdcl", rule=rule))
    z = outputs_of(distiller.student, x)
    stacked, rows = np.stack([z[name].astype("float64") for name in z]), np.arange(48)
    if rule == "mean":
        target = stacked.mean(0)
    elif rule == "best":
        best = np.argmin([-log_softmax(own)[rows, y] for own in stacked], axis=0)
        target = stacked[best, rows]
    else:
        target = np.min([own - own[rows, y][:, None] for own in stacked], axis=0)
    logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    expected = sum(kl(target, own, 2.0) for own in stacked)
    assert logs["distillation_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_one_shares_the_trunk_and_gates_the_branches(data):
    x, y = data
    peers = branches(network(), at="first", num_branches=3)
    distiller = compiled(MutualDistiller(peers, method="one", alpha=0.5), metrics=["accuracy"])
    assert sum(weight.path.startswith("first") for weight in distiller.student.weights) == 2
    z = outputs_of(distiller.student, x)
    gate = keras.Model(distiller.student.input, distiller.student.get_layer("gate").output)(x, training=True)
    gate = np.asarray(keras.ops.convert_to_numpy(gate), "float64")
    names = [name for name in z if name != "ensemble"]
    expected = sum(gate[:, [index]] * z[name] for index, name in enumerate(names))
    np.testing.assert_allclose(z["ensemble"], expected, atol=1e-5)
    logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    supervised = sum(cross_entropy(own, y) for own in z.values())
    assert logs["student_loss"][0] == pytest.approx(supervised, rel=1e-4)
    terms = sum(kl(z["ensemble"], z[name], 3.0) for name in names)
    assert logs["distillation_loss"][0] == pytest.approx(terms, rel=1e-4)
    assert list(distiller.peers) == names
    best = distiller.best(x, y)
    assert best in peers and best.predict(x, verbose=0).shape == (48, NUM_CLASSES)


def numpy_diverse(z, features, query, key, temperature=3.0):
    """The term of the published code of "Online Knowledge Distillation with Diverse Peers"."""
    leader, *peers = (z[name].astype("float64") for name in z)
    energy = [[((f @ query) * (g @ key)).sum(-1) for g in features] for f in features]
    total = kl(np.mean(peers, axis=0), leader, temperature)
    for row, own in zip(energy, peers, strict=True):
        weights = np.exp(row - np.max(row, axis=0))
        weights /= weights.sum(0)
        total += kl(sum(w[:, None] * other for w, other in zip(weights, peers, strict=True)), own, temperature)
    return total


def diverse(**settings):
    peers = [network(4, name="leader", seed=1), network(16, name="one", seed=2), network(16, name="two", seed=3)]
    return compiled(MutualDistiller(peers, method="okddip", alpha=0.5, **settings))


def features_of(peers, x):
    made = [keras.Model(peer.input, peer.get_layer("head").input)(x, training=True) for peer in peers]
    return [np.asarray(keras.ops.convert_to_numpy(values), "float64") for values in made]


def test_diverse_peers_are_those_of_the_published_code(data):
    """The loss, and the gradient, which also passes through the targets, by differences of the float64 version."""
    x, y = data
    distiller = diverse()
    (term,) = distiller.terms
    z, features = outputs_of(distiller.student, x), features_of(list(distiller.peers.values())[1:], x)
    kernels = {layer.name: layer.kernel for layer in term._projections[16]}
    query, key = (np.asarray(keras.ops.convert_to_numpy(kernel), "float64") for kernel in kernels.values())
    assert list(kernels) == ["query_16", "key_16"] and query.shape == (16, 2)
    heads = {name: peer.get_layer("head") for name, peer in distiller.peers.items()}
    before = {name: np.array(head.bias) for name, head in heads.items()}

    logs = distiller.fit(x, y, batch_size=48, epochs=1, verbose=0).history
    assert logs["distillation_loss"][0] == pytest.approx(numpy_diverse(z, features, query, key), rel=1e-4)
    assert logs["student_loss"][0] == pytest.approx(sum(cross_entropy(own, y) for own in z.values()), rel=1e-4)

    def slope(function, size=1e-5):
        return (function(size) - function(-size)) / (2 * size)

    for row, column in [(0, 0), (7, 1), (15, 0)]:
        unit = np.zeros_like(query)
        unit[row, column] = 1.0
        for moved, (name, old) in zip(((1, 0), (0, 1)), zip(kernels, (query, key), strict=True), strict=True):
            expected = slope(
                lambda h, m=moved, u=unit: numpy_diverse(z, features, query + m[0] * h * u, key + m[1] * h * u)
            )
            step = float(kernels[name][row, column]) - old[row, column]
            assert step == pytest.approx(-0.1 * 0.5 * expected, rel=1e-2, abs=1e-7), name
            assert abs(expected) > 1e-6
    for name in z:

        def total(h, name=name):
            moved = z | {name: z[name] + h * np.eye(NUM_CLASSES)[0]}
            return 0.5 * cross_entropy(moved[name], y) + 0.5 * numpy_diverse(moved, features, query, key)

        step = float(heads[name].bias[0]) - before[name][0]
        assert step == pytest.approx(-0.1 * slope(total), rel=1e-3, abs=1e-7), name


def test_attention_of_peers_with_features_of_several_sizes(data):
    x, y = data
    peers = [network(width, name=name, seed=width) for width, name in ((4, "leader"), (16, "one"), (8, "two"))]
    distiller = compiled(MutualDistiller(peers, method="okddip"))
    assert np.isfinite(distiller.fit(x, y, batch_size=16, epochs=1, verbose=0).history["loss"]).all()
    assert {size: layers[0].units for size, layers in distiller.terms[0]._projections.items()} == {8: 1, 16: 1}
    assert distiller.best(x, y, measure="loss") in peers


@pytest.mark.parametrize("method", ["dml", "kdcl", "one", "okddip"])
def test_a_saved_mutual_distiller_continues(data, tmp_path, method):
    x, y = data

    def make():
        peers = [network(4), network(8, seed=2), *([network(16, seed=3)] if method == "okddip" else [])]
        peers = branches(network(), at="first", num_branches=2) if method == "one" else peers
        own = (
            None
            if method in ("one", "okddip")
            else [keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam(0.01)]
        )
        return compiled(MutualDistiller(peers, method=method), own)

    keras.utils.set_random_seed(5)
    whole = make()
    start = whole.get_weights()
    whole.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    half = make()
    half.set_weights(start)
    half.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    loaded.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    assert_close(loaded.get_weights(), whole.get_weights())
    for name, peer in whole.peers.items():
        assert_close([loaded.peers[name].predict(x, verbose=0)], [peer.predict(x, verbose=0)])


def test_a_regression_has_terms_of_its_own(data):
    x, _ = data
    peers = [keras.Sequential([keras.Input((6,)), L.Dense(1)], name=name) for name in "ab"]
    distiller = MutualDistiller(peers)
    distiller.compile("sgd", loss="mse")
    z = outputs_of(distiller.student, x)
    logs = distiller.fit(x, x[:, :1], batch_size=48, epochs=1, verbose=0).history
    assert logs["distillation_loss"][0] == pytest.approx(2 * np.square(z["a"] - z["b"]).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MutualDistiller([network()]), "at least two"),
        (lambda: MutualDistiller(network()), "at least two"),
        (lambda: MutualDistiller([network(), keras.Sequential([L.Dense(4)])]), "not built"),
        (lambda: MutualDistiller([network()] * 2), "twice"),
        (lambda: MutualDistiller([network(), keras.Sequential([keras.Input((6,)), L.Dense(3)])]), "same shape"),
        (lambda: MutualDistiller([network(), network()], method="mutual"), "method"),
        (lambda: MutualDistiller([network(), network()], method="kdcl", rule="max"), "rule"),
        (lambda: MutualDistiller([network(), network()], method="one"), "share"),
        (lambda: MutualDistiller([network(), network()], method="okddip"), "at least three peers"),
        (
            lambda: MutualDistiller([from_sum("a"), from_sum("b"), from_sum("c")], method="okddip"),
            "'b' cannot be found",
        ),
        (lambda: diverse().compile("sgd", loss="mse"), "exclusive classes"),
        (lambda: DiversePeers(student=["a", "b"])([[1.0]], [[[1.0]], [[1.0]]]), "at least two peers"),
        (lambda: DiversePeers(factor=0), "factor"),
        (lambda: compiled(MutualDistiller([network(), network()]), ["sgd"]), "1 optimizers"),
        (lambda: compiled(MutualDistiller([network(), network()]), {"a": "sgd"}), "net_1"),
        (lambda: GroupedOptimizer([keras.optimizers.SGD()] * 2), "own"),
        (lambda: GroupedOptimizer([keras.optimizers.SGD(loss_scale_factor=2.0)]), "scale"),
        (lambda: branches(network(), at="first", num_branches=1), "num_branches"),
        (lambda: branches(network(), at="nowhere"), "nowhere"),
    ],
)
def test_bad_settings_of_mutual_learning(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_peers_that_share_layers_take_one_optimizer(data):
    x, y = data
    distiller = compiled(MutualDistiller(branches(network(), at="first"), method="one"), ["sgd", "adam", "adam"])
    with pytest.raises(ConfigurationError, match="share"):
        distiller.fit(x, y, verbose=0)


def test_sample_weights_of_zero_remove_rows(data):
    x, y = data
    weights = []
    for rows in (x, np.where(np.arange(48)[:, None] % 2, x, 100.0).astype("float32")):
        peers = [keras.Sequential([keras.Input((6,)), L.Dense(4)], name=name) for name in "ab"]
        for seed, peer in enumerate(peers):
            peer.set_weights([np.random.default_rng(seed).normal(size=weight.shape) for weight in peer.get_weights()])
        distiller = compiled(MutualDistiller(peers))
        distiller.fit(rows, y, sample_weight=(np.arange(48) % 2).astype("float32"), batch_size=48, epochs=1, verbose=0)
        weights.append(distiller.get_weights())
    assert_close(*weights)
