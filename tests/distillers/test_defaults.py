"""The default term of each output follows from its compiled loss; if none does, the error names the valid terms."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError

L, losses = keras.layers, keras.losses
pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")


def head(size=1, activation=None):
    return keras.Sequential([keras.Input((4,)), L.Dense(size, activation=activation)])


def made_of(term):
    """The attributes that distinguish the default terms."""
    names = ("difference", "delta", "activation")
    return (type(term).__name__, *(getattr(term, name) for name in names if hasattr(term, name)))


SQUARED = ("OutputRegression", "squared", 1.0, None)
ABSOLUTE = ("OutputRegression", "absolute", 1.0, None)
SOFTMAX, SIGMOID = ("SoftTargets", "softmax"), ("SoftTargets", "sigmoid")
FOLLOWS = [
    # (size, activation, loss, term)
    *((1, None, loss, SQUARED) for loss in ("mse", "MSE", "MeanSquaredError", losses.MeanSquaredError())),
    (1, None, losses.mean_squared_error, SQUARED),
    (1, None, ["mse"], SQUARED),
    (1, None, {"output": "mse"}, SQUARED),
    (4, None, "mean_squared_error", SQUARED),
    (1, "relu", "mse", SQUARED),
    (3, None, losses.MeanAbsoluteError(reduction="sum"), ABSOLUTE),
    (1, None, "mae", ABSOLUTE),
    (1, None, losses.Huber(delta=2.5), ("OutputRegression", "huber", 2.5, None)),
    (1, None, losses.huber, ("OutputRegression", "huber", 1.0, None)),
    (2, "sigmoid", "mse", ("OutputRegression", "squared", 1.0, "sigmoid")),
    (3, "softmax", "mse", SOFTMAX),
    (1, "sigmoid", "bce", SIGMOID),
    (1, "sigmoid", losses.BinaryCrossentropy(), SIGMOID),
    (1, "sigmoid", "crossentropy", SIGMOID),
    (1, "sigmoid", None, SIGMOID),
    (1, "sigmoid", losses.Dice(), SIGMOID),
    (1, None, losses.BinaryCrossentropy(from_logits=True), SIGMOID),
    (3, None, losses.BinaryFocalCrossentropy(from_logits=True), SIGMOID),
    (3, None, losses.SparseCategoricalCrossentropy(from_logits=True), SOFTMAX),
    (3, None, losses.CategoricalFocalCrossentropy(from_logits=True), SOFTMAX),
    (3, "softmax", "categorical_crossentropy", SOFTMAX),
    (3, "softmax", losses.KLDivergence(), SOFTMAX),
    (3, "softmax", lambda y_true, y_pred: y_pred, SOFTMAX),
    (3, "softmax", None, SOFTMAX),
    (3, None, None, SOFTMAX),
]


@pytest.mark.parametrize(("size", "activation", "loss", "expected"), FOLLOWS)
def test_the_term_follows_from_the_compiled_loss(size, activation, loss, expected):
    distiller = kd.Distiller(head(size, activation), head(size, activation))
    distiller.compile("sgd", loss=loss)
    assert [made_of(term) for term in distiller.terms] == [expected]


class Own(losses.MeanSquaredError):
    def call(self, y_true, y_pred):
        return keras.ops.mean(y_pred, axis=-1)


def mean_squared_error(y_true, y_pred):
    """A different function with the name of one of Keras' losses."""
    return keras.ops.mean(y_pred, axis=-1)


