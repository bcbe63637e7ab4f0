"""Export of real models, in process unless the test needs isolation (a child process takes about 5 s)."""

import gzip
import pathlib
import re
import tempfile

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError, ExportError
from keras_kd.export import Converter, export_tflite


def run_file(interpreter, images):
    """The file's float outputs, computed image by image with the interpreter alone."""
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"])[0])
    return np.array(outputs)


@pytest.fixture(scope="module")
def int8_export(conv_net, digits, tmp_path_factory):
    """Exported in a child process, as by default."""
    path = tmp_path_factory.mktemp("int8") / "new" / "folder" / "net.tflite"
    calibration, samples = digits[0][:100], digits[0][1000:1300]
    return export_tflite(conv_net, path, format="int8", calibration=calibration, samples=samples)


def test_float32_agrees_with_keras(conv_net, digits, tmp_path, lite_model):
    images = digits[0][1000:1200]
    result = export_tflite(conv_net, tmp_path / "net.tflite", samples=images, isolate=False)

    expected = conv_net.predict(images, verbose=0)
    received = run_file(lite_model(result.path), images)
    difference = np.abs(expected - received).max()
    assert difference < 1e-5
    assert result.max_difference == pytest.approx(difference, abs=1e-5)
    assert result.agreement == 1.0
    assert (result.num_samples, result.samples_are_random) == (200, False)


def test_names_and_shapes_in_the_file_are_readable_and_static(conv_net, tmp_path, lite_model):
    result = export_tflite(conv_net, tmp_path / "net.tflite", batch_size=3, isolate=False)
    interpreter = lite_model(result.path)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["logits"]}}
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [3, 8, 8, 1]
    assert interpreter.get_output_details()[0]["shape_signature"].tolist() == [3, 10]


def test_int8_is_integers_throughout(int8_export, lite_model):
    interpreter = lite_model(int8_export.path)
    for details in interpreter.get_input_details() + interpreter.get_output_details():
        assert details["dtype"] is np.int8
        assert details["quantization"][0] > 0
    dtypes = {details["dtype"] for details in interpreter.get_tensor_details() if details["name"]}
    assert dtypes <= {np.int8, np.int32}  # int32: biases and shapes
    operators = {details["op_name"] for details in interpreter._get_ops_details()} - {"DELEGATE"}
    assert operators == {"CONV_2D", "RESHAPE", "FULLY_CONNECTED"}


def test_the_result_of_int8_states_what_was_measured(int8_export, conv_net, digits, lite_model):
    images = digits[0][1000:1300]
    interpreter = lite_model(int8_export.path)
    scale_in, zero_in = interpreter.get_input_details()[0]["quantization"]
    scale_out, zero_out = interpreter.get_output_details()[0]["quantization"]
    integers = np.clip(np.floor(images.astype("float64") / scale_in + 0.5) + zero_in, -128, 127)
    received = scale_out * (run_file(interpreter, integers.astype("int8")).astype("float64") - zero_out)
    expected = conv_net.predict(images, verbose=0)

    same = (received.argmax(1) == expected.argmax(1)).mean()
    assert 0.97 < same <= 1
    assert int8_export.agreement == pytest.approx(same)
    assert int8_export.max_difference == pytest.approx(np.abs(received - expected).max(), rel=1e-3)
    assert (int8_export.num_samples, int8_export.samples_are_random) == (300, False)
    content = int8_export.path.read_bytes()
    assert int8_export.num_bytes == len(content)
    assert len(gzip.decompress(gzip.compress(content))) > int8_export.gzip_bytes > 0
    assert str(int8_export) == (
        f"net.tflite: int8, {len(content) / 1000:.1f} kB (gzip {int8_export.gzip_bytes / 1000:.1f} kB); against "
        f"Keras: largest difference {int8_export.max_difference:.2g}, {same:.1%} the same class, "
        f"signal-to-noise {int8_export.snr:.1f} dB, on 300 real samples"
    )


def test_a_child_says_nothing_on_the_terminal(conv_net, tmp_path, capfd):
    capfd.readouterr()
    export_tflite(conv_net, tmp_path / "net.tflite", samples=np.zeros((1, 8, 8, 1), "float32"))
    out, err = capfd.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if "XNNPACK" not in line] == []  # LiteRT's own log line, once per process


