"""Several teachers combined into one, against the formulas in float64 NumPy, and in training."""

import keras
import numpy as np
import pytest
from scipy.optimize import minimize

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.losses import Hint, SoftTargets
from keras_kd.serialization import deserialize, register, serialize
from keras_kd.teachers import Batch, FrozenTeacher, ModelOutputs, OfflineTeacher, Teacher
from keras_kd.teachers.several.combining import combine_subsets
from keras_kd.teachers.several.ensemble import Ensemble
from keras_kd.teachers.several.group import AbsentGroup, Resized
from keras_kd.teachers.several.learned_weights import logit_weights, mixture_weights

LABELS = np.array([2, 0, 1, 3])


class Constant(Teacher):
    """A teacher that returns the same logits for every batch."""

    fingerprint = "constant"
    output_shapes = None

    def __init__(self, logits, name="output"):
        self.logits, self.name = np.asarray(logits), name

    def __call__(self, batch, taps=()):
        return ModelOutputs({self.name: keras.ops.convert_to_tensor(self.logits.astype("float32"))})


def draw(*shape, seed=0, size=2.0):
    return np.random.default_rng(seed).normal(size=shape) * size


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def outputs_of(ensemble, y=None):
    return np.asarray(ensemble(Batch(np.zeros((4, 1)), y)).outputs["output"])


def of(logits, **settings):
    return Ensemble([Constant(z) for z in logits], **settings)


# Means.


