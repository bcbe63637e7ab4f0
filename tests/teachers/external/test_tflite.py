"""TFLite files as teachers, against their Keras models and against direct calls of the interpreter."""

import concurrent.futures
import time

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import keras_kd as kd
from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.external.tflite import TFLiteTeacher

layers = keras.layers


def write(model, path, int8_samples=None, types=(tf.int8, tf.int8)):
    """Writes a Keras model or a `tf.function` as a TFLite file."""
    if isinstance(model, keras.Model) and model.inputs[0].shape[0] is not None:
        model = tf.function(model, input_signature=[tf.TensorSpec(model.inputs[0].shape)])  # keeps the batch size
    if isinstance(model, keras.Model):
        model.export(path.with_suffix(""), verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_suffix("")))
    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([model.get_concrete_function()])
    if int8_samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([x[None]] for x in int8_samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = types
    path.write_bytes(converter.convert())
    return path


def trunk(batch_size=None):
    inputs = keras.Input((8, 8, 1), batch_size=batch_size)
    return inputs, layers.Flatten()(layers.ReLU()(layers.Conv2D(4, 3, strides=2)(inputs)))


def classifier(activation=None, units=10, batch_size=None):
    inputs, features = trunk(batch_size)
    return keras.Model(inputs, layers.Dense(units, activation=activation, kernel_initializer="he_normal")(features))


@pytest.fixture
def x(digits):
    return digits[0][:7]


def outputs_of(teacher, x):
    return teacher.outputs_for(np.arange(len(x)), 0, x)


def by_hand(path, x):
    """The dequantized outputs, example by example with integer inputs and outputs, and the output's scale."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for example in x:
        scale, zero = source["quantization"]
        interpreter.set_tensor(source["index"], np.round(example[None] / scale + zero).astype(source["dtype"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target["index"])[0].astype("float64"))
    scale, zero = target["quantization"]
    return (np.array(rows) - zero) * scale, scale


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_outputs_equal_those_of_the_keras_model(tmp_path, x, batch_size):
    model = classifier(batch_size=batch_size)
    teacher = TFLiteTeacher(write(model, tmp_path / "t.tflite"), num_threads=1)
    logits = np.concatenate([model(x[[i] * (batch_size or 1)])[:1] for i in range(len(x))])
    assert teacher.output_shapes == {"output": (None, 10)} and teacher.activations == {"output": "linear"}
    for size in (7, 2, 7, 1):
        outputs = outputs_of(teacher, x[:size])
        assert outputs["output"].dtype == "float32"
        np.testing.assert_allclose(outputs["output"], logits[:size], rtol=1e-5, atol=1e-5)


def test_a_softmax_is_found_in_the_graph(tmp_path, x):
    model = classifier("softmax")
    path = write(model, tmp_path / "t.tflite")
    p = np.asarray(model(x), "float64")
    for outputs in (None, "probabilities"):
        teacher = TFLiteTeacher(path, outputs=outputs, num_threads=1)
        assert teacher.activations == {"output": "softmax"}
        np.testing.assert_allclose(outputs_of(teacher, x)["output"], np.log(p), rtol=1e-5, atol=1e-5)
    assert TFLiteTeacher(path, outputs="logits").activations == {"output": "linear"}
    np.testing.assert_allclose(
        outputs_of(TFLiteTeacher(path, outputs="logits", num_threads=1), x)["output"], p, atol=1e-6
    )


def test_each_of_several_outputs_has_a_name_and_an_activation(tmp_path, x):
    inputs, features = trunk()
    heads = {
        "sure": layers.Dense(3, activation="softmax")(features),
        "odd": layers.Reshape((2, 1))(layers.Dense(2, activation="sigmoid")(features)),
        "raw": layers.Dense(4)(features),
    }
    model = keras.Model(inputs, heads)
    teacher = TFLiteTeacher(write(model, tmp_path / "t.tflite"), num_threads=1)
    assert teacher.activations == {"sure": "softmax", "odd": "sigmoid", "raw": "linear"}
    assert teacher.output_shapes == {"sure": (None, 3), "odd": (None, 2, 1), "raw": (None, 4)}
    logits, outputs = outputs_of(teacher, x), {name: np.asarray(value, "float64") for name, value in model(x).items()}
    np.testing.assert_allclose(logits["sure"], np.log(outputs["sure"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits["odd"], scipy.special.logit(outputs["odd"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits["raw"], outputs["raw"], rtol=1e-4, atol=1e-5)


def test_listed_outputs_are_numbered_as_in_the_keras_model(tmp_path, x):
    inputs, features = trunk()
    model = keras.Model(inputs, [layers.Dense(3)(features), layers.Dense(2)(features)])
    outputs = outputs_of(TFLiteTeacher(write(model, tmp_path / "t.tflite"), num_threads=1), x)
    for number, output in enumerate(model(x)):
        np.testing.assert_allclose(outputs[str(number)], output, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("types", [(tf.int8, tf.int8), (tf.uint8, tf.uint8)])
def test_integers_in_and_out(tmp_path, x, digits, types):
    model = classifier()
    path = write(model, tmp_path / "t.tflite", digits[0][:64], types)
    expected, step = by_hand(path, x)
    outputs = outputs_of(TFLiteTeacher(path, num_threads=1), x)["output"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    assert step > 1e-3 and np.abs(outputs - model(x)).max() < 3 * step


def test_a_quantized_probability_of_0_counts_as_half_a_step(tmp_path, x, digits):
    model = classifier("softmax")
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 20)
    path = write(model, tmp_path / "t.tflite", digits[0][:64])
    p, step = by_hand(path, x)
    assert p.min() == 0 and step == 1 / 256
    np.testing.assert_allclose(
        outputs_of(TFLiteTeacher(path, num_threads=1), x)["output"],
        np.log(np.maximum(p, step / 2)),
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize("output_is_open", [True, False])
def test_a_fixed_batch_size_of_one_that_the_input_does_not_show(tmp_path, output_is_open):
    """The input's batch size is dynamic, but the graph reshapes to a batch of 1."""
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def function(x):
        logits = tf.reshape(tf.nn.relu(tf.reshape(x, [1, 2, 2])), [1, 4]) @ weights
        return logits + x[:, :3] if output_is_open else logits

    path = write(function, tmp_path / "t.tflite")
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    teacher = TFLiteTeacher(path, num_threads=1)
    for size in (5, 1, 3):
        expected = np.maximum(x[:size], 0) @ weights + (x[:size, :3] if output_is_open else 0)
        np.testing.assert_allclose(outputs_of(teacher, x[:size])["output"], expected, rtol=1e-5, atol=1e-6)


def test_unknown_last_operators_are_rejected_if_outputs_look_like_probabilities(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def normalized(x):
        return tf.abs(x) / tf.reduce_sum(tf.abs(x), -1, keepdims=True)

    path = write(normalized, tmp_path / "t.tflite")
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    with pytest.raises(TeacherError, match="looks like probabilities.*TFLiteTeacher"):
        outputs_of(TFLiteTeacher(path), x)
    p = np.abs(x) / np.abs(x).sum(-1, keepdims=True)
    logits = outputs_of(TFLiteTeacher(path, outputs="probabilities", num_threads=1), x)["output"]
    np.testing.assert_allclose(logits, np.log(p), rtol=1e-5, atol=1e-6)


def test_threads_take_turns(tmp_path, digits, monkeypatch):
    model = classifier()
    teacher = TFLiteTeacher(write(model, tmp_path / "t.tflite"), num_threads=1)
    run, running, most = teacher._model._run, [], []

    def slow_run(x):
        running.append(x)
        most.append(len(running))
        time.sleep(0.002)
        running.pop()
        return run(x)

    monkeypatch.setattr(teacher._model, "_run", slow_run)
    pieces = [digits[0][start : start + 3 + start % 5] for start in range(0, 80, 4)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda piece: outputs_of(teacher, piece)["output"], pieces))
    assert set(most) == {1}
    for piece, output in zip(pieces, outputs, strict=True):
        np.testing.assert_allclose(output, model(piece), rtol=1e-5, atol=1e-5)


def test_the_file_identifies_the_teacher(tmp_path):
    path = write(classifier(), tmp_path / "t.tflite")
    teacher = from_path(path, num_threads=1)
    assert isinstance(teacher, TFLiteTeacher)
    again = deserialize(serialize(teacher))
    assert isinstance(again, TFLiteTeacher) and again.get_config() == teacher.get_config()
    write(classifier(), path)
    assert TFLiteTeacher(path).fingerprint != teacher.fingerprint
    with pytest.raises(TeacherError, match="another teacher"):
        deserialize(serialize(teacher))
    path.unlink()
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == teacher.fingerprint


def test_invalid_files_are_rejected(tmp_path, x):
    with pytest.raises(TeacherError, match="does not exist.*no.tflite"):
        TFLiteTeacher("no.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"no flatbuffer")
    with pytest.raises(ConfigurationError, match="LiteRT cannot load.*bad.tflite"):
        TFLiteTeacher(tmp_path / "bad.tflite")
    one, other = keras.Input((2,)), keras.Input((2,))
    write(keras.Model([one, other], layers.Dense(2)(one + other)), tmp_path / "two.tflite")
    with pytest.raises(ConfigurationError, match="'two.tflite' has more.*FunctionTeacher"):
        TFLiteTeacher(tmp_path / "two.tflite")
    teacher = TFLiteTeacher(write(classifier(), tmp_path / "t.tflite"))
    with pytest.raises(TeacherError, match=r"'t.tflite' does not take.*shape \(7, 64\).*n >= 1, 8, 8, 1"):
        outputs_of(teacher, x.reshape(7, 64))


def test_training_equals_that_with_the_live_model(make_model, tmp_path, digits):
    x, y = digits[0][:64], digits[1][:64]
    model = classifier()
    tflite = TFLiteTeacher(write(model, tmp_path / "t.tflite"), num_threads=1)
    start = make_model(4).get_weights()
    ids = np.arange(64)
    carried = PipelineInputs(x, ids, np.zeros(64, "int64"), tflite.outputs_for(ids, 0, x))
    histories = []
    for teacher, inputs in ((model, x), (tflite, carried)):
        distiller = kd.Distiller(teacher, make_model(4), alpha=0.7, temperature=3.0)
        distiller.student.set_weights(start)
        distiller.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        data = tf.data.Dataset.from_tensor_slices((inputs, y)).batch(16)
        histories.append(distiller.fit(data, epochs=2, verbose=0, shuffle=False).history)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, err_msg=name)
    assert histories[0]["loss"][1] < histories[0]["loss"][0]