@pytest.mark.parametrize(
    ("format", "limit", "share_of_bytes", "input_dtype", "weights_dtype"),
    [
        ("float16", 0.02, 0.6, np.float32, np.float16),
        ("dynamic", 0.5, 0.5, np.float32, np.int8),
        ("int16x8", 0.5, 0.5, np.int16, np.int8),
    ],
)
def test_other_formats(
    format, limit, share_of_bytes, input_dtype, weights_dtype, conv_net, digits, tmp_path, lite_model
):
    images = digits[0][:100]
    path = tmp_path / "net.tflite"
    plain = export_tflite(conv_net, path, samples=images, isolate=False)
    result = export_tflite(conv_net, path, format=format, calibration=images, isolate=False)
    assert plain.max_difference < result.max_difference < limit
    assert result.agreement >= 0.98
    assert result.num_bytes < share_of_bytes * plain.num_bytes
    interpreter = lite_model(path)
    assert interpreter.get_input_details()[0]["dtype"] is input_dtype
    tensors = interpreter.get_tensor_details()
    assert weights_dtype in {tensor["dtype"] for tensor in tensors if np.prod(tensor["shape"]) == 7680}


def test_operators_that_stay_in_float_are_named(tmp_path, generator, int8_export):
    features = keras.Input((4,))
    model = keras.Model(features, keras.ops.cumsum(keras.layers.Dense(3)(features), axis=1))
    options = {"calibration": generator.random((30, 4)), "isolate": False}
    result = export_tflite(model, tmp_path / "net.tflite", format="int8", **options)
    assert result.float_operators == ("CUMSUM",)
    assert str(result).endswith("; still in float: CUMSUM")
    assert int8_export.float_operators == ()
    assert export_tflite(model, tmp_path / "net.tflite", **options).float_operators == ()


def test_without_samples_the_result_says_that_they_were_random(conv_net, tmp_path):
    result = export_tflite(conv_net, tmp_path / "net.tflite", isolate=False)
    assert (result.num_samples, result.samples_are_random) == (16, True)
    assert str(result).endswith("on 16 random samples")


@pytest.mark.parametrize("format", ["int8", "int16x8"])
def test_calibration_is_required(format, conv_net, tmp_path):
    with pytest.raises(ConfigurationError, match="needs `calibration`.*x_train"):
        export_tflite(conv_net, tmp_path / "net.tflite", format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": np.zeros((5, 8, 8), "float32")}, r"Received: \(5, 8, 8\). Expected: \(n, 8, 8, 1\)"),
        ({"calibration": np.zeros((5, 8, 8, 1), "uint8")}, "Received: uint8. Expected: float32"),
        ({"calibration": np.zeros((0, 8, 8, 1), "float32")}, "'calibration' is empty"),
        ({"samples": np.zeros((5, 8, 8, 3), "float32")}, "'samples' has a shape"),
        ({"format": "int2"}, "'int2'"),
        ({"calibration_method": "kl"}, "Invalid 'calibration_method'.*'min_max'"),
        ({"min_snr": "high"}, "Invalid 'min_snr'"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"path": "."}, "is a folder"),
        ({"model": "net.keras"}, "Received: str. Expected: a built keras.Model"),
        ({"model": keras.Sequential([keras.layers.Dense(2)])}, "Sequential, which is not built"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, message, conv_net, tmp_path):
    arguments = {"model": conv_net, "path": tmp_path / "net.tflite", "format": "int8"}
    arguments["calibration"] = np.zeros((5, 8, 8, 1), "float32")
    with pytest.raises(ConfigurationError, match=message):
        export_tflite(**arguments | options)
    assert list(tmp_path.iterdir()) == []


def rolled_lstm():  # TensorFlow 2.21 segfaults on it; once that is fixed, find another crash
    return keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3, name="memory"), keras.layers.Dense(2)])


def unknown_operator():
    image = keras.Input((4,))
    return keras.Model(image, keras.ops.erfinv(image))


def depends_on_the_batch():
    image = keras.Input((4,))
    return keras.Model(image, image - keras.ops.mean(image, axis=0, keepdims=True))