@pytest.mark.parametrize("weights", [None, [2, 1, 1], (0, 0.3, 0.1)])
def test_means_are_the_formulas(weights):
    logits = draw(3, 4, 5)
    w = np.ones(3) / 3 if weights is None else np.array(weights) / sum(weights)
    mean = np.einsum("k,knc->nc", w, logits)
    np.testing.assert_allclose(outputs_of(of(logits, weights=weights, combine="logits")), mean, rtol=1e-5, atol=1e-6)
    pool = np.einsum("k,knc->nc", w, softmax(logits))
    np.testing.assert_allclose(outputs_of(of(logits, weights=weights)), np.log(pool), rtol=1e-5, atol=1e-6)
    pool = np.einsum("k,knc->nc", w, sigmoid(logits))
    odds = outputs_of(of(logits, weights=weights, activation="sigmoid"))
    np.testing.assert_allclose(odds, np.log(pool / (1 - pool)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("combine", ["probabilities", "logits"])
@pytest.mark.parametrize("weights", [None, [1, 3], "confidence", "label_loss"])
def test_equal_members_equal_one_member(weights, combine, activation):
    logits = draw(4, 5)
    combined = outputs_of(
        of([logits, logits], weights=weights, combine=combine, activation=activation), np.eye(5)[LABELS]
    )
    one = np.log(softmax(logits)) if (combine, activation) == ("probabilities", "softmax") else logits
    np.testing.assert_allclose(combined, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weights", [[1, 2, 5], "confidence", "label_loss"])
def test_the_order_of_members_does_not_matter(weights, activation):
    logits = draw(3, 4, 5)
    order = [2, 0, 1]
    turned = [weights[i] for i in order] if isinstance(weights, list) else weights
    combined = [
        outputs_of(of(z, weights=w, activation=activation), np.eye(5)[LABELS])
        for z, w in ((logits, weights), (logits[order], turned))
    ]
    np.testing.assert_allclose(*combined, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [60.0, 1e4])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_a_weight_of_zero_removes_a_member_even_if_all_are_certain(combine, activation, size):
    logits = np.array([[[size, -size, 0.0]], [[-size, size, -size]]])
    combined = outputs_of(of(logits, weights=(1, 0), combine=combine, activation=activation))
    first = logits[0] - size if (combine, activation) == ("probabilities", "softmax") else logits[0]
    np.testing.assert_allclose(combined, first, rtol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"weights": "confidence"}, {"weights": "label_loss"}, {"combine": "logits"}])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_saturated_members_give_finite_logits(settings, activation):
    logits = [[[60.0, -60.0, 0.0], [60.0, 60.0, -60.0]], [[-60.0, 60.0, -60.0], [60.0, -60.0, -60.0]]]
    assert np.isfinite(outputs_of(of(logits, activation=activation, **settings), np.eye(3)[:2])).all()


# Per-example weights.


def weigh(shares):
    return (1 - shares) / (len(shares) - 1)


@pytest.mark.parametrize("num_teachers", [1, 2, 3])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_confidence_is_the_formula(activation, num_teachers):
    logits = draw(num_teachers, 4, 5)
    if activation == "softmax":
        p = softmax(logits)
        entropy = -(p * np.log(p)).sum(-1, keepdims=True)
    else:
        p = sigmoid(logits)
        entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(-1, keepdims=True)
    entropy += 1e-6
    w = weigh(entropy / entropy.sum(0)) if num_teachers > 1 else np.ones_like(entropy)
    if num_teachers == 2:  # in proportion to 1 / H
        np.testing.assert_allclose(w, (1 / entropy) / (1 / entropy).sum(0))
    combined = outputs_of(of(logits, weights="confidence", combine="logits", activation=activation))
    np.testing.assert_allclose(combined, (w * logits).sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["numbers", "column", "one_hot"])
def test_label_loss_is_the_formula(form):
    logits = draw(3, 4, 5)
    losses = -np.log(np.stack([softmax(z)[np.arange(4), LABELS] for z in logits]))[..., None]
    w = weigh(np.exp(losses) / np.exp(losses).sum(0))
    assert w.sum(0) == pytest.approx(np.ones((4, 1)))
    y = {"numbers": LABELS, "column": LABELS[:, None], "one_hot": np.eye(5)[LABELS]}[form]
    combined = outputs_of(of(logits, weights="label_loss", combine="logits"), y)
    np.testing.assert_allclose(combined, (w * logits).sum(0), rtol=1e-4, atol=1e-5)


def test_label_loss_of_independent_outputs():
    logits = draw(2, 4, 3)
    y = np.array([[1, 0, 1], [0, 0, -1], [-1, -1, -1], [1, 1, 1]])
    p = sigmoid(logits)
    losses = -(np.where(y == 1, np.log(p), 0) + np.where(y == 0, np.log(1 - p), 0)).sum(-1, keepdims=True)
    w = weigh(np.exp(losses) / np.exp(losses).sum(0))
    assert w[0, 2] == 0.5  # this row has no labels
    combined = outputs_of(of(logits, weights="label_loss", combine="logits", activation="sigmoid"), y)
    np.testing.assert_allclose(combined, (w * logits).sum(0), rtol=1e-4, atol=1e-5)
    single = of(logits[..., :1], weights="label_loss", activation="sigmoid")
    np.testing.assert_array_equal(outputs_of(single, y[:, 0]), outputs_of(single, y[:, :1]))


def test_rows_without_a_label_have_equal_weights():
    logits = draw(3, 4, 5)
    ensemble = of(logits, weights="label_loss", combine="logits")
    np.testing.assert_allclose(outputs_of(ensemble), logits.mean(0), rtol=1e-4, atol=1e-6)
    some, all_ = outputs_of(ensemble, [2, -1, 1, -1]), outputs_of(ensemble, LABELS)
    np.testing.assert_allclose(some[[1, 3]], logits.mean(0)[[1, 3]], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(some[[0, 2]], all_[[0, 2]])
    blank = np.eye(5)[LABELS] * [[1], [0], [1], [0]]
    np.testing.assert_array_equal(outputs_of(ensemble, blank), some)


def test_dense_outputs_have_weights_per_position():
    logits = draw(2, 4, 3, 5)
    labels = np.random.default_rng(1).integers(-1, 5, (4, 3))
    combined = outputs_of(of(logits, weights="label_loss"), labels)
    flat = outputs_of(of(logits.reshape(2, 12, 5), weights="label_loss"), labels.ravel())
    np.testing.assert_allclose(combined.reshape(12, 5), flat, rtol=1e-6)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ConfigurationError, match=r"\(4, 3\).*\(4, 5\)"):
        outputs_of(of(draw(2, 4, 5), weights="label_loss"), np.zeros((4, 3)))


# Weights from labels.


def test_mixture_weights_are_the_best_and_em_never_goes_down():
    logs = np.log(np.random.default_rng(0).uniform(0.05, 0.95, (3, 50)))
    learned = mixture_weights(logs)

    def value(w):
        return np.log(w @ np.exp(logs)).mean()

    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(lambda w: -value(w), np.ones(3) / 3, bounds=[(0, 1)] * 3, constraints=simplex, tol=1e-12)
    assert value(learned) == pytest.approx(-best.fun, abs=2e-6) and learned.sum() == pytest.approx(1)
    np.testing.assert_array_equal(mixture_weights(logs), learned)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logit_weights_are_the_best(activation):
    labels = np.random.default_rng(1).integers(0, 4, 30)
    targets = np.eye(4)[labels]
    logits = draw(3, 30, 4) + np.array([1.0, 2.0, 0.0])[:, None, None] * targets

    def value(w):
        z = np.einsum("k,knc->nc", w, logits)
        if activation == "softmax":
            return -np.log(softmax(z)[np.arange(30), labels]).mean()
        return -(targets * np.log(sigmoid(z)) + (1 - targets) * np.log(1 - sigmoid(z))).sum(-1).mean()

    learned = logit_weights(logits, targets, activation)
    steps = 1e-5 * np.eye(3)
    slopes = np.array([(value(learned + step) - value(learned - step)) / 2e-5 for step in steps])
    distance = (
        learned @ slopes - slopes.min()
    )  # of a convex function on the simplex: at least its excess over the minimum
    assert distance < 1e-5 and learned.sum() == pytest.approx(1) and learned.min() >= 0


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_learning_the_weights(make_model, digits, combine):
    good, bad = make_model(8), make_model(4)
    good.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    good.fit(digits[0][:512], digits[1][:512], epochs=3, verbose=0)
    ensemble = Ensemble([bad, good], weights="learned", combine=combine)
    with pytest.raises(TeacherError, match="not been learned.*ensemble.learn"):
        ensemble(Batch(digits[0][:2]))
    before = ensemble.fingerprint
    y = digits[1][600:800].copy()
    y[:50] = -1
    assert ensemble.learn(digits[0][600:800], y, batch_size=64) is ensemble
    assert ensemble.weights[1] > 0.8 and sum(ensemble.weights) == pytest.approx(1)
    assert ensemble.get_config()["weights"] == list(ensemble.weights) and ensemble.fingerprint != before
    alone = Ensemble([bad, good], weights="learned", combine=combine)
    alone.learn(digits[0][650:800], np.eye(10)[digits[1][650:800]])
    assert alone.weights == pytest.approx(ensemble.weights, rel=1e-5)
    with pytest.raises(ConfigurationError, match="no row with a label"):
        ensemble.learn(digits[0][:4], [-1] * 4)
    with pytest.raises(ConfigurationError, match="does not learn.*weights='learned'"):
        Ensemble([bad, good]).learn(*digits)


def test_learning_from_independent_outputs():
    logits = draw(2, 4, 3)
    y = np.array([[1, 0, 1], [0, 0, -1], [-1, -1, -1], [1, 1, 1]])
    chances = np.where(y == 1, sigmoid(logits), 1 - sigmoid(logits))[:, y >= 0]
    ensemble = of(logits, weights="learned", activation="sigmoid").learn(np.zeros((4, 1)), y)
    assert ensemble.weights == pytest.approx(mixture_weights(np.log(chances)), abs=1e-5)


# Teachers for subsets of the classes.


def test_a_teacher_of_all_classes_determines_the_mass_of_a_subset():
    p, inside = softmax(draw(4, 5)), softmax(draw(4, 2, seed=1))
    combined = softmax(
        outputs_of(of([np.log(p), np.log(inside)], classes=[None, [3, 1]], weights=[1, 3], num_classes=5))
    )
    np.testing.assert_allclose(combined[:, [0, 2, 4]], p[:, [0, 2, 4]], rtol=1e-5)
    mass = p[:, [3, 1]].sum(-1, keepdims=True)  # inside the subset both contribute, the first by its mass there
    blend = mass * (0.25 * p[:, [3, 1]] + 0.75 * inside) / (0.25 * mass + 0.75)
    np.testing.assert_allclose(combined[:, [3, 1]], blend, rtol=1e-5)


def test_consistent_teachers_are_combined_exactly():
    q = softmax(draw(4, 6, size=4.0))
    classes = [[0, 1], [1, 2], [4, 2], [4, 5, 3]]
    logits = [np.log(q[:, ids]) + shift for shift, ids in enumerate(classes)]
    np.testing.assert_allclose(softmax(outputs_of(of(logits, classes=classes))), q, rtol=1e-3, atol=1e-6)


def test_contradictions_are_resolved_by_the_formula():
    classes, w = [[0, 1, 2], [2, 3, 0], [1, 3]], np.array([0.5, 0.3, 0.2])
    logits = [draw(1, len(ids), seed=number, size=1.0) for number, ids in enumerate(classes)]

    def value(u):
        q = softmax(u)
        return -sum(w[k] * (softmax(logits[k][0]) * np.log(q[i] / q[i].sum())).sum() for k, i in enumerate(classes))

    best = minimize(value, np.zeros(4), tol=1e-12)
    combined = np.asarray(combine_subsets(logits, w, classes, 4))[0]
    np.testing.assert_allclose(softmax(combined), softmax(best.x), atol=1e-5)


def test_unconnected_groups_have_a_mass_by_their_number_of_classes():
    one, other = draw(4, 2), draw(4, 3)
    combined = softmax(outputs_of(of([one, other], classes=[[4, 0], [1, 2, 3]], weights=[9, 1])))
    np.testing.assert_allclose(combined[:, [4, 0]], 0.4 * softmax(one), rtol=1e-5)
    np.testing.assert_allclose(combined[:, [1, 2, 3]], 0.6 * softmax(other), rtol=1e-5)


def test_subsets_of_all_classes_are_the_mean_of_probabilities():
    logits = draw(2, 4, 5)
    order = [4, 2, 0, 1, 3]
    combined = outputs_of(of([logits[0], logits[1][:, order]], classes=[None, order], weights=[1, 3]))
    np.testing.assert_allclose(combined, outputs_of(of(logits, weights=[1, 3])), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_subsets_of_independent_outputs(combine):
    one, other = draw(4, 2), draw(4, 2, seed=1)
    combined = outputs_of(
        of([one, other], classes=[[0, 1], [2, 1]], activation="sigmoid", combine=combine, weights=[1, 3])
    )
    both = outputs_of(of([one[:, 1:], other[:, 1:]], weights=[1, 3], activation="sigmoid", combine=combine))
    np.testing.assert_allclose(combined, np.concatenate([one[:, :1], both, other[:, :1]], -1), rtol=1e-5, atol=1e-6)


def test_saturated_subsets_are_finite_distributions():
    logits = [[[60.0, -60.0, 0.0]], [[-60.0, 60.0]], [[60.0, -60.0]]]
    combined = outputs_of(of(logits, classes=[[0, 1, 2], [0, 1], [1, 3]], weights=[0, 1, 0]))
    assert np.isfinite(combined).all() and softmax(combined).sum() == pytest.approx(1)


# Members.


def test_inputs_and_inner_layers_of_a_member(make_model, digits):
    large = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    small = make_model(4)
    ensemble = Ensemble([small, large], inputs=[None, Resized(16, 16)], combine="logits")
    x = digits[0][:3]
    expected = (small(x) + large(keras.ops.image.resize(x, (16, 16)))) / 2
    path = small.layers[0].name
    assert ensemble.inner_taps(["output", f"0/{path}"]) == {f"0/{path}": (None, 3, 3, 4)}
    outputs, taps = ensemble(Batch(x), [f"0/{path}"])
    np.testing.assert_allclose(outputs["output"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(taps[f"0/{path}"], small.layers[0](x))
    for name, message in (("stage_3", "'stage_3'.*member in front.*'0/...'"), ("0/nowhere", "'nowhere'")):
        with pytest.raises(ConfigurationError, match=message):
            ensemble.inner_taps([name])


def two_outputs(first="a", second="b", widths=(3, 4)):
    x = keras.Input((2,))
    heads = {name: keras.layers.Dense(width)(x) for name, width in zip((first, second), widths, strict=True)}
    return keras.Model(x, heads)


def test_outputs_of_the_same_names_are_combined_one_by_one():
    models = [two_outputs(), two_outputs()]
    ensemble = Ensemble(models, combine="logits", weights="label_loss")
    assert ensemble.output_shapes == {"a": (None, 3), "b": (None, 4)}
    assert ensemble.activations == {"a": "linear", "b": "linear"}
    x = draw(4, 2).astype("float32")
    combined = ensemble(Batch(x, {"a": LABELS % 3})).outputs
    one = Ensemble([Constant(model(x)["a"]) for model in models], combine="logits", weights="label_loss")
    np.testing.assert_allclose(combined["a"], one(Batch(x, LABELS % 3)).outputs["output"], rtol=1e-6)
    combined = ensemble(Batch(x, {"a": LABELS % 3, "c": LABELS})).outputs
    np.testing.assert_allclose(combined["b"], (models[0](x)["b"] + models[1](x)["b"]) / 2, rtol=1e-5, atol=1e-6)


class Attached(OfflineTeacher):
    fingerprint, output_shapes, outputs_for, decode = "attached", None, None, None


@pytest.mark.parametrize(
    ("members", "settings", "message"),
    [
        ([], {}, "list of teachers"),
        ("t.keras", {}, "list of teachers.*t.keras"),
        ([1], {}, "must be a model or a teacher"),
        ([Attached()], {}, "Attached as member 0.*then cache the result"),
        (2, {"weights": [1]}, "'weights'.*one value per member"),
        (2, {"weights": [1, -1]}, "weights.1.*-1"),
        (2, {"weights": [0, 0]}, "sum above 0"),
        (2, {"weights": "entropy"}, "'entropy'.*'confidence'"),
        (2, {"combine": "votes"}, "'votes'"),
        (2, {"activation": "tanh"}, "'tanh'"),
        (2, {"inputs": [None]}, "'inputs'.*a list of 2"),
        (2, {"num_classes": 3}, "'num_classes' requires 'classes'"),
        (2, {"classes": [None, [0, 0]]}, "member 1.*unique"),
        (2, {"classes": [[0, 1], [3]]}, r"No member knows.*\[2\]"),
        (2, {"classes": [[0, 1], [3]], "num_classes": 3}, r"beyond num_classes=3.*\[3\]"),
        (2, {"classes": [[0, 1], [2]], "weights": "confidence"}, "weights='confidence'"),
        (2, {"classes": [[0, 1], [2]], "combine": "logits"}, "combine='logits'"),
    ],
)
def test_invalid_settings_are_refused(members, settings, message):
    members = [Constant([[0.0, 1.0]])] * members if isinstance(members, int) else members
    with pytest.raises(ConfigurationError, match=message):
        Ensemble(members, **settings)


def test_incompatible_members_are_refused(make_model):
    def vector(width, activation=None):
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(width, activation=activation)])

    for members, settings, message in (
        ([two_outputs(), two_outputs("a", "c")], {}, r"\['a', 'b'\] of member 0, \['a', 'c'\] of member 1.*Panel"),
        ([vector(3), vector(4)], {}, r"\(None, 3\), \(None, 4\).*classes="),
        ([vector(3), vector(4)], {"classes": [[0, 1, 2], [3]]}, r"member 1.*4\).*1 outputs"),
        ([vector(3, "sigmoid")], {}, "activation='softmax'.*sigmoid"),
        ([vector(1)], {}, "single output.*'sigmoid'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Ensemble(members, **settings)
    shapes = Ensemble([vector(2), vector(3)], classes=[[1, 0], None]).output_shapes
    assert shapes == {"output": (None, 3)}
    with pytest.raises(ConfigurationError, match="differ in shape"):  # only detected in the outputs
        of([draw(4, 3), draw(4, 2)])(Batch(np.zeros((4, 1))))


# In training, and saved.


@register
def double(x):
    return 2 * x


@pytest.mark.parametrize(
    ("settings", "jit_compile"),
    [
        ({"weights": "label_loss"}, True),
        ({"weights": "confidence", "combine": "logits"}, False),
        ({"weights": [1, 3], "inputs": [None, double]}, False),
        ({"classes": [None, [9, 3, 5]]}, True),
        ({"classes": [None, [9, 3, 5]]}, False),
    ],
)
def test_a_student_learns_from_it(make_model, digits, settings, jit_compile):
    members = [make_model(4, activation="softmax"), make_model(8)]
    if "classes" in settings:
        members[1] = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    ensemble = Ensemble(members, **settings)
    losses = [SoftTargets(temperature=1.0), Hint(teacher=f"0/{members[0].layers[0].name}", student="conv")]
    student = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, 2, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    distiller = kd.Distiller(ensemble, student, losses=losses)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(0.01), loss=loss, jit_compile=jit_compile)
    x, y = digits[0][:64], digits[1][:64]
    frozen = [w.copy() for member in members for w in member.get_weights()]
    history = distiller.fit(x, y, batch_size=32, epochs=3, verbose=0).history
    assert history["soft_targets"][-1] < history["soft_targets"][0]
    for before, after in zip(frozen, [w for m in members for w in m.get_weights()], strict=True):
        np.testing.assert_array_equal(before, after)
    assert len(distiller.trainable_variables) == len(student.trainable_variables)


def test_the_step_uses_the_outputs_of_the_ensemble(make_model, digits):
    ensemble, student = Ensemble([make_model(4), make_model(8)], weights="label_loss"), make_model(4)
    distiller = kd.Distiller(ensemble, student, temperature=2.0)
    distiller.compile(keras.optimizers.SGD(0.0), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits[0][:16], digits[1][:16]
    logs = distiller.fit(x, y, batch_size=16, verbose=0).history
    p, q = (softmax(np.asarray(z, "float64") / 2) for z in (ensemble(Batch(x, y)).outputs["output"], student(x)))
    assert logs["soft_targets"][0] == pytest.approx(4 * (p * np.log(p / q)).sum(-1).mean(), rel=1e-4)


def test_saved_with_a_distiller(make_model, digits, tmp_path):
    for number in range(2):
        make_model(4 + number).save(tmp_path / f"{number}.keras")
    paths = [tmp_path / f"{number}.keras" for number in range(2)]
    ensemble = Ensemble(paths, weights=[1, 3], inputs=[double, Resized(8, 8)])
    distiller = kd.Distiller(ensemble, make_model(4), losses=[SoftTargets()])
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert isinstance(loaded.teacher, Ensemble) and loaded.teacher.fingerprint == ensemble.fingerprint
    batch = Batch(digits[0][:4])
    np.testing.assert_array_equal(loaded.teacher(batch).outputs["output"], ensemble(batch).outputs["output"])

    paths[1].rename(tmp_path / "elsewhere.keras")
    absent = keras.models.load_model(tmp_path / "d.keras")
    assert isinstance(absent.teacher, AbsentGroup) and absent.teacher.fingerprint == ensemble.fingerprint
    with pytest.raises(TeacherError, match="nothing for '1' .*1.keras.*distiller.teacher = Ensemble"):
        absent.teacher(batch)
    with pytest.raises(TeacherError, match="another teacher"):
        absent.teacher = Ensemble([paths[0], tmp_path / "elsewhere.keras"])
    absent.save(tmp_path / "again.keras")
    absent.teacher = ensemble
    assert absent.teacher is ensemble
    (tmp_path / "elsewhere.keras").rename(paths[1])
    assert isinstance(keras.models.load_model(tmp_path / "again.keras").teacher, Ensemble)


def test_config_and_fingerprint(make_model, tmp_path):
    make_model(4).save(tmp_path / "t.keras")
    member = FrozenTeacher(tmp_path / "t.keras")
    base = Ensemble([member, member])
    others = [
        Ensemble([member, member], weights=[1, 3]),
        Ensemble([member, member], weights="learned"),
        Ensemble([member, member], combine="logits"),
        Ensemble([member, member], activation="sigmoid"),
        Ensemble([member, member], inputs=[None, double]),
        Ensemble([member, member], classes=[None, range(10)], num_classes=10),
        Ensemble([member]),
    ]
    for ensemble in (base, *others):
        again = deserialize(serialize(ensemble))
        assert serialize(again) == serialize(ensemble) and again.fingerprint == ensemble.fingerprint
    assert len({ensemble.fingerprint for ensemble in (base, *others)}) == 1 + len(others)
    assert base.fingerprint.startswith("sha256:") and base.supports_jit


def test_it_is_compiled_only_where_all_members_can_be():
    teacher = Constant([[0.0, 1.0]])
    assert Ensemble([teacher]).supports_jit

    class Slow(Constant):
        supports_jit = False

    assert not Ensemble([teacher, Slow([[0.0, 1.0]])]).supports_jit
