"""`litert.Model` against the Keras model, and with damaged files or inputs of the wrong shape."""

import concurrent.futures
import time

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError

layers = keras.layers


def open_batch_file(function, *specs):
    """The content of a file with a dynamic batch size and no signature."""
    import tensorflow as tf

    specs = [tf.TensorSpec(*spec) for spec in specs]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


def test_several_inputs_and_outputs_by_name(pair, pair_inputs, pair_file):
    model = litert.Model(pair_file, num_threads=1)
    expected = pair([pair_inputs["features"], pair_inputs["ids"]])
    outputs = model.predict(pair_inputs)
    assert outputs.keys() == expected.keys()
    for name, output in outputs.items():
        np.testing.assert_allclose(output, expected[name], atol=1e-5)
    assert {name: one.dtype for name, one in model.inputs.items()} == {"features": np.float32, "ids": np.int32}
    assert (model.batch_size, model.num_threads, model.has_signature, model.content) == (1, 1, True, pair_file)


def test_a_path_and_its_content_are_the_same_model(pair_inputs, pair_file, tmp_path):
    (tmp_path / "pair.tflite").write_bytes(pair_file)
    model = litert.Model(str(tmp_path / "pair.tflite"), num_threads=1)
    expected = litert.Model(pair_file, num_threads=1).predict(pair_inputs)
    for name, output in model.predict(pair_inputs).items():
        np.testing.assert_array_equal(output, expected[name])
    assert (model.name, model.content) == ("pair.tflite", pair_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x["features"], "Received: a ndarray. Expected: arrays named .'features', 'ids'."),
        (lambda x: {"features": x["features"]}, "Received: .'features'."),
        (lambda x: x | {"more": x["ids"]}, "Received: .'features', 'ids', 'more'."),
        (lambda x: x | {"ids": x["ids"][:3]}, "differ in their number of examples.*'features': 7, 'ids': 3"),
        (lambda x: x | {"ids": x["ids"].astype("float32")}, "'ids' takes whole numbers. Received: float32"),
        (lambda x: x | {"features": x["features"][:, :3]}, r"shape \(7, 3\). Expected: \(n >= 1, 4\)"),
        (lambda x: {name: array[:0] for name, array in x.items()}, r"shape \(0, 4\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message, pair_inputs, pair_file):
    with pytest.raises(ConfigurationError, match=message):
        litert.Model(pair_file, num_threads=1).predict(change(pair_inputs))


@pytest.mark.parametrize("num_examples", [1, 5, 300])
def test_an_open_batch_takes_any_number_of_examples(num_examples):
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    model = litert.Model(open_batch_file(lambda x: x @ weights, ([None, 4],)), num_threads=1)
    assert model.batch_size is None and not model.has_signature
    x = np.random.default_rng(1).normal(size=(num_examples, 4)).astype("float32")
    (output,) = model.predict(x).values()
    np.testing.assert_allclose(output, x @ weights, rtol=1e-5, atol=1e-6)


def test_an_open_batch_is_run_in_few_pieces(monkeypatch):
    model = litert.Model(open_batch_file(lambda x: x * 2, ([None, 4],)), num_threads=1)
    run, sizes = model._run, []

    def counted(contents):
        sizes.append([len(content) for content in contents.values()])
        return run(contents)

    monkeypatch.setattr(model, "_run", counted)
    model.predict(np.ones((300, 4), "float32"))
    assert sizes == [[256], [256]]


def test_the_last_batch_is_filled_up_and_cut_off(export_bytes):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    file = litert.Model(export_bytes(model, batch_size=5), num_threads=1)
    x = np.random.default_rng(1).normal(size=(12, 4)).astype("float32")
    (output,) = file.predict(x).values()
    assert file.batch_size == 5
    np.testing.assert_allclose(output, model(x), atol=1e-5)


def test_threads_take_turns(pair_inputs, pair_file, monkeypatch):
    model = litert.Model(pair_file, num_threads=1)
    expected = model.predict(pair_inputs)["scores"]
    run, running, most = model._run, [], []

    def slow_run(contents):
        running.append(contents)
        most.append(len(running))
        time.sleep(0.001)
        running.pop()
        return run(contents)

    monkeypatch.setattr(model, "_run", slow_run)

    def predict(row):
        contents, _ = model.encode({name: array[row : row + 1] for name, array in pair_inputs.items()})
        decode = model.outputs["scores"].decode
        return model.predict({name: array[row : row + 1] for name, array in pair_inputs.items()})["scores"], decode(
            model.run(contents)["scores"]
        )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(predict, range(7)))
    assert set(most) == {1}
    for row, (predicted, run_by_hand) in enumerate(rows):
        np.testing.assert_array_equal(predicted, expected[row : row + 1])
        np.testing.assert_array_equal(run_by_hand, expected[row : row + 1])


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(4096)])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "damaged.tflite").write_bytes(content)
    with pytest.raises(ConfigurationError, match="LiteRT cannot load .*damaged.tflite"):
        litert.Model(tmp_path / "damaged.tflite")


def test_a_file_that_is_cut_off_is_refused(pair_file):
    with pytest.raises(ConfigurationError, match="LiteRT cannot load a LiteRT file in memory"):
        litert.Model(pair_file[:200])


def test_a_name_that_is_no_text_is_refused(pair_file):
    assert pair_file.count(b"features") > 1
    with pytest.raises(ConfigurationError, match="LiteRT cannot load a LiteRT file in memory: 'utf-8'"):
        litert.Model(pair_file.replace(b"features", b"feat\xffres"))


def test_a_missing_file_and_a_wrong_number_of_threads(tmp_path, pair_file):
    with pytest.raises(ConfigurationError, match="no TFLite file.*missing.tflite.*export_tflite"):
        litert.Model(tmp_path / "missing.tflite")
    with pytest.raises(ConfigurationError, match="Invalid 'num_threads'"):
        litert.Model(pair_file, num_threads=0)


def test_a_batch_of_another_size_cannot_be_run(pair_inputs, pair_file):
    model = litert.Model(pair_file, num_threads=1)
    contents, num_examples = model.encode(pair_inputs)
    assert num_examples == 7
    with pytest.raises(ConfigurationError, match="LiteRT cannot run"):
        model.run(contents)
    assert len(model.predict(pair_inputs)["scores"]) == 7  # the model is still usable