@pytest.mark.parametrize(
    ("model", "shape", "options", "message"),
    [
        (rolled_lstm, (6, 4), {"format": "int8"}, "(?s)ended with SIG.*unroll=True in LSTM 'memory'"),
        (unknown_operator, (4,), {}, "(?s)rejected the model.*Erfinv.*polynomial"),
        (unknown_operator, (4,), {"isolate": False}, "(?s)rejected the model.*Erfinv.*polynomial"),
        (depends_on_the_batch, (4,), {"isolate": False}, "differs from that of the Keras model"),
    ],
    ids=["crash", "refusal", "refusal in process", "difference"],
)
def test_a_failed_export_leaves_the_former_file_and_nothing_else(
    model, shape, options, message, tmp_path, monkeypatch, generator
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "target" / "net.tflite"
    path.parent.mkdir()
    path.write_bytes(b"the good one")

    with pytest.raises(ExportError, match=message):
        export_tflite(model(), path, calibration=generator.random((8, *shape)), **options)
    assert path.read_bytes() == b"the good one"
    assert [file.name for file in path.parent.iterdir()] == ["net.tflite"]
    assert list(scratch.glob("keras_kd*")) == []  # TensorFlow may leave its own files there


def test_an_unrolled_lstm_converts_to_int8(tmp_path, generator):
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3, unroll=True), keras.layers.Dense(2)])
    options = {"format": "int8", "calibration": generator.random((30, 6, 4)), "isolate": False}
    assert export_tflite(model, tmp_path / "net.tflite", **options).max_difference < 0.1


def two_in_two_out(kind):
    first, second = keras.Input((4,), name="zebra"), keras.Input((3,), name="ant")
    joined = keras.layers.Concatenate()([first, second])
    left, right = keras.layers.Dense(2, name="right")(joined), keras.layers.Dense(5, name="left")(joined)
    if kind == "lists":
        return keras.Model([first, second], [left, right])
    return keras.Model({"zebra": first, "ant": second}, {"u": left, "b": right})


@pytest.mark.parametrize(("kind", "outputs"), [("lists", {"left", "right"}), ("dicts", {"u", "b"})])
@pytest.mark.parametrize(("format", "limit"), [("float32", 1e-6), ("int8", 0.1)])
def test_several_inputs_and_outputs(kind, outputs, format, limit, tmp_path, generator, lite_model):
    samples = {"zebra": generator.random((20, 4)), "ant": generator.random((20, 3)) - 3}
    options = {"calibration": samples, "format": format, "isolate": False}
    result = export_tflite(two_in_two_out(kind), tmp_path / "net.tflite", **options)
    signature = lite_model(result.path).get_signature_list()["serving_default"]
    assert set(signature["inputs"]) == {"zebra", "ant"}
    assert set(signature["outputs"]) == outputs
    assert result.max_difference < limit
    assert result.agreement is not None


def test_token_ids_stay_integers(tmp_path, generator, lite_model):
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 8)(tokens))
    model = keras.Model(tokens, keras.layers.Dense(4)(x))
    options = {"format": "int8", "calibration": generator.integers(0, 20, (30, 6)), "isolate": False}
    result = export_tflite(model, tmp_path / "net.tflite", **options)
    assert lite_model(result.path).get_input_details()[0]["dtype"] is np.int32
    assert result.max_difference < 0.01


def test_one_unit_has_no_agreement(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    result = export_tflite(model, tmp_path / "net.tflite", isolate=False)
    assert result.agreement is None
    assert "class" not in str(result)


def open_sizes():
    image = keras.Input((None, None, 1), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    return keras.Model(image, x)


def test_open_sizes_are_taken_from_the_samples(tmp_path, lite_model):
    samples = np.ones((3, 6, 7, 1), "float32")
    result = export_tflite(open_sizes(), tmp_path / "net.tflite", samples=samples, isolate=False)
    assert lite_model(result.path).get_input_details()[0]["shape"].tolist() == [1, 6, 7, 1]


def test_open_sizes_without_samples_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="open dimensions.*Pass `samples`"):
        export_tflite(open_sizes(), tmp_path / "net.tflite")


def test_samples_of_another_size_than_the_calibration_are_refused(tmp_path):
    samples = {"calibration": np.ones((3, 6, 6, 1), "float32"), "samples": np.ones((3, 7, 7, 1), "float32")}
    with pytest.raises(ConfigurationError, match=r"Received: \(3, 7, 7, 1\). Expected: \(n, 6, 6, 1\)"):
        export_tflite(open_sizes(), tmp_path / "net.tflite", **samples)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_half_precision_model_is_exported_in_float32_and_left_as_it_was(policy, tmp_path, generator, lite_model):
    block = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Conv2D(4, 3, dtype=policy)])
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.BatchNormalization(dtype=policy)(keras.layers.Conv2D(4, 1, dtype=policy)(image))
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(block(x))
    model = keras.Model(image, keras.layers.Dense(3, dtype="float32", name="logits")(x))
    samples = generator.random((20, 8, 8, 1))

    result = export_tflite(model, tmp_path / "net.tflite", samples=samples, isolate=False)
    assert 0 < result.max_difference < 0.02  # the rounding of half precision
    dtypes = {details["dtype"] for details in lite_model(result.path).get_tensor_details()}
    assert np.float16 not in dtypes
    assert model.layers[1].compute_dtype == policy.removeprefix("mixed_")


