"""SavedModels as teachers, against the Keras models and modules they were made from."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher, Batch
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.external.saved_model import SavedModelTeacher

layers = keras.layers


class Module(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(0).normal(size=(64, 3)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def logits(self, x):
        return tf.reshape(x, [-1, 64]) @ self.weights

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1])])
    def odds(self, x):
        return {"first": tf.sigmoid(self.logits(x)[:, :1]), "all": tf.sigmoid(self.logits(x))}


@pytest.fixture
def x(digits):
    return digits[0][:6]


@pytest.fixture
def exported(make_model, tmp_path):
    def export(model, name="model"):
        model.export(tmp_path / name, verbose=False)
        return tmp_path / name

    return export


@pytest.mark.parametrize("endpoint", ["serving_default", "serve"])
def test_outputs_equal_those_of_the_keras_model(make_model, exported, x, endpoint):
    model = make_model(4, norm=True, dropout=0.9)
    model.layers[1].moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    teacher = SavedModelTeacher(exported(model), endpoint=endpoint)
    assert teacher.output_shapes == {"output": (None, 10)} and teacher.activations == {"output": "linear"}
    assert not teacher.runs_outside_step
    for call in (teacher, tf.function(teacher)):
        np.testing.assert_allclose(call(Batch(x)).outputs["output"], model(x), rtol=1e-5, atol=1e-6)


def test_probabilities_become_logits(make_model, exported, x):
    model = make_model(4, activation="softmax")
    path = exported(model)
    with pytest.raises(TeacherError, match="looks like probabilities.*SavedModelTeacher.*outputs='probabilities'"):
        SavedModelTeacher(path)
    teacher = SavedModelTeacher(path, outputs="probabilities")
    assert teacher.activations == {"output": "softmax"}
    np.testing.assert_allclose(teacher(Batch(x)).outputs["output"], np.log(model(x)), rtol=1e-5, atol=1e-6)
    declared = SavedModelTeacher(path, outputs="logits")(Batch(x)).outputs["output"]
    np.testing.assert_allclose(declared, model(x), rtol=1e-5)


@pytest.mark.parametrize("endpoint", ["serving_default", "serve"])
@pytest.mark.parametrize("names", [("0", "1"), ("digit", "odd")])
def test_outputs_by_name(exported, x, endpoint, names):
    inputs = keras.Input((8, 8, 1))
    heads = [layers.Dense(3)(layers.Flatten()(inputs)), layers.Dense(2)(layers.Flatten()(inputs))]
    model = keras.Model(inputs, heads if names[0] == "0" else dict(zip(names, heads, strict=True)))
    teacher = SavedModelTeacher(exported(model), endpoint=endpoint)
    assert teacher.output_shapes == dict(zip(names, [(None, 3), (None, 2)], strict=True))
    live = kd.teachers.FrozenTeacher(model)(Batch(x)).outputs
    for name in names:
        np.testing.assert_allclose(teacher(Batch(x)).outputs[name], live[name], rtol=1e-5, atol=1e-6)


def test_a_module_of_plain_tensorflow(tmp_path, x):
    module = Module()
    tf.saved_model.save(module, tmp_path / "m", signatures={"serving_default": module.logits, "odds": module.odds})
    logits = x.reshape(6, 64) @ module.weights.numpy()
    np.testing.assert_allclose(from_path(tmp_path / "m")(Batch(x)).outputs["output"], logits, rtol=1e-5, atol=1e-6)
    settings = {"endpoint": "odds", "outputs": "probabilities", "activation": "sigmoid"}
    named = SavedModelTeacher(tmp_path / "m", **settings)(Batch(x)).outputs
    np.testing.assert_allclose(named["all"], logits, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scipy.special.expit(named["first"]), scipy.special.expit(logits[:, :1]), rtol=1e-5)


def test_it_keeps_its_own_precision_under_any_policy(make_model, exported, x):
    model = make_model(4)
    path = exported(model)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        logits = SavedModelTeacher(path)(Batch(x)).outputs["output"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, model(x), rtol=1e-5, atol=1e-6)


def test_training_equals_that_with_the_live_model_and_leaves_the_teacher_unchanged(make_model, exported, digits):
    x, y = digits[0][:64], digits[1][:64]
    model = make_model(8)
    saved = SavedModelTeacher(exported(model))
    start = make_model(4).get_weights()
    histories = []
    for teacher in (model, saved):
        distiller = kd.Distiller(teacher, make_model(4), alpha=0.7, temperature=3.0)
        distiller.student.set_weights(start)
        distiller.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        histories.append(distiller.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, err_msg=name)
    assert len(distiller.trainable_variables) == 4 and histories[0]["loss"][1] < histories[0]["loss"][0]
    np.testing.assert_allclose(saved(Batch(x)).outputs["output"], model(x), rtol=1e-5, atol=1e-5)


def test_it_receives_no_gradient(make_model, exported, x):
    teacher, inputs = SavedModelTeacher(exported(make_model(4))), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        logits = teacher(Batch(inputs)).outputs["output"]
    assert tape.gradient(logits, inputs) is None


def test_a_saved_distiller_refers_to_its_folder(make_model, exported, tmp_path):
    path = exported(make_model(4))
    teacher = from_path(path, outputs="logits")
    assert isinstance(teacher, SavedModelTeacher)
    distiller = kd.Distiller(teacher, make_model(4))
    distiller.save(tmp_path / "d.keras")
    with pytest.raises(TeacherError, match="can run arbitrary code.*safe_mode=False"):
        keras.models.load_model(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras", safe_mode=False).teacher
    assert isinstance(again, SavedModelTeacher) and again.get_config() == teacher.get_config()
    (path / "assets" / "note.txt").write_text("another file")
    with pytest.raises(TeacherError, match="another teacher"):
        keras.models.load_model(tmp_path / "d.keras", safe_mode=False)
    path.rename(tmp_path / "elsewhere")
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == teacher.fingerprint


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"path": "no"}, TeacherError, "does not exist.*no.*saved_model.pb"),
        ({"endpoint": "predict"}, ConfigurationError, "'predict'.*serving_default"),
        ({"outputs": "odds"}, ConfigurationError, "'odds'"),
        ({"activation": "sigmoid"}, ConfigurationError, "Expected: outputs='probabilities'"),
        ({"expected_fingerprint": "sha256:0"}, TeacherError, "another teacher"),
    ],
)
def test_invalid_teachers_are_rejected(make_model, exported, settings, error, message):
    with pytest.raises(error, match=message):
        SavedModelTeacher(**{"path": exported(make_model(4)), **settings})
