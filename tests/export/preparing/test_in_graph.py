"""Models with scaling of pixels, softmax or argmax around them, against NumPy and the files made of them."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.export import InputInfo, Metadata, OutputInfo, Pixels, export_tflite, spanning, with_processing
from keras_kd.export.preparing.in_graph import LargestIndex
from keras_kd.litert import Model, read_file

layers = keras.layers


def _scores(activation=None, *, name="scores", shape=(6, 6, 3)):
    keras.utils.set_random_seed(1)
    image = keras.Input(shape, name="image")
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(4, activation=activation, name=name)(x))


@pytest.fixture(scope="module")
def scores():
    return _scores()


@pytest.fixture
def pixels(generator):
    return generator.integers(0, 256, (40, 6, 6, 3)).astype("uint8")


def _softmax(values):
    powers = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "scaling",
    [
        Pixels(),
        Pixels.of_range(-1, 1),
        Pixels(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4)),
        Pixels(127, (1, 2, 3)),
    ],
    ids=["0..1", "-1..1", "by channel", "std by channel"],
)
def test_scaling_and_softmax_follow_the_formula(scores, pixels, scaling):
    app = with_processing(scores, preprocess=scaling, postprocess="softmax")
    scaled = (pixels.astype(np.float64) - scaling.mean) / scaling.std
    expected = _softmax(np.asarray(scores(scaled.astype("float32"))))
    np.testing.assert_allclose(app(pixels.astype("float32")), expected, atol=1e-5)
    np.testing.assert_allclose(scaling.of_inputs(scaled.astype("float32")), pixels)


def test_argmax_is_an_integer_without_the_last_axis(scores, pixels):
    app = with_processing(scores, postprocess="argmax")
    index = np.asarray(app(pixels / np.float32(255)))
    assert index.dtype == np.int32
    np.testing.assert_array_equal(index, np.asarray(scores(pixels / np.float32(255))).argmax(-1))
    ties = np.array([[0.0, -0.0, 0.0], [1.0, 2.0, 2.0]], "float32")
    assert np.asarray(LargestIndex()(ties)).tolist() == [0, 1]


def test_a_saved_and_loaded_model_computes_the_same(scores, pixels, tmp_path):
    app = with_processing(scores, preprocess=Pixels((1, 2, 3), 50), postprocess="argmax")
    app.save(tmp_path / "app.keras")
    loaded = keras.models.load_model(tmp_path / "app.keras")
    np.testing.assert_array_equal(loaded(pixels.astype("float32")), app(pixels.astype("float32")))


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_files_take_pixels(scores, pixels, tmp_path, format):
    app = with_processing(scores, preprocess=Pixels.of_range(-1, 1), postprocess="softmax")
    calibration, samples = spanning(pixels), pixels.astype("float32")
    result = export_tflite(
        app, tmp_path / "app.tflite", format=format, calibration=calibration, samples=samples, isolate=False
    )
    expected = _softmax(np.asarray(scores(samples / np.float32(127.5) - 1)))
    file = Model(result.path)
    assert list(file.inputs) == ["image"] and list(file.outputs) == ["probabilities"]
    np.testing.assert_allclose(file.predict(samples)["probabilities"], expected, atol=0.01)
    assert result.float_operators == ()
    assert [operator.name for operator in read_file(result.path).graphs[0].operators if operator.name == "CAST"] == []


def test_an_int8_file_takes_the_pixel_minus_128(scores, pixels, tmp_path, lite_model):
    app = with_processing(scores, preprocess=Pixels(), postprocess="argmax")
    dark = pixels // 2
    path = tmp_path / "app.tflite"
    export_tflite(app, path, format="int8", calibration=spanning(dark), samples=dark.astype("float32"), isolate=False)
    interpreter = lite_model(path)
    (image,), (index,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["dtype"] == np.int8 and image["quantization"] == (1.0, -128)
    assert index["dtype"] == np.int32 and list(index["shape"]) == [1]
    names = [operator.name for operator in read_file(path).graphs[0].operators]
    assert names == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "ARG_MAX"]  # a scaling without a mean costs nothing
    found = []
    for example in dark:
        interpreter.set_tensor(image["index"], (example.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        found += interpreter.get_tensor(index["index"]).tolist()
    expected = np.asarray(scores(dark / np.float32(255))).argmax(-1)
    assert np.mean(np.array(found) == expected) >= 0.9


def test_a_softmax_is_not_repeated(pixels):
    already = _scores("softmax")
    app = with_processing(already, postprocess="softmax")
    x = pixels / np.float32(255)
    np.testing.assert_allclose(app(x), already(x), atol=1e-6)
    assert app.output_names == ["scores"]


def test_some_of_several_outputs(pixels):
    image, size = keras.Input((6, 6, 3), name="image"), keras.Input((1,), name="size")
    x = layers.Concatenate()([layers.Flatten()(image), size])
    model = keras.Model([image, size], [layers.Dense(3, name="kind")(x), layers.Dense(2, name="place")(x)])
    app = with_processing(model, preprocess={"image": Pixels()}, postprocess={"kind": "argmax"})
    small = np.ones((40, 1), "float32")
    kind, place = model([pixels / np.float32(255), small])
    found = app([pixels.astype("float32"), small])
    assert set(found) == {"kind_class_index", "place"}
    np.testing.assert_array_equal(found["kind_class_index"], np.asarray(kind).argmax(-1))
    np.testing.assert_allclose(found["place"], place, atol=1e-5)
    assert [tensor.name for tensor in app.inputs] == ["image", "size"]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3)

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("kind", ["sequential", "nested", "subclassed", "named inputs"])
def test_every_kind_of_model(kind, generator):
    if kind == "subclassed":
        model = Subclassed()
        model(np.zeros((1, 4), "float32"))
    elif kind == "named inputs":
        values = keras.Input((4,), name="key")
        model = keras.Model({"key": values}, {"out": layers.Dense(3)(values)})
    else:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    if kind == "nested":
        outer = keras.Input((4,))
        model = keras.Model(outer, model(outer))
    x = generator.integers(0, 256, (5, 4)).astype("float32")
    app = with_processing(model, preprocess=Pixels(), postprocess="softmax", outputs="logits")
    named = (lambda value: {"key": value}) if kind == "named inputs" else (lambda value: value)
    (logits,) = keras.tree.flatten(model(named(x / np.float32(255))))
    np.testing.assert_allclose(app(named(x)), _softmax(np.asarray(logits)), atol=1e-6)


def test_a_fixed_batch_and_half_precision(pixels, tmp_path):
    image = keras.Input((6, 6, 3), batch_size=1, name="image")
    policy = "mixed_float16"
    x = layers.Flatten()(layers.Conv2D(2, 3, dtype=policy)(image))
    model = keras.Model(image, layers.Dense(3, dtype=policy)(x))
    app = with_processing(model, preprocess=Pixels(), postprocess="softmax")
    result = export_tflite(app, tmp_path / "app.tflite", samples=pixels.astype("float32"), isolate=False)
    assert result.agreement > 0.95


def test_trained_ranges_with_a_softmax(scores, pixels, tmp_path):
    aware = kd.compression.QuantizationAware().apply(_scores(), verbose=False)
    aware.compile("sgd", "mse")
    aware.fit(pixels / np.float32(255), np.zeros((40, 4)), verbose=0)
    with pytest.raises(ConfigurationError, match="trained ranges.*strip"):
        with_processing(aware, preprocess=Pixels())
    app = with_processing(aware, postprocess="softmax")
    x = pixels / np.float32(255)
    result = export_tflite(app, tmp_path / "app.tflite", format="int8", samples=x, isolate=False)
    assert result.ranges == "trained" and result.float_operators == ()


def test_labels_of_class_numbers(scores, tmp_path):
    metadata = Metadata(
        inputs=InputInfo("pixels from 0 to 255", mean=0, std=1, is_image=True),
        outputs=OutputInfo("the class", labels=list("abcd"), labels_are_of_values=True),
    )
    app = with_processing(scores, preprocess=Pixels(), postprocess="argmax")
    path = tmp_path / "app.tflite"
    samples = np.zeros((2, 6, 6, 3), "float32")
    export_tflite(app, path, samples=samples, metadata=metadata, isolate=False)
    found = kd.export.read_metadata(path)
    assert found.outputs["class_index"] == OutputInfo("the class", ("a", "b", "c", "d"), True)
    assert found.inputs["image"].std == (1.0,)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"postprocess": "sigmoid"}, "'softmax', 'argmax'"),
        ({"postprocess": {"other": "softmax"}}, "some of 'scores'"),
        ({"preprocess": "pixels"}, r"kd.export.Pixels"),
        ({"preprocess": {"other": Pixels()}}, "some of 'image'"),
        ({"preprocess": Pixels(mean=(1, 2))}, "2 numbers"),
        ({"postprocess": "softmax", "outputs": "scores"}, "'logits', 'probabilities'"),
    ],
)
def test_wrong_settings(scores, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        with_processing(scores, **settings)


@pytest.mark.parametrize("names", [("x", "probabilities"), ("probabilities", "net")], ids="/".join)
def test_names_that_are_taken(names, tmp_path):
    inputs = keras.Input((4,), name=names[0])
    model = keras.Model(inputs, layers.Dense(3)(inputs), name=names[1])
    app = with_processing(model, postprocess="softmax")
    path = tmp_path / "app.tflite"
    export_tflite(app, path, isolate=False)
    file = Model(path)
    assert list(file.outputs) == ["probabilities"] and list(file.inputs) == [names[0]]


def test_a_model_with_the_name_of_its_input():
    inputs = keras.Input((4,), name="x")
    with pytest.raises(ConfigurationError, match="different names"):
        with_processing(keras.Model(inputs, layers.Dense(3)(inputs), name="x"), postprocess="softmax")


def test_outputs_that_do_not_fit():
    x = keras.Input((4,), name="x")
    for output, choice, message in (
        (layers.Dense(1)(x), "argmax", "a single value"),
        (layers.Dense(2, activation="sigmoid")(x), "softmax", "of a sigmoid"),
        (LargestIndex()(x[:, None]), "argmax", "int32"),
        (
            layers.Average()([layers.Dense(2, activation=name)(x) for name in ("softmax", "sigmoid")]),
            "softmax",
            "Say outp",
        ),
    ):
        with pytest.raises(ConfigurationError, match=message):
            with_processing(keras.Model(x, output), postprocess=choice)
    tokens = keras.Input((4,), dtype="int32")
    with pytest.raises(ConfigurationError, match="dtype int32"):
        with_processing(keras.Model(tokens, layers.Embedding(3, 2)(tokens)), preprocess=Pixels())
    two = keras.Model(x, [layers.Dense(2)(x), layers.Dense(2)(x)])
    with pytest.raises(ConfigurationError, match="one for 2"):
        with_processing(two, postprocess="softmax")
    with pytest.raises(ConfigurationError, match="built"):
        with_processing(keras.Sequential([layers.Dense(2)]))


@pytest.mark.parametrize(
    "settings",
    [{"std": 0}, {"std": -1}, {"mean": "a"}, {"mean": np.nan}, {"mean": (1, 2), "std": (1, 2, 3)}, {"mean": ()}],
)
def test_wrong_scaling(settings):
    with pytest.raises(ConfigurationError, match="of pixels"):
        Pixels(**settings)


def test_wrong_ranges_and_samples():
    for black, white in ((1, 1), (1, 0), (0, np.inf)):
        with pytest.raises(ConfigurationError):
            Pixels.of_range(black, white)
    for samples in (np.full((2, 4), 0.5), np.full((2, 4), -3), np.full((2, 4), 300), np.zeros((0, 4)), np.zeros(4)):
        with pytest.raises(ConfigurationError, match="pixels|calibration"):
            spanning(samples)