class Doubled(keras.layers.Layer):
    def __init__(self, factor, **kwargs):  # without get_config, it cannot be rebuilt
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * keras.ops.cast(self.factor.real, inputs.dtype)


def test_a_half_precision_model_that_cannot_be_rebuilt_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), Doubled(2j, dtype="mixed_float16")])
    with pytest.raises(ExportError, match="half precision.*get_config"):
        export_tflite(model, tmp_path / "net.tflite", isolate=False)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs["a"] if isinstance(inputs, dict) else inputs)


def test_a_subclassed_model_with_one_input(tmp_path):
    model = Subclassed()
    model(np.zeros((2, 4), "float32"))
    assert export_tflite(model, tmp_path / "net.tflite", isolate=False).max_difference < 1e-6


def test_a_subclassed_model_with_named_inputs_is_refused(tmp_path):
    model = Subclassed()
    model({"a": np.zeros((2, 4), "float32")})
    with pytest.raises(ConfigurationError, match="subclassed model are unknown.*Wrap it"):
        export_tflite(model, tmp_path / "net.tflite")


def test_nan_in_the_output_is_an_error(tmp_path):
    image = keras.Input((4,))
    model = keras.Model(image, keras.ops.log(-1 - image))
    with pytest.raises(ExportError, match="NaN or infinity for output.*Keras model returns them too"):
        export_tflite(model, tmp_path / "net.tflite", isolate=False)


@pytest.mark.parametrize("name", ["good.keras", "good.h5", "good", "good.tflite.bak", "tflite", ".tflite"])
def test_a_file_of_another_kind_is_not_overwritten(name, tmp_path):
    """The suffix is checked first, so the model does not matter here."""
    file = tmp_path / name
    file.write_bytes(b"a model of many hours")
    with pytest.raises(ConfigurationError, match="must name a TFLite file.*ends in .tflite"):
        export_tflite(None, file)
    assert file.read_bytes() == b"a model of many hours"


@pytest.mark.parametrize("path", [None, 3, b"a.tflite"])
def test_what_is_not_a_path_is_refused(path):
    with pytest.raises(ConfigurationError, match=re.escape(f"must be a path. Received: {path!r}")):
        export_tflite(None, path)


def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path):
    (tmp_path / "net.tflite").mkdir()
    with pytest.raises(ConfigurationError, match="`path` is a folder"):
        export_tflite(None, tmp_path / "net.tflite")


def test_a_distiller_is_not_its_student(conv_net, tmp_path):
    import keras_kd as kd

    distiller = kd.Distiller(keras.models.clone_model(conv_net), conv_net)
    with pytest.raises(ConfigurationError, match="Received: Distiller.*Pass `distiller.student`"):
        export_tflite(distiller, tmp_path / "net.tflite")


