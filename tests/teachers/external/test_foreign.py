"""Functions on NumPy arrays as teachers: checked, converted to logits, fingerprinted, and carried by the batches."""

import importlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

import keras_kd as kd
from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher, Batch
from keras_kd.teachers.external.function import FunctionTeacher
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.external.probabilities import logits_of_probabilities
from keras_kd.teachers.fingerprints import fingerprint_of_path

SCALE = 2.0


def double(x):
    return SCALE * x


def triple(x):
    return 3 * x


def outputs_of(teacher, x):
    return teacher.outputs_for(np.arange(len(x)), 0, x)


def constant(value):
    return FunctionTeacher(lambda x: np.asarray(value))


def test_logits_are_passed_on_in_single_precision():
    x = np.random.default_rng(0).normal(size=(4, 3))
    seen = []
    teacher = FunctionTeacher(lambda x: seen.append(x.dtype) or x.astype("float64") * 2)
    outputs = outputs_of(teacher, x)
    assert seen == ["float32"] and outputs["output"].dtype == "float32"
    np.testing.assert_allclose(outputs["output"], 2 * x, rtol=1e-6)
    decoded = teacher.decode({"output": tf.constant(outputs["output"], "float16")}, ())
    assert decoded.outputs["output"].dtype == "float32"


def test_integers_stay_integers():
    seen = []
    outputs_of(FunctionTeacher(lambda x: seen.append(x.dtype) or np.zeros((len(x), 2))), np.arange(6).reshape(2, 3))
    assert seen == [np.arange(1).dtype]


def test_probabilities_become_logits():
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 5
    p = scipy.special.softmax(logits, -1)
    found = outputs_of(FunctionTeacher(lambda x: p, outputs="probabilities"), p)["output"]
    np.testing.assert_allclose(found, np.log(p), rtol=1e-6)
    np.testing.assert_allclose(scipy.special.softmax(found, -1), p, rtol=1e-6)


@pytest.mark.parametrize(("classes", "activation"), [(1, None), (4, "sigmoid")])
def test_a_binary_probability_becomes_log_odds(classes, activation):
    logits = np.random.default_rng(0).normal(size=(5, classes)) * 5
    p = scipy.special.expit(logits)
    teacher = FunctionTeacher(lambda x: p, outputs="probabilities", activation=activation)
    np.testing.assert_allclose(outputs_of(teacher, p)["output"], logits, rtol=1e-5, atol=1e-6)
    assert teacher.activations == {"output": "sigmoid"}


def test_a_probability_of_0_or_1_has_finite_logits():
    bound = -np.log(np.finfo(np.float32).tiny)
    np.testing.assert_allclose(logits_of_probabilities(np.array([0.0, 1.0]), "softmax"), [-bound, 0.0])
    np.testing.assert_allclose(logits_of_probabilities(np.array([0.0, 1.0]), "sigmoid"), [-bound, bound], rtol=1e-6)


def test_outputs_by_name():
    teacher = FunctionTeacher(
        lambda x: {"digit": x, "side": [x[:, :1]]}, num_classes={"digit": 3, "side/0": 1}, name="two heads"
    )
    assert teacher.output_shapes == {"digit": (None, 3), "side/0": (None, 1)}
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    outputs = outputs_of(teacher, x)
    np.testing.assert_array_equal(outputs["digit"], x)
    np.testing.assert_array_equal(outputs["side/0"], x[:, :1])


def test_the_first_batch_fixes_the_shapes():
    teacher = FunctionTeacher(lambda x: x * 2)
    assert teacher.output_shapes is None and teacher.activations == {}
    outputs_of(teacher, np.ones((2, 3)))
    assert teacher.output_shapes == {"output": (None, 3)} and teacher.activations == {"output": "linear"}
    with pytest.raises(TeacherError, match=r"unexpected names or shapes.*\(None, 4\).*\(None, 3\)"):
        outputs_of(teacher, np.ones((2, 4)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros(2),
            r"'output' does not have one row per example.*shape \(2,\) of float64 for 2 examples.*\(2, classes\)",
        ),
        (np.zeros((3, 4)), r"shape \(3, 4\)"),
        (np.array([["a"], ["b"]]), "<U1"),
        ([[0.0, 1.0], [np.nan, 0.0]], r"NaN or infinity.*shape \(2, 2\), first in row 1"),
        ([[0.0, np.inf], [0.0, 0.0]], "row 0"),
        ([[0.2, 0.8], [0.5, 0.5]], "looks like probabilities.*FunctionTeacher.*outputs='probabilities'"),
    ],
)
def test_invalid_outputs_are_rejected(value, message):
    with pytest.raises(TeacherError, match=message):
        outputs_of(constant(value), np.zeros((2, 1)))


def test_one_hot_logits_pass_with_outputs_logits():
    one_hot = np.eye(3)
    np.testing.assert_array_equal(
        outputs_of(FunctionTeacher(lambda x: x, outputs="logits"), one_hot)["output"], one_hot
    )


