"""Runners against `Model.predict`, plain NumPy, and direct LiteRT calls."""

import gzip

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation.runners import KerasRunner, Runner, TFLiteRunner, file_sizes


def two_outputs():
    image = keras.Input((4,), name="features")
    return keras.Model(image, [keras.layers.Dense(2)(image), keras.layers.Dense(3)(image)], name="twins")


def two_inputs():
    first, second = keras.Input((4,)), keras.Input((4,))
    return keras.Model([first, second], keras.layers.Add()([first, second]), name="pair")


def test_keras_runner_predicts_as_the_model_does(net, images):
    runner = KerasRunner(net, batch_size=16)
    output = runner.predict(images)
    assert isinstance(runner, Runner)
    assert (runner.name, runner.num_threads, output.dtype) == ("net", None, np.float32)
    np.testing.assert_allclose(output, net.predict(images, verbose=0), atol=1e-6)


def test_keras_runner_is_in_inference_mode():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    ones = np.ones((8, 4), "float32")
    np.testing.assert_array_equal(KerasRunner(model).predict(ones), ones)


def test_keras_runner_traces_once_per_shape(images):
    traces = []

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    model = keras.Sequential([keras.Input((8, 8, 1)), Counted()])
    traces.clear()
    runner = KerasRunner(model, batch_size=10)
    for _ in range(3):
        runner.predict(images)  # 37 images: three batches of 10 and one of 7
    assert [shape[0] for shape in traces] == [10, 7]


def test_keras_runner_gives_float32_for_a_half_precision_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_float16")])
    runner = KerasRunner(model)
    assert runner.predict(np.ones((2, 4), "float32")).dtype == np.float32
    assert runner.run(np.ones((1, 4), "float32")).dtype == np.float16


def test_float_file_predicts_as_keras_does(net, float_file, images):
    runner = TFLiteRunner(float_file)
    output = runner.predict(images)
    assert (runner.name, runner.num_threads) == ("net", 1)
    assert (output.shape, output.dtype) == ((37, 5), np.float32)
    np.testing.assert_allclose(output, net.predict(images, verbose=0), atol=1e-5)


def test_int8_file_predicts_as_numpy_and_the_interpreter_do(int8_file, images):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(int8_file), num_threads=1)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    (scale_in, zero_in), (scale_out, zero_out) = source["quantization"], target["quantization"]
    integers = np.clip(np.floor(images.astype("float64") / scale_in + 0.5) + zero_in, -128, 127)
    expected = []
    for image in integers.astype("int8"):
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        expected.append(scale_out * (interpreter.get_tensor(target["index"])[0].astype("float64") - zero_out))

    np.testing.assert_allclose(TFLiteRunner(int8_file).predict(images), expected, rtol=1e-6)


def test_int8_file_is_near_keras(net, int8_file, images):
    expected = net.predict(images, verbose=0)
    error = np.abs(TFLiteRunner(int8_file).predict(images) - expected).max()
    assert 0 < error < 0.03 * np.abs(expected).max()


def test_values_beyond_the_calibrated_range_are_clipped(int8_file, images):
    runner = TFLiteRunner(int8_file)
    bright = np.full((1, 8, 8, 1), 1000, "float32")
    assert [one.max() for one in contents(int8_file, bright)] == [127]
    np.testing.assert_array_equal(runner.predict(bright), runner.predict(bright * 10))


def test_run_takes_what_prepare_gives_and_returns_the_tensor_as_it_is(int8_file, float_file, images):
    runner = TFLiteRunner(int8_file)
    prepared = runner.prepare(images[:1])
    raw = runner.run(prepared)
    assert ([one.dtype for one in contents(int8_file, images[:1])], raw.dtype, raw.shape) == (
        [np.int8],
        np.int8,
        (1, 5),
    )
    output = next(iter(litert.Model(int8_file).outputs.values()))
    scale, zero_point = output.scale, output.zero_point
    np.testing.assert_allclose((raw - float(zero_point)) * scale, runner.predict(images[:1]), rtol=1e-6)
    assert [one.dtype for one in contents(float_file, images[:1])] == [np.float32]


def contents(file, x):
    """The contents of the input tensors of a file."""
    return list(litert.Model(file).encode(x)[0].values())


def test_a_bound_run_gives_the_outputs_of_a_run_each_time(float_file, images):
    model = litert.Model(float_file)
    encoded, _ = model.encode(images[:1])
    run, expected = model.bind(encoded), list(model.run(encoded).values())
    for _ in range(3):
        for one, other in zip(run(), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_static_batch_that_does_not_divide_the_examples(net, export, images):
    runner = TFLiteRunner(export(net, batch_size=5))
    np.testing.assert_allclose(runner.predict(images), net.predict(images, verbose=0), atol=1e-5)


def test_sizes_of_the_file(float_file):
    runner = TFLiteRunner(float_file, name="small", num_threads=2)
    content = float_file.read_bytes()
    assert (runner.name, runner.num_threads) == ("small", 2)
    assert runner.num_bytes == len(content)
    assert runner.gzip_bytes == len(gzip.compress(content))
    assert file_sizes(str(float_file)) == (runner.num_bytes, runner.gzip_bytes)


def test_outputs_do_not_share_memory_with_the_interpreter(float_file, images):
    runner = TFLiteRunner(float_file)
    first = runner.run(runner.prepare(images[:1]))
    kept = first.copy()
    runner.run(runner.prepare(images[1:2]))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("make_runner", ["keras", "tflite"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 8, 8, 1), r"Received: shape \(0, 8, 8, 1\). Expected: \(n >= 1, 8, 8, 1\)"),
        ((3, 8, 8), r"Received: shape \(3, 8, 8\)"),
        ((3, 9, 8, 1), r"Received: shape \(3, 9, 8, 1\)"),
    ],
)
def test_examples_that_do_not_fit_are_refused(make_runner, shape, message, net, float_file):
    runner = KerasRunner(net) if make_runner == "keras" else TFLiteRunner(float_file)
    with pytest.raises(ConfigurationError, match=message):
        runner.predict(np.zeros(shape, "float32"))


@pytest.mark.parametrize(("model", "kind"), [(two_inputs, "inputs"), (two_outputs, "outputs")])
def test_several_inputs_or_outputs_are_refused(model, kind, export):
    with pytest.raises(ConfigurationError, match=f"has more {kind}. Received: 2"):
        KerasRunner(model())
    with pytest.raises(ConfigurationError, match=f"has more {kind}. Received: 2"):
        TFLiteRunner(export(model()))


def test_a_subclassed_model_with_several_outputs_is_refused():
    class Twins(keras.Model):
        def call(self, inputs):
            return {"a": inputs, "b": inputs}

    with pytest.raises(ConfigurationError, match="has more outputs. Received: 2"):
        KerasRunner(Twins()).predict(np.ones((2, 4), "float32"))


def test_a_missing_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="no TFLite file.*missing.tflite"):
        TFLiteRunner(tmp_path / "missing.tflite")
    (tmp_path / "broken.tflite").write_bytes(b"not a model")
    with pytest.raises(ConfigurationError, match="cannot load .*broken.tflite"):
        TFLiteRunner(tmp_path / "broken.tflite")
