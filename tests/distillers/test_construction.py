"""Inconsistent arguments are rejected at construction."""

import keras
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.losses import SoftTargets, Weighted

CrossEntropy = keras.losses.SparseCategoricalCrossentropy


def classes(n, activation=None):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(n, activation=activation)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: kd.Distiller(classes(3), classes(4)), ConfigurationError, r"\(None, 3\).*\(None, 4\)"),
        (lambda: kd.Distiller(classes(3), "student.keras"), ConfigurationError, "`student` must be a keras.Model.*str"),
        (lambda: kd.Distiller(lambda x: x, classes(3)), ConfigurationError, "`teacher` must be.*path of a .keras file"),
        (lambda: kd.Distiller("missing.keras", classes(3)), TeacherError, "missing.keras"),
        (lambda: kd.Distiller(classes(3), classes(3), alpha=1.5), ConfigurationError, "TEACHER.*student_loss_weight"),
        (lambda: kd.Distiller(classes(3), classes(3), temperature=0), ConfigurationError, "temperature"),
        (lambda: kd.Distiller(classes(3), classes(3), losses=["soft"]), ConfigurationError, "Unknown loss"),
        (
            lambda: kd.Distiller(classes(3), classes(3), losses=[]),
            ConfigurationError,
            r"losses=\[\].*None for the default",
        ),
        (
            lambda: kd.Distiller(classes(3), classes(3), losses=[SoftTargets(), SoftTargets()]),
            ConfigurationError,
            "unique name",
        ),
        (lambda: kd.Distiller(classes(3), classes(3), losses=[SoftTargets(name="loss")]), ConfigurationError, "'loss'"),
        (
            lambda: kd.Distiller(classes(3), classes(3), losses=SoftTargets(student="digit")),
            ConfigurationError,
            "'digit'.*'output'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student_loss_weight": 0.3}, r"student_loss_weight=0.3.*alpha=0.7\b.*1 - student_loss_weight"),
        (
            {"distillation_losses": [keras.distillation.LogitsDistillation(loss="mse")]},
            r"losses=\[LogitsDistillation\(...\)\]",
        ),
        (
            {"distillation_losses": SoftTargets(), "distillation_loss_weights": [2.0, 1], "student_loss_weight": 1},
            r"losses=\[SoftTargets\(...\)\], losses=\[Weighted\(..., 2.0\), Weighted\(..., 1\)\], alpha=0\.",
        ),
        ({"alpa": 0.3}, "alpa=0.3.*alpha, temperature.*Did you mean 'alpha'"),
        ({"strategy": SoftTargets()}, "does not have these arguments.*student_outputs"),
    ],
)
def test_arguments_of_keras_distillation_are_translated(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        kd.Distiller(classes(3), classes(3), **settings)


def test_keras_schedules_everywhere(tmp_path):
    """For alpha, temperature and a weight: their values at each step, and after saving."""
    decay = keras.optimizers.schedules.PolynomialDecay
    term = Weighted(SoftTargets(temperature=decay(8.0, 4, 2.0)), decay(3.0, 4, 1.0))
    distiller = kd.Distiller(classes(3), classes(3), alpha=decay(1.0, 4, 0.0), losses=[term])
    distiller.compile("sgd", loss=CrossEntropy(from_logits=True))
    x, y = keras.ops.ones((8, 4)), keras.ops.zeros(8)
    alphas = [distiller.train_on_batch(x, y, return_dict=True)["alpha"] for _ in range(3)]
    assert alphas == pytest.approx([1.0, 0.75, 0.5])
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.alpha.get_config() == distiller.alpha.get_config()
    assert loaded.terms[0].weight.get_config() == term.weight.get_config()
    assert float(loaded.terms[0].loss._temperature.at(2)) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (None, "sparse_categorical_crossentropy"),
        (None, "SparseCategoricalCrossentropy"),
        (None, CrossEntropy()),
        (None, keras.losses.categorical_crossentropy),
        (None, [CrossEntropy()]),
        (None, {"output": CrossEntropy()}),
        ("softmax", CrossEntropy(from_logits=True)),
        ("sigmoid", keras.losses.BinaryCrossentropy(from_logits=True)),
    ],
)
@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_a_loss_that_takes_logits_for_probabilities_is_refused(activation, loss):
    distiller = kd.Distiller(classes(3), classes(3, activation))
    with pytest.raises(ConfigurationError, match="wrongly and silently.*from_logits="):
        distiller.compile("sgd", loss=loss)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [
        (None, CrossEntropy(from_logits=True)),
        (None, "mse"),
        ("softmax", "sparse_categorical_crossentropy"),
        ("softmax", CrossEntropy()),
        (None, None),
    ],
)
@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_a_loss_that_fits_is_taken(activation, loss):
    kd.Distiller(classes(3), classes(3, activation)).compile("sgd", loss=loss)


def test_models_that_end_in_an_activation_are_handled_and_it_is_said_once(recwarn):
    kd.Distiller(classes(3, "softmax"), classes(3, "softmax"))
    notices = [w for w in recwarn if issubclass(w.category, Notice)]
    assert len(notices) == 1
    assert "teacher's 'output' ends in softmax, the student's 'output' ends in softmax" in str(notices[0].message)
    assert notices[0].filename == __file__


def test_one_sigmoid_output_is_compared_by_the_binary_term():
    with pytest.warns(Notice):
        distiller = kd.Distiller(classes(1, "sigmoid"), classes(1, "sigmoid"))
    assert distiller.terms[0].activation == "sigmoid"
    assert kd.Distiller(classes(1), classes(1)).terms[0].activation == "sigmoid"


def test_several_outputs_without_a_common_name_ask_for_pairs():
    x = keras.Input((4,))
    teacher = keras.Model(x, {"a": keras.layers.Dense(3)(x), "b": keras.layers.Dense(2)(x)})
    with pytest.raises(ConfigurationError, match="no output in common.*SoftTargets.teacher="):
        kd.Distiller(teacher, classes(3))
    distiller = kd.Distiller(teacher, classes(3), losses=Weighted(SoftTargets(teacher="a"), 2.0))
    assert distiller.terms[0].teacher == "a"


def test_alpha_is_checked_when_it_is_set():
    distiller = kd.Distiller(classes(3), classes(3), alpha=0.5)
    with pytest.raises(ConfigurationError, match="0 <= alpha <= 1"):
        distiller.alpha = 2
    assert distiller.alpha == 0.5


@pytest.mark.parametrize(
    "loss", [keras.losses.BinaryCrossentropy(from_logits=True), keras.losses.BinaryFocalCrossentropy(from_logits=True)]
)
def test_independent_labels_are_not_taken_for_exclusive_classes(loss):
    distiller = kd.Distiller(classes(3), classes(3))
    distiller.compile("sgd", loss=loss)
    assert [term.activation for term in distiller.terms] == ["sigmoid"]
    for activation in ("sigmoid", "softmax"):  # an explicit activation takes precedence
        chosen = [SoftTargets(activation=activation)]
        kd.Distiller(classes(3), classes(3), losses=chosen).compile("sgd", loss=loss)
    kd.Distiller(classes(1), classes(1)).compile("sgd", loss=loss)