@pytest.mark.parametrize("value", [[[-0.1, 1.1]], [[3.0, 0.0]]])
def test_logits_declared_as_probabilities_are_rejected(value):
    with pytest.raises(TeacherError, match="does not contain probabilities.*outputs='logits'"):
        outputs_of(FunctionTeacher(lambda x: np.array(value), outputs="probabilities"), np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"function": 3}, "Unsupported teacher.*3"),
        ({"outputs": "odds"}, "'odds'"),
        ({"activation": "sigmoid"}, "Expected: outputs='probabilities'"),
        ({"outputs": "probabilities", "activation": "tanh"}, "'tanh'"),
        ({"num_classes": 0}, "'num_classes of output'.*0"),
        ({"num_classes": {"a": 2.5}}, "'num_classes of a'.*2.5"),
    ],
)
def test_invalid_settings_are_rejected(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        FunctionTeacher(**{"function": double, **settings})


# Fingerprints.


def test_a_functions_fingerprint_depends_on_its_source(tmp_path):
    one = FunctionTeacher(double).fingerprint
    assert one == FunctionTeacher(double).fingerprint and one.startswith("sha256:")
    others = [FunctionTeacher(triple), FunctionTeacher(double, name="other"), FunctionTeacher(double, fingerprint="v2")]
    assert len({one, *(teacher.fingerprint for teacher in others)}) == 4
    assert others[-1].fingerprint == "v2"


def test_a_functions_fingerprint_is_the_same_in_another_process(tmp_path, monkeypatch):
    (tmp_path / "my_teacher.py").write_text("import numpy as np\n\n\ndef teach(x):\n    return np.tanh(x)\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("my_teacher").teach
    code = "from my_teacher import teach; from keras_kd.teachers.external.function import FunctionTeacher as F"
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; {code}; print(F(teach).fingerprint)"
    environment = os.environ | {"KERAS_BACKEND": "numpy"}  # loads in half the time
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == FunctionTeacher(function).fingerprint


def test_a_functions_fingerprint_includes_the_constants_and_functions_it_uses(monkeypatch):
    def through(x):
        return double(x)

    def with_default(x, scale=SCALE):
        return scale * x

    functions = (double, through, with_default)
    before = [FunctionTeacher(function).fingerprint for function in functions]
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    with_default.__defaults__ = (4.0,)
    after = [FunctionTeacher(function).fingerprint for function in functions]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_a_function_with_hidden_state_needs_a_fingerprint():
    model = LogisticRegression()

    def closure(x):
        return model.predict_proba(x)

    def default(x, model=model):
        return model.predict_proba(x)

    def indirect(x):
        return closure(x)

    for function in (model.predict_proba, closure, default, indirect, np.tanh, type("C", (), {"__call__": double})()):
        with pytest.raises(TeacherError, match="source code of teacher.*does not identify it.*fingerprint='...'"):
            _ = FunctionTeacher(function).fingerprint
        assert FunctionTeacher(function, fingerprint="regression 3").fingerprint == "regression 3"


def test_a_folders_fingerprint_depends_on_names_and_contents(tmp_path):
    def folder(name, files):
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return fingerprint_of_path(tmp_path / name)

    one = folder("one", {"a": "1", "b/c": "2"})
    assert one == folder("same", {"b/c": "2", "a": "1"})
    assert len({one, folder("x", {"a": "2", "b/c": "2"}), folder("y", {"a": "1", "b/d": "2"})}) == 3


# In a distiller.


def batches_of(teacher, x, y, batch_size=32):
    """Batches as from a pipeline: the teacher's outputs are computed outside the training step."""

    def generate():
        for start in range(0, len(x), batch_size):
            ids = np.arange(start, min(start + batch_size, len(x)))
            yield PipelineInputs(x[ids], ids, np.zeros(len(ids), "int64"), teacher.outputs_for(ids, 0, x[ids])), y[ids]

    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), next(generate())
    )
    data = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return data.apply(tf.data.experimental.assert_cardinality(-(-len(x) // batch_size)))


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_training_equals_that_with_the_live_model(make_model, digits):
    x, y = digits[0][:128], digits[1][:128]
    model = make_model(8, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=1.0))
    start = make_model(4).get_weights()
    histories = []
    for teacher in (model, FunctionTeacher(lambda x: model(x).numpy(), outputs="probabilities")):
        distiller = kd.Distiller(teacher, make_model(4), alpha=0.7, temperature=3.0)
        distiller.student.set_weights(start)
        distiller.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        if teacher is model:
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
        else:
            data = batches_of(teacher, x, y)
        histories.append(distiller.fit(data, epochs=2, verbose=0, shuffle=False).history)
    live, carried = histories
    assert live["loss"][1] < live["loss"][0]
    for name in live:
        np.testing.assert_allclose(carried[name], live[name], rtol=1e-4, err_msg=name)


def test_a_distiller_reports_the_origin_of_the_logits(make_model):
    teacher = FunctionTeacher(double, outputs="probabilities", num_classes=10)
    with pytest.warns(Notice, match="teacher's 'output' ends in softmax"):
        kd.Distiller(teacher, make_model(4))


def test_batches_without_teacher_outputs_are_rejected():
    with pytest.raises(TeacherError, match="the batches do not contain its outputs"):
        FunctionTeacher(double)(Batch(np.zeros((1, 2))))


@pytest.mark.filterwarnings("ignore:The `keras_kd>FunctionTeacher")
def test_a_saved_distiller_requires_the_function_again(make_model, digits, tmp_path):
    teacher = FunctionTeacher(lambda x: x, fingerprint="mine 1", num_classes=10)
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == "mine 1"
    with pytest.raises(TeacherError, match="mine 1.*distiller.teacher"):
        absent(Batch(digits[0][:1]))
    distiller = kd.Distiller(teacher, make_model(4))
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    with pytest.raises(TeacherError, match="another teacher"):
        loaded.teacher = FunctionTeacher(lambda x: x, fingerprint="mine 2")
    loaded.teacher = teacher
    assert loaded.teacher is teacher


# By path.


def test_paths_that_are_not_a_teacher_are_rejected(tmp_path):
    (tmp_path / "t.onnx").write_bytes(b"")
    with pytest.raises(TeacherError, match="does not exist.*t.tflite"):
        from_path(tmp_path / "t.tflite")
    for path in (tmp_path / "t.onnx", tmp_path):
        with pytest.raises(ConfigurationError, match="Unsupported type of teacher file.*saved_model.pb"):
            from_path(path)