def looking_up(layer, dtype, nested=False):
    inputs = keras.Input((1,), dtype=dtype, name="reviews")
    body = keras.layers.Embedding(9, 2)
    if nested:
        layer = keras.Sequential([keras.Input((1,), dtype=dtype), layer])
    return keras.Model(inputs, body(layer(inputs)))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: looking_up(keras.layers.TextVectorization(vocabulary=["a"], output_sequence_length=2), "string"),
            "text input 'reviews', layer TextVectorization",
        ),
        (
            lambda: looking_up(keras.layers.StringLookup(vocabulary=["a"]), "string", True),
            "'reviews', layer StringLookup",
        ),
        (lambda: looking_up(keras.layers.IntegerLookup(vocabulary=[4]), "int64"), "Received: layer IntegerLookup"),
        (lambda: looking_up(keras.layers.Hashing(5), "int64"), "Received: layer Hashing"),
    ],
    ids=["text", "nested strings", "integers", "hashes"],
)
def test_text_and_tables_are_refused(model, message, tmp_path):
    with pytest.raises(ConfigurationError, match=f"for text and look-up tables.*{message}.*Export the part"):
        export_tflite(model(), tmp_path / "net.tflite")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value, tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="end")]
    )
    weights = model.get_weights()
    weights[3][1] = value
    model.set_weights(weights)
    with pytest.raises(ConfigurationError, match="NaN or infinite. Received: .*end/bias. .*diverged"):
        export_tflite(model, tmp_path / "net.tflite")


@pytest.mark.parametrize(
    ("calibration", "samples", "message"),
    [
        (np.zeros((8, 8, 8, 1), "float32"), None, "has a single value"),
        (
            np.linspace(0, 255, 512, dtype="float32").reshape(8, 8, 8, 1),
            "digits",
            "not on the same scale.*255.*to 1",
        ),
        (np.linspace(0, 1, 512, dtype="float32").reshape(8, 8, 8, 1), 255.0, "not on the same scale.*to 1 .*to 255"),
    ],
)
def test_calibration_without_a_useful_range_is_refused(calibration, samples, message, conv_net, digits, tmp_path):
    images = digits[0][:20] if samples == "digits" else None if samples is None else digits[0][:20] * samples
    with pytest.raises(ConfigurationError, match=message):
        options = {"format": "int8", "calibration": calibration, "samples": images, "isolate": False}
        export_tflite(conv_net, tmp_path / "net.tflite", **options)


@pytest.mark.parametrize("isolate", [True, False])
def test_a_full_disk_is_said_and_leaves_nothing(isolate, conv_net, digits, tmp_path, monkeypatch):
    """For the file's own folder; the converter reports a full temporary folder."""
    path = tmp_path / "net.tflite"
    path.write_bytes(b"the good one")
    write = pathlib.Path.write_bytes

    def full(file, content):
        write(file, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    options = {"samples": digits[0][:4], "isolate": isolate}
    with pytest.raises(ExportError, match="net.tflite could not be written: .*No space left on device"):
        export_tflite(conv_net, path, **options)
    assert path.read_bytes() == b"the good one" and len(list(tmp_path.iterdir())) == 1


def test_one_child_gives_the_files_that_one_each_gives(conv_net, digits, tmp_path, int8_export):
    """Byte-identical, even after a model that crashed the converter; the fourth export gets a new child process."""
    images = digits[0][:100]
    options = {"calibration": images, "samples": images}
    crashing = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3), keras.layers.Dense(2)])
    with Converter() as converter:
        first = export_tflite(conv_net, tmp_path / "a.tflite", format="int8", converter=converter, **options)
        child = converter._child.pid
        export_tflite(conv_net, tmp_path / "b.tflite", converter=converter, **options)
        assert converter._child.pid == child
        with pytest.raises(ExportError, match="ended with SIG"):
            sequences = np.random.default_rng(0).random((8, 6, 4))
            export_tflite(crashing, tmp_path / "c.tflite", format="int8", calibration=sequences, converter=converter)
        again = export_tflite(conv_net, tmp_path / "d.tflite", format="int8", converter=converter, **options)
    assert int8_export.path.read_bytes() == first.path.read_bytes() == again.path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tflite", "b.tflite", "d.tflite"]


@pytest.mark.parametrize("form", ["float32", "int8", "int4", "int16x8"])
def test_any_number_of_examples(form, conv_net, digits, tmp_path):
    result = export_tflite(
        conv_net, tmp_path / "net.tflite", format=form, calibration=digits[0][:50], batch_size=None, isolate=False
    )
    model = litert.Model(result.path)
    assert model.batch_size is None
    (tensor,) = model.inputs.values()
    assert tensor.shape == (None, 8, 8, 1)
    whole, parts = model.predict(digits[0][:7]), [model.predict(digits[0][index : index + 1]) for index in range(7)]
    for name, values in whole.items():
        np.testing.assert_allclose(values, np.concatenate([part[name] for part in parts]), atol=1e-5)
