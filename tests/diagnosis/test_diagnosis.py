"""The diagnosis of a teacher, against scikit-learn, SciPy and the papers' formulas in NumPy; a teacher per warning."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, entropy
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from keras_kd.diagnosis import diagnose, labeled_logits
from keras_kd.diagnosis.labeled_logits import LabeledLogits
from keras_kd.diagnosis.measurements import TEMPERATURES, measure
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.features import ModelOutputs
from keras_kd.teachers import AbsentTeacher, FrozenTeacher, StoredLogits, calibration
from keras_kd.teachers.base import OfflineTeacher, Teacher
from keras_kd.teachers.calibration import wilson_interval as interval_of_the_report

layers = keras.layers
CLASSES = 5


def echo(num_classes=CLASSES, activation=None):
    """A model whose logits are its inputs: a teacher with arbitrary outputs."""
    dense = layers.Dense(num_classes, kernel_initializer="identity", use_bias=False, activation=activation)
    return keras.Sequential([keras.Input((num_classes,)), dense])


def chances(size=1500, scale=3.0, num_classes=CLASSES, seed=0):
    """Logits, and labels drawn from their softmax: a perfectly calibrated teacher."""
    generator = np.random.default_rng(seed)
    logits = (scale * generator.normal(size=(size, num_classes))).astype("float32")
    edges = softmax(logits.astype("float64"), axis=1).cumsum(axis=1)
    return logits, (generator.random((size, 1)) > edges[:, :-1]).sum(axis=1)


def as_logits(labels, height, num_classes=CLASSES):
    return (height * np.eye(num_classes)[labels]).astype("float32")


def kinds(diagnosis):
    return [warning.split(":")[0] for warning in diagnosis.warnings]


class Recorded(OfflineTeacher):
    """A teacher of stored logits, looked up by row number."""

    fingerprint, output_shapes = "recorded", None

    def __init__(self, logits):
        self.logits, self.asked = logits, []

    def outputs_for(self, ids, view, x):
        self.asked.append((ids.dtype, ids.tolist(), view, type(x)))
        return {"stored": self.logits[ids]}

    def decode(self, attached, taps):
        return ModelOutputs({"output": attached["stored"]})


# the numbers


def test_every_number_is_the_one_of_another_source():
    logits, labels = chances()
    found = diagnose(echo(), (logits, labels), progress=False).train
    p = softmax(logits.astype("float64"), axis=1)
    assert found.num_examples == 1500 and found.num_classes == CLASSES
    assert found.accuracy == accuracy_score(labels, p.argmax(axis=1))
    assert found.negative_log_likelihood == pytest.approx(log_loss(labels, p), rel=1e-6)
    assert found.mean_confidence == pytest.approx(p.max(axis=1).mean(), rel=1e-6)
    assert found.sure_share == pytest.approx((p.max(axis=1) > 0.999).mean())
    assert found.majority_share == np.bincount(labels).max() / 1500
    assert found.most_predicted_share == np.bincount(p.argmax(axis=1)).max() / 1500
    assert found.most_predicted_label_share == (labels == found.most_predicted).mean()
    right = round(found.accuracy * 1500)
    assert found.accuracy_interval == pytest.approx(tuple(binomtest(right, 1500).proportion_ci(0.95, "wilson")))
    for temperature in (1, 2, 4, 8, 20):
        soft = softmax(logits.astype("float64") / temperature, axis=1)
        assert found.entropy[temperature] == pytest.approx(entropy(soft, axis=1).mean(), rel=1e-6)
        assert found.dark_mass[temperature] == pytest.approx((1 - soft.max(axis=1)).mean(), rel=1e-6)


def test_calibration_error_is_the_papers():
    """Equations 3 and 5 of Guo et al., bin by bin."""
    logits, labels = chances(scale=6.0, size=300)
    p = softmax(2 * logits.astype("float64"), axis=1)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    found = diagnose(echo(), (2 * logits, labels), progress=False).train
    expected = 0.0
    for m in range(1, 16):
        inside = ((m - 1) / 15 < confidence) & (confidence <= m / 15)
        assert found.bins.count[m - 1] == inside.sum()
        if inside.any():
            expected += inside.sum() / 300 * abs(right[inside].mean() - confidence[inside].mean())
    assert found.calibration_error == pytest.approx(expected, rel=1e-6) and expected > 0.01


def test_a_calibrated_teacher_shows_the_error_of_chance():
    errors, by_chance = [], []
    for seed in range(20):
        logits, labels = chances(size=300, scale=1.5, seed=seed)
        bins = calibration.reliability_bins(
            calibration.confidences(logits), softmax(logits, axis=1).argmax(axis=1) == labels
        )
        errors.append(calibration.calibration_error(bins))
        by_chance.append(calibration.chance_calibration_error(bins))
    assert np.mean(errors) == pytest.approx(np.mean(by_chance), rel=0.15)


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.5, 12.0])
def test_best_temperature_has_the_least_loss(factor):
    logits, labels = chances()
    logits = factor * logits.astype("float64")

    def loss(log_temperature):
        return -log_softmax(logits / math.exp(log_temperature), axis=1)[np.arange(len(labels)), labels].mean()

    expected = math.exp(minimize_scalar(loss, bounds=(-4, 5), method="bounded", options={"xatol": 1e-8}).x)
    assert calibration.best_temperature(logits, labels) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(factor, rel=0.1)


def test_best_temperature_stays_in_its_range():
    right, wrong = as_logits([0, 1, 2], 1.0), as_logits([1, 2, 0], 1.0)
    assert calibration.best_temperature(right, np.arange(3)) == calibration.TEMPERATURE_RANGE[0]
    assert calibration.best_temperature(wrong, np.arange(3)) == calibration.TEMPERATURE_RANGE[1]


def test_blocks_of_rows_change_nothing(monkeypatch):
    logits, labels = chances(size=200)
    whole = calibration.best_temperature(logits, labels), calibration.confidences(logits, 2.0)
    monkeypatch.setattr(calibration, "_ROWS_AT_ONCE", 64)
    assert calibration.best_temperature(logits, labels) == pytest.approx(whole[0], rel=1e-9)
    np.testing.assert_array_equal(calibration.confidences(logits, 2.0), whole[1])
    np.testing.assert_allclose(whole[1], softmax(logits.astype("float64") / 2, axis=1).max(axis=1))


@pytest.mark.parametrize(("share", "size"), [(0.0, 10), (0.972, 360), (1.0, 7)])
def test_the_interval_is_the_one_of_the_report(share, size):
    assert calibration.wilson_interval(share, size) == interval_of_the_report(share, size)


def test_the_temperature_is_of_the_validation_data():
    logits, labels = chances()
    diagnosis = diagnose(echo(), (logits, labels), validation=(3 * logits, labels), progress=False)
    assert diagnosis.best_temperature == pytest.approx(3.0, rel=0.1)
    assert diagnosis.calibrated_error < 0.04 < 0.1 < diagnosis.validation.calibration_error
    alone = diagnose(echo(), (logits, labels), progress=False)
    assert alone.best_temperature is alone.calibrated_error is alone.validation is None


def test_large_logits_are_finite():
    found, _ = measure([LabeledLogits(np.array([[1e4, -1e4], [-1e4, 1e4]]), np.array([0, 0]))])
    assert found.negative_log_likelihood == pytest.approx(1e4) and found.entropy[20] == 0.0


# kinds of teachers


def test_probabilities_are_judged_by_their_logits():
    logits, labels = chances(size=300)
    linear, with_softmax = (
        diagnose(echo(activation=activation), (logits, labels), progress=False) for activation in (None, "softmax")
    )
    assert with_softmax.train.entropy == pytest.approx(linear.train.entropy)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_sigmoid_is_two_classes(activation):
    logits, labels = chances(num_classes=2, size=400)
    margin = logits[:, 1:] - logits[:, :1]
    two = diagnose(echo(2), validation=(logits, labels), progress=False)
    one = diagnose(echo(1, activation), validation=(margin, labels[:, None].astype("float32")), progress=False)
    assert one.num_classes == 2 and one.max_entropy == math.log(2)
    assert one.validation.entropy == pytest.approx(two.validation.entropy, rel=1e-5)
    assert one.validation.accuracy == two.validation.accuracy
    assert one.best_temperature == pytest.approx(two.best_temperature, rel=1e-4)


def test_a_saved_teacher_and_a_wrapped_one(tmp_path):
    logits, labels = chances(size=200)
    model = echo()
    model.save(tmp_path / "teacher.keras")
    expected = diagnose(model, (logits, labels), progress=False)
    assert diagnose(tmp_path / "teacher.keras", (logits, labels), progress=False) == expected
    assert diagnose(FrozenTeacher(model), (logits, labels), progress=False) == expected


def test_the_teacher_is_left_as_it_is_and_runs_in_inference(digits, make_model):
    model = make_model(dropout=0.5, norm=True)
    before = [np.array(weight) for weight in model.weights]
    found = diagnose(model, (digits[0][:100], digits[1][:100]), progress=False).train
    assert all((old == new).all() for old, new in zip(before, model.weights, strict=True)) and model.trainable
    predicted = model.predict(digits[0][:100], verbose=0).argmax(axis=1)
    assert found.accuracy == accuracy_score(digits[1][:100], predicted)


def test_one_of_several_outputs():
    logits, labels = chances(size=200)
    x = keras.Input((CLASSES,))
    model = keras.Model(x, {"good": layers.Identity()(echo()(x)), "bad": layers.Rescaling(-1.0)(echo()(x))})
    teacher = FrozenTeacher(model, outputs="logits")
    good, bad = (diagnose(teacher, (logits, {"good": labels, "bad": labels}), output=name) for name in ("good", "bad"))
    assert good.train.accuracy > 0.6 > 0.2 > bad.train.accuracy
    assert diagnose(teacher, (logits, labels), output="good") == good
    with pytest.raises(ConfigurationError, match="several outputs.*'good'"):
        diagnose(teacher, (logits, labels))
    with pytest.raises(ConfigurationError, match="Unknown output.*'ugly'.*'bad'"):
        diagnose(teacher, (logits, labels), output="ugly")
    with pytest.raises(
        ConfigurationError, match=r"Cannot tell which labels belong to the output. Received: labels of \['bad'\]"
    ):
        diagnose(teacher, (logits, {"bad": labels}), output="good")


def test_a_teacher_that_reads_the_labels():
    class Knowing(Teacher):
        fingerprint, output_shapes = "knowing", None

        def __call__(self, batch, taps=()):
            return ModelOutputs({"output": 9.0 * keras.ops.one_hot(batch.y, CLASSES)})

    logits, labels = chances(size=50)
    assert diagnose(Knowing(), (logits, labels), progress=False).train.accuracy == 1.0


def test_offline_outputs_are_requested_by_row_number():
    logits, labels = chances(size=10)
    teacher = Recorded(logits)
    data = tf.data.Dataset.from_tensor_slices((logits, labels)).batch(4)
    found = diagnose(teacher, data, progress=False)
    assert [row[1] for row in teacher.asked] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert {(row[0], row[2], row[3]) for row in teacher.asked} == {(np.dtype("int64"), 0, np.ndarray)}
    assert found == diagnose(echo(), (logits, labels), progress=False)


def test_outputs_in_the_batch_are_not_computed_again():
    from keras_kd.data.pipeline_inputs import PipelineInputs

    logits, labels = chances(size=10)
    teacher = Recorded(None)
    batches = [
        (PipelineInputs(np.zeros((5, 1)), None, None, {"stored": logits[at : at + 5]}), labels[at : at + 5])
        for at in (0, 5)
    ]
    assert diagnose(teacher, batches, progress=False) == diagnose(echo(), (logits, labels), progress=False)
    assert teacher.asked == []


def test_answers_stored_for_one_set_are_not_taken_for_another():
    logits, labels = chances(size=10)
    with pytest.raises(TeacherError, match="one set of examples.*Diagnose the original model"):
        diagnose(StoredLogits(logits), (logits, labels), validation=(logits, labels))
    stored = diagnose(StoredLogits(logits), validation=(logits, labels), progress=False)
    assert stored == diagnose(Recorded(logits), validation=(logits, labels), progress=False)


def test_a_missing_teacher_is_reported():
    with pytest.raises(TeacherError, match="loaded without its teacher"):
        diagnose(AbsentTeacher(None, None, "sha256:0"), chances(size=4), progress=False)


def test_inputs_reach_the_teacher_as_they_are():
    seen = []

    class Looking(Teacher):
        fingerprint, output_shapes = "looking", None

        def __call__(self, batch, taps=()):
            seen.append({name: keras.backend.standardize_dtype(value.dtype) for name, value in batch.x.items()})
            return ModelOutputs({"output": keras.ops.cast(batch.x["a"], "float32")})

    logits, labels = chances(size=10)
    x = {"a": logits.astype("float64"), "b": np.zeros((10, 2), "uint8")}
    keras.config.set_dtype_policy("mixed_float16")
    try:
        diagnose(Looking(), (x, labels), progress=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert seen[0] == {"a": "float64", "b": "uint8"}


# kinds of data


def test_arrays_and_batches_give_one_diagnosis():
    logits, labels = chances(size=50)
    expected = diagnose(echo(), (logits, labels), validation=(logits, labels), batch_size=7, progress=False)
    dataset = tf.data.Dataset.from_tensor_slices((logits, labels))
    forms = [
        (logits, np.eye(CLASSES)[labels]),
        (logits, labels[:, None].astype("float32")),
        dataset.batch(16),
        [(logits[:20], labels[:20]), (logits[20:], labels[20:])],
        iter([(logits, labels)]),
    ]
    for data in forms:
        found = diagnose(echo(), data, progress=False).train
        assert found == expected.train == expected.validation
    assert diagnose(echo(), validation=dataset.batch(50), progress=False).best_temperature == expected.best_temperature


def test_is_traced_once_whatever_the_batches():
    traces = []

    class Counting(Teacher):
        fingerprint, output_shapes = "counting", None

        def __call__(self, batch, taps=()):
            traces.append(batch.x.shape)
            return ModelOutputs({"output": batch.x})

    logits, labels = chances(size=50)
    diagnose(Counting(), (logits, labels), validation=(logits[:9], labels[:9]), batch_size=20, progress=False)
    assert len(set(traces)) == 1 and len(traces) <= 2  # XLA may trace the function a second time


def test_what_has_no_label_is_in_no_number():
    logits, labels = chances(size=60)
    expected = diagnose(echo(), (logits[:40], labels[:40]), progress=False).train
    unlabeled, weights, rows = labels.copy(), np.ones(60), np.eye(CLASSES)[labels]
    unlabeled[40:], weights[40:], rows[40:] = -1, 0, 0
    for data in [(logits, unlabeled), (logits, labels, weights), (logits, labels, weights[:, None]), (logits, rows)]:
        found = diagnose(echo(), data, progress=False).train
        assert found.num_unlabeled == 20
        assert {**vars(found), "num_unlabeled": 0} == vars(expected)


def test_each_position_counts():
    logits, labels = chances(size=60)
    sequences = logits.reshape(12, 5, CLASSES), labels.reshape(12, 5)
    model = keras.Sequential([keras.Input((5, CLASSES)), echo().layers[-1]])
    assert diagnose(model, sequences, progress=False) == diagnose(echo(), (logits, labels), progress=False)
    weighted = (*sequences, np.arange(12) > 0)
    assert diagnose(model, weighted, progress=False).train.num_examples == 55


LOGITS, LABELS = chances(size=6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "neither data nor validation"),
        (7, "Unsupported data type. Received: a int"),
        ([LOGITS], "no labels.*a tuple"),
        ((LOGITS, LABELS[:4]), r"shape \(4,\). Expected: shape \(6,\), or one-hot rows \(6, 5\)"),
        ((LOGITS, LABELS + 5), r"Received: 7 in row 0 and 5 more.*0\.\.4, or -1 for a missing label"),
        ((LOGITS, LABELS - 2), "Received: -2 in row 5"),
        ((LOGITS, LABELS + 0.5), "fractions"),
        ((LOGITS, np.full((6, 5), 0.2)), "not one-hot"),
        ((LOGITS, np.full(6, -1)), "6 unlabeled examples"),
        ((LOGITS[:0], LABELS[:0]), "at least one labeled example"),
        ([], "at least one labeled example"),
        (tf.data.Dataset.from_tensors((LOGITS, LABELS)).repeat(), "is infinite.*before `.repeat"),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(ConfigurationError, match=message):
        diagnose(echo(), data, progress=False)


def test_settings_and_teachers_that_do_not_fit():
    with pytest.raises(ConfigurationError, match="'batch_size'"):
        diagnose(echo(), (LOGITS, LABELS), batch_size=0)
    with pytest.raises(ConfigurationError, match="must be a model or a teacher"):
        diagnose("teacher".upper, (LOGITS, LABELS))
    with pytest.raises(ConfigurationError, match="Only exclusive classes.*5 sigmoids"):
        diagnose(echo(activation="sigmoid"), (LOGITS, LABELS))


# the warnings


def test_a_healthy_teacher_has_none(digits):
    x, y = digits[0].reshape(-1, 64), digits[1]
    fit = LogisticRegression(max_iter=500).fit(x[:1200], y[:1200])
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10, activation="softmax")])
    model.set_weights([fit.coef_.T, fit.intercept_])
    diagnosis = diagnose(model, (x[:1200], y[:1200]), validation=(x[1200:], y[1200:]), progress=False)
    assert diagnosis.train.accuracy == fit.score(x[:1200], y[:1200]) > 0.9
    assert diagnosis.warnings == () and str(diagnosis).endswith("No warnings.")


@pytest.mark.parametrize("seed", range(5))
def test_a_calibrated_teacher_of_few_examples_has_none(seed):
    logits, labels = chances(size=60, seed=seed)
    assert diagnose(echo(), validation=(logits, labels), progress=False).warnings == ()


def test_a_random_model_is_near_random(digits, make_model):
    diagnosis = diagnose(make_model(), (digits[0][:300], digits[1][:300]), progress=False)
    assert "Near-random" in kinds(diagnosis)
    assert "guessing gives 10.0%" in diagnosis.warnings[0]


def test_always_the_majority_is_near_random_however_right():
    logits, labels = chances(size=400)
    labels = np.where(np.arange(400) % 10, 0, labels)
    diagnosis = diagnose(echo(), (as_logits(np.zeros(400, int), 2.0), labels), progress=False)
    assert diagnosis.train.accuracy > 0.9 and "Near-random" in kinds(diagnosis)
    assert "Degenerate" in kinds(diagnosis)


def test_a_collapsed_teacher_is_degenerate_and_a_rare_class_is_not():
    labels = np.arange(500) % CLASSES
    answers = np.where(np.arange(500) % 50, 3, labels)
    (warning,) = [w for w in diagnose(echo(), (as_logits(answers, 2.0), labels)).warnings if w.startswith("Degenerate")]
    assert "predicts class 3 for 98" in warning and "only 20.0% have that label" in warning
    rare = (np.arange(500) % 50 == 0).astype(int)
    assert "Degenerate" not in kinds(diagnose(echo(), (as_logits(rare, 4.0), rare)))


def test_large_logits_are_saturated():
    logits, labels = chances()
    diagnosis = diagnose(echo(), (1000 * logits, labels), progress=False)
    assert kinds(diagnosis) == ["Saturated", "Badly calibrated"]
    assert "Even T = 20 does not soften it" in diagnosis.warnings[0]
    assert "overconfident" in diagnosis.warnings[1] and "Pass validation data" in diagnosis.warnings[1]


def test_the_advice_for_a_saturated_teacher_is_a_temperature_that_helps():
    labels = np.arange(500) % CLASSES
    diagnosis = diagnose(echo(), (as_logits(labels, 36.0), labels), progress=False)
    assert kinds(diagnosis) == ["Saturated"]
    at_8 = entropy(softmax([36 / 8, 0, 0, 0, 0]))
    assert f"temperature of 8 or more ({at_8:.2g} nats there)" in diagnosis.warnings[0]
    assert at_8 > 0.05 * math.log(5)
    assert entropy(softmax([36 / 4, 0, 0, 0, 0])) < 0.05 * math.log(5)


def test_saturation_is_of_what_the_student_learns_from():
    logits, labels = chances()
    memorised = as_logits(labels, 60.0)
    assert "Saturated" in kinds(diagnose(echo(), (memorised, labels), validation=(logits, labels)))
    assert "Saturated" not in kinds(diagnose(echo(), (logits, labels), validation=(memorised, labels)))


def test_memorised_labels_are_overfit():
    logits, labels = chances()
    diagnosis = diagnose(echo(), (as_logits(labels, 6.0), labels), validation=(logits, labels), progress=False)
    assert kinds(diagnosis) == ["Overfit"]
    gap = 100 - 100 * diagnosis.validation.accuracy
    assert f"100.0% on the training data and {100 - gap:.1f}%" in diagnosis.warnings[0]
    assert f"{gap:.1f} points less" in diagnosis.warnings[0]


@pytest.mark.parametrize(("size", "is_overfit"), [(20, False), (400, True)])
def test_a_gap_within_the_noise_is_not_overfit(size, is_overfit):
    """A gap of 15 points is within the noise of 20 examples."""
    labels = np.arange(size) % CLASSES
    answers = np.where(np.arange(size) % 20 < 3, (labels + 1) % CLASSES, labels)
    diagnosis = diagnose(echo(), (as_logits(labels, 3.0), labels), validation=(as_logits(answers, 3.0), labels))
    assert ("Overfit" in kinds(diagnosis)) is is_overfit


@pytest.mark.parametrize(("factor", "word"), [(3.0, "overconfident"), (0.3, "underconfident")])
def test_bad_calibration_names_the_temperature(factor, word):
    logits, labels = chances()
    diagnosis = diagnose(echo(), validation=(factor * logits, labels), progress=False)
    assert kinds(diagnosis) == ["Badly calibrated"] and word in diagnosis.warnings[0]
    assert f"by {diagnosis.best_temperature:.3g}" in diagnosis.warnings[0]
    assert diagnosis.best_temperature == pytest.approx(factor, rel=0.1)


def test_answers_that_are_not_finite_are_counted_and_left_out():
    logits, labels = chances(size=200)
    broken = np.concatenate([logits, np.full((2, CLASSES), np.nan), [[0, 0, -np.inf, 0, 0]]]).astype("float32")
    diagnosis = diagnose(echo(), validation=(broken, np.append(labels, [0, 1, -1])), progress=False)
    assert diagnosis.validation.num_not_finite == 2 and diagnosis.validation.num_unlabeled == 1
    assert kinds(diagnosis) == ["Not finite"] and "2 of 202 outputs for the validation data" in diagnosis.warnings[0]
    expected = diagnose(echo(), validation=(logits, labels), progress=False)
    assert diagnosis.validation.entropy == expected.validation.entropy
    assert diagnosis.best_temperature == expected.best_temperature


def test_no_finite_answer_is_an_error():
    with pytest.raises(TeacherError, match="in all 6 outputs.*diverged"):
        diagnose(echo(), (LOGITS * np.nan, LABELS), progress=False)


# presentation


def test_reads_as_a_table():
    logits, labels = chances(size=200)
    unlabeled = labels.copy()
    unlabeled[:30] = -1
    diagnosis = diagnose(echo(), (logits, unlabeled), validation=(3 * logits, labels), progress=False)
    text = str(diagnosis)
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert rows["(of 5 classes)"].split()[-2:] == ["train", "validation"]
    assert rows["examples"].split()[-2:] == ["170", "200"]
    assert rows["unlabeled (excluded)"].split()[-2:] == ["30", "0"]
    assert rows["highest entropy, log(5), nats"].split()[-1] == "1.609"
    accuracy, (low, high) = diagnosis.validation.accuracy, diagnosis.validation.accuracy_interval
    assert f"{accuracy:.1%} ({low:.1%} to {high:.1%})" in rows["accuracy (95% interval)"]
    for temperature in TEMPERATURES:
        assert rows[f"entropy at T = {temperature}, nats"].endswith(f"{diagnosis.validation.entropy[temperature]:.3f}")
    assert f"Calibrated best at T = {diagnosis.best_temperature:.3g}: ECE" in text
    assert f"Warning: {diagnosis.warnings[0]}" in text and repr(diagnosis) == text
    assert max(map(len, rows.values())) < 80 or "Warning" in max(rows.values(), key=len)


def test_an_end_of_the_temperature_range_is_reported():
    labels = np.arange(50) % CLASSES
    diagnosis = diagnose(echo(), validation=(as_logits(labels, 4.0), labels), progress=False)
    assert "Calibrated best at T = 0.05 (an end of the range searched)" in str(diagnosis)


def test_goes_through_json():
    logits, labels = chances(size=200)
    for given in [{"data": (logits, labels)}, {"data": (logits, labels), "validation": (9 * logits, labels)}]:
        diagnosis = diagnose(echo(), **given, progress=False)
        content = diagnosis.as_dict()
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        assert content["train"]["entropy"]["4"] == diagnosis.train.entropy[4]
        assert content["train"]["bins"]["count"] == list(diagnosis.train.bins.count)
        assert content["warnings"] == list(diagnosis.warnings) and content["max_entropy"] == math.log(5)
        assert (content["validation"] is None) == (len(given) == 1)


@pytest.mark.parametrize(
    ("progress", "quiet_seconds", "is_shown"), [(True, 0, True), (True, 9, False), (False, 0, False)]
)
def test_long_work_shows_a_bar(monkeypatch, capsys, progress, quiet_seconds, is_shown):
    monkeypatch.setattr(labeled_logits, "_QUIET_SECONDS", quiet_seconds)
    logits, labels = chances(size=20)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    diagnose(echo(), validation=(logits, labels), batch_size=5, progress=progress)
    assert ("Validation data" in capsys.readouterr().out) is is_shown