@pytest.mark.parametrize(
    "loss", ["log_cosh", losses.Poisson(), losses.CategoricalHinge(), losses.KLDivergence(), Own(), mean_squared_error]
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_loss_from_which_no_term_follows_is_refused_and_the_terms_are_named(size, loss):
    distiller = kd.Distiller(head(size), head(size))
    with pytest.raises(ConfigurationError, match=r"No term follows.*OutputRegression\(\) for numbers.*SoftTargets\(\)"):
        distiller.compile("sgd", loss=loss)
    chosen = kd.Distiller(head(size), head(size), losses=[kd.losses.OutputRegression()])
    chosen.compile("sgd", loss=loss)


def test_one_number_without_a_compiled_loss_is_asked_about():
    with pytest.raises(ConfigurationError, match="may be a logit or a value.*OutputRegression"):
        kd.Distiller(head(1), head(1)).compile("sgd")
    distiller = kd.Distiller(head(1, "sigmoid"), head(1))  # the teacher's last layer decides
    distiller.compile("sgd")
    assert made_of(distiller.terms[0]) == SIGMOID


@pytest.mark.parametrize(
    ("teacher", "student"), [("softmax", None), ("sigmoid", None), (None, "sigmoid")], ids=lambda x: x or "linear"
)
def test_numbers_that_do_not_compare_are_refused(teacher, student):
    """Logits before a softmax or sigmoid do not compare with the linear outputs of the other model."""
    distiller = kd.Distiller(head(3, teacher), head(3, student))
    with pytest.raises(ConfigurationError, match="do not compare.*Choose the term"):
        distiller.compile("sgd", loss="mse")


def test_a_softmax_under_a_binary_loss_is_refused():
    distiller = kd.Distiller(head(3, "softmax"), head(3, "softmax"))
    with pytest.raises(ConfigurationError, match="independent labels.*exclusive classes.*activation='sigmoid'"):
        distiller.compile("sgd", loss="binary_crossentropy")


def test_a_regression_moves_as_numpy_says():
    """In float64 NumPy: at alpha 1, the gradient of the mean of (student - teacher)^2."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 4)).astype("float32")
    teacher, student = head(1), head(1)
    teacher.set_weights([rng.normal(size=(4, 1)) * 50, np.array([300.0])])
    kernel, bias = (np.asarray(w, "float64") for w in student.get_weights())
    error = x @ kernel + bias - teacher.predict(x, verbose=0).astype("float64")
    distiller = kd.Distiller(teacher, student, alpha=1.0)
    distiller.compile(keras.optimizers.SGD(0.01), loss="mse")
    logs = distiller.train_on_batch(x, np.zeros((16, 1)), return_dict=True)
    assert logs["output_regression"] == pytest.approx((error**2).mean(), rel=1e-5)
    np.testing.assert_allclose(student.get_weights()[0], kernel - 0.01 * 2 * x.T @ error / 16, rtol=1e-4)
    np.testing.assert_allclose(student.get_weights()[1], bias - 0.01 * 2 * error.mean(0), rtol=1e-4)


def several():
    x = keras.Input((4,))
    return keras.Model(x, {"kind": L.Dense(3)(x), "price": L.Dense(1)(x), "sold": L.Dense(1, activation="sigmoid")(x)})


MIXED = {"kind": losses.SparseCategoricalCrossentropy(from_logits=True), "price": "huber", "sold": "bce"}


@pytest.mark.parametrize("as_list", [False, True])
def test_each_output_has_the_term_of_its_own_loss(as_list):
    distiller = kd.Distiller(several(), several())
    distiller.compile("sgd", loss=list(MIXED.values()) if as_list else MIXED)
    assert {term.name: made_of(term)[0] for term in distiller.terms} == {
        "soft_targets_kind": "SoftTargets",
        "output_regression_price": "OutputRegression",
        "soft_targets_sold": "SoftTargets",
    }
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    labels = {"kind": np.zeros(8, "int64"), "price": np.ones((8, 1)), "sold": np.ones((8, 1))}
    history = distiller.fit(x, labels, verbose=0).history
    terms = [history[term.name][0] for term in distiller.terms]
    assert history["distillation_loss"][0] == pytest.approx(sum(terms), rel=1e-5)


def test_an_output_without_a_loss_is_asked_about_where_it_is_one_number():
    with pytest.raises(ConfigurationError, match="'price' is one number without a compiled loss"):
        kd.Distiller(several(), several()).compile("sgd", loss={name: MIXED[name] for name in ("kind", "sold")})


def test_a_loss_for_an_output_that_is_not_there_is_refused():
    with pytest.raises(ConfigurationError, match="'prize'.*'kind', 'price', 'sold'"):
        kd.Distiller(several(), several()).compile("sgd", loss={"prize": "mse"})


def test_a_term_that_was_chosen_stays():
    distiller = kd.Distiller(head(1), head(1), losses=[kd.losses.SoftTargets(activation="sigmoid")])
    distiller.compile("sgd", loss="mse")
    assert made_of(distiller.terms[0]) == SIGMOID


def test_compiling_again_follows_the_new_loss():
    distiller = kd.Distiller(head(1), head(1))
    for loss, expected in (("mse", SQUARED), (losses.BinaryCrossentropy(from_logits=True), SIGMOID), ("mae", ABSOLUTE)):
        distiller.compile("sgd", loss=loss)
        assert made_of(distiller.terms[0]) == expected
        logs = distiller.train_on_batch(np.ones((2, 4)), np.ones((2, 1)), return_dict=True)
        assert distiller.terms[0].name in logs


def test_a_loaded_distiller_goes_on_with_its_terms_and_follows_another_loss(tmp_path):
    head(1).save(tmp_path / "teacher.keras")
    distiller = kd.Distiller(tmp_path / "teacher.keras", head(1))
    distiller.compile("sgd", loss="mse")
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert made_of(loaded.terms[0]) == SQUARED
    x, y = np.ones((4, 4), "float32"), np.ones((4, 1), "float32")
    assert loaded.train_on_batch(x, y, return_dict=True) == pytest.approx(
        distiller.train_on_batch(x, y, return_dict=True)
    )
    loaded.compile("sgd", loss="mae")
    assert made_of(loaded.terms[0]) == ABSOLUTE
    with pytest.raises(ConfigurationError, match="No term follows"):
        loaded.compile("sgd", loss="poisson")


@pytest.mark.parametrize("says", ["at construction", "never"])
def test_a_sequential_without_an_input_is_seen_in_the_first_batch(says):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    settings = {"student_outputs": "logits"} if says == "at construction" else {}
    distiller = kd.Distiller(head(1), keras.Sequential([L.Dense(1)]), **settings)
    distiller.compile("sgd", loss="mse")
    history = distiller.fit(x, y, epochs=2, verbose=0).history
    assert made_of(distiller.terms[0]) == SQUARED and "output_regression" in history
    assert len(distiller.trainable_variables) == 2
    distiller.compile("sgd", loss="mae")
    distiller.fit(x, y, verbose=0)
    assert made_of(distiller.terms[0]) == ABSOLUTE


def test_a_student_that_is_seen_late_is_held_to_the_compiled_loss_then():
    distiller = kd.Distiller(head(3), keras.Sequential([L.Dense(3)]))
    distiller.compile("sgd", loss="sparse_categorical_crossentropy")
    with pytest.raises(ConfigurationError, match="wrongly and silently"):
        distiller.fit(np.ones((4, 4)), np.zeros(4), verbose=0)


def test_a_subclassed_student_with_one_output_has_no_softmax_over_one():
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(1)

        def call(self, x):
            return self.dense(x)

    distiller = kd.Distiller(head(1), Student(), student_outputs="logits")
    distiller.compile("sgd", loss="mse")
    history = distiller.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0).history
    assert made_of(distiller.terms[0]) == SQUARED and history["output_regression"][0] > 0


def test_who_says_sigmoid_of_several_outputs_is_believed():
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = L.Dense(3, activation="sigmoid")

        def call(self, x):
            return self.dense(x)

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    distiller = kd.Distiller(head(3, "sigmoid"), Student(), student_outputs="sigmoid", alpha=1.0)
    distiller.compile(keras.optimizers.SGD(0.0), loss="bce")
    logs = distiller.train_on_batch(x, np.ones((8, 3)), return_dict=True)
    _, said = distiller.study(x)
    expected = np.log(p := np.asarray(distiller.student(x), "float64")) - np.log(1 - p)
    np.testing.assert_allclose(said.outputs["output"], expected, atol=1e-4)
    assert made_of(distiller.terms[0]) == SIGMOID and np.isfinite(logs["soft_targets"])


def numbers(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])


def test_a_mean_of_probabilities_is_not_a_regression_target():
    members = [numbers(1), numbers(2)]
    refused = kd.Distiller(kd.teachers.Ensemble(members), numbers(3), alpha=1.0)
    with pytest.raises(ConfigurationError, match=r"returns logits of classes.*Ensemble.*combine='logits'"):
        refused.compile("sgd", "mse")
    distiller = kd.Distiller(kd.teachers.Ensemble(members, combine="logits"), numbers(3), alpha=1.0)
    distiller.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    expected = np.mean((np.asarray(members[0](x) + members[1](x)) / 2 - np.asarray(distiller.student(x))) ** 2)
    logs = distiller.train_on_batch(x, np.zeros((8, 4)), return_dict=True)
    assert logs["distillation_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_likeliest_classes_are_not_a_regression_target(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    pipeline = kd.data.Pipeline((x, np.zeros((8, 4), "float32")), batch_size=4)
    cached = kd.teachers.CachedTeacher.build(numbers(1), pipeline, tmp_path / "cache", top_k=2, progress=False)
    with pytest.raises(ConfigurationError, match="without top_k"):
        kd.Distiller(cached, numbers(3), alpha=1.0).compile("sgd", "mse")
