"""Files of fake-quantized models: their ranges, integers and outputs, against the model's."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.compression.quantization import ActivationQuantizer, FakeQuantizedWeight
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.stripping import reparametrized_layers
from keras_kd.compression.weight_functions import Composed, FixedZeros
from keras_kd.errors import ConfigurationError
from keras_kd.export import export_tflite
from keras_kd.surgery import clone
from keras_kd.surgery.cloning import copy_layer
from keras_kd.surgery.weights import copy_state

layers = keras.layers
AXES = {"conv": (3,), "depthwise": (2, 3), "hidden": (1,), "logits": ()}
IN_FILE = {"conv": (3, 0, 1, 2), "depthwise": (3, 0, 1, 2), "hidden": (1, 0), "logits": (1, 0)}


def float_net():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(ActivationQuantizer(name="q_image")(image))
    x = ActivationQuantizer(name="q_conv")(layers.ReLU(6)(layers.BatchNormalization()(x)))
    x = ActivationQuantizer(name="q_depthwise")(layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x))
    x = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten()(x))
    x = ActivationQuantizer(name="q_logits")(layers.Dense(10, name="logits")(ActivationQuantizer(name="q_hidden")(x)))
    return keras.Model(image, ActivationQuantizer(fixed=(0, 255 / 256), name="q_output")(layers.Softmax()(x)))


def fake_quantized(model):
    def replace(layer):
        if layer.name not in AXES:
            return None
        functions = Composed([FixedZeros(), FakeQuantizedWeight(axes=AXES[layer.name])])
        return Reparametrized(copy_layer(layer), {"kernel": functions}, layer.get_build_config())

    def transfer(layer, copy):
        copy_state(layer, copy.layer)
        copy.start()

    return clone(model, replace, transfer=transfer)


@pytest.fixture(scope="module")
def trained(digits):
    """With a third of zeros in a kernel, an output without weights, and a last batch that moved the ranges."""
    model = float_net()
    kernel = np.array(model.get_layer("hidden").kernel)
    kernel[::3] = kernel[:, 5] = 0
    model.get_layer("hidden").kernel.assign(kernel)
    model = fake_quantized(model)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(digits[0][:1000], digits[1][:1000], epochs=4, verbose=0)
    return model


@pytest.fixture(scope="module")
def exported(trained, digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("quantized") / "net.tflite"
    return export_tflite(trained, path, format="int8", samples=digits[0], isolate=False)


@pytest.fixture(scope="module")
def tensors(exported):
    """The int8 tensors of the file: shape, scales, zero points, content."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    options = {"experimental_op_resolver_type": plain, "experimental_preserve_all_tensors": True}
    interpreter = Interpreter(str(exported.path), num_threads=1, **options)
    interpreter.allocate_tensors()
    found = []
    for one in interpreter.get_tensor_details():
        if one["dtype"] is np.int8:
            quantization, content = one["quantization_parameters"], interpreter.get_tensor(one["index"])
            found.append((tuple(one["shape"]), quantization["scales"], quantization["zero_points"], content))
    return found


def test_all_operators_are_integers_and_the_file_agrees_with_the_model(exported, trained, digits):
    (graph,) = litert.read_file(exported.path).graphs
    assert [one.name for one in graph.operators] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"
    ]  # fmt: skip
    assert {dtype for one in graph.operators for dtype in graph.dtypes(one.inputs + one.outputs)} == {"int8", "int32"}
    assert exported.ranges == "trained" and exported.float_operators == ()
    assert "int8 with the trained ranges" in str(exported)
    assert exported.agreement >= 0.995 and exported.num_samples == 1797
    right = (trained.predict(digits[0], verbose=0).argmax(1) == digits[1]).mean()
    assert right > 0.8  # the agreement is about something


def test_activations_have_the_trained_ranges(trained, tensors):
    found = [(float(scales[0]), int(zeros[0])) for _, scales, zeros, _ in tensors if len(scales) == 1]
    for name in ("q_image", "q_conv", "q_depthwise", "q_hidden", "q_logits", "q_output"):
        quantizer = trained.get_layer(name)
        low, high = float(quantizer.minimum.numpy()), float(quantizer.maximum.numpy())
        scale = (high - low) / 255
        zero = round(-128 - low / scale)
        assert any(zero == other and scale == pytest.approx(one, rel=1e-5) for one, other in found), name


def test_weights_are_the_trained_integers(trained, tensors):
    """Zeros are the integer 0, also in an output without weights."""
    for name in ("depthwise", "hidden", "logits"):
        layer = trained.get_layer(name)
        kernel = np.array(layer.layer.kernel, "float64") * np.array(
            layer.reparametrizations["kernel"].functions[0].mask
        )
        others = tuple(axis for axis in range(kernel.ndim) if axis not in AXES[name])
        steps = np.abs(kernel).max(axis=others, keepdims=True) / 127
        integers = np.rint(np.divide(kernel, steps, out=np.zeros_like(kernel), where=steps > 0))
        expected = integers.transpose(IN_FILE[name])
        content, scales = next((one, scales) for shape, scales, _, one in tensors if shape == expected.shape)
        np.testing.assert_array_equal(content, expected)
        used = steps.ravel() > 0
        np.testing.assert_allclose(scales[used], steps.ravel()[used], rtol=1e-5)
    hidden = next(content for shape, _, _, content in tensors if shape == (24, 128))
    assert (hidden[:, ::3] == 0).all() and (hidden[5] == 0).all() and (hidden != 0).mean() > 0.5


def test_weights_folded_with_normalization_have_the_trained_integers(trained, tensors):
    layer = trained.get_layer("conv")
    kernel = np.array(layer.layer.kernel, "float64")
    integers = np.rint(kernel / np.abs(kernel).max(axis=(0, 1, 2)) * 127) * np.sign(
        np.array(normalization(trained).gamma)
    )
    content = next(content for shape, _, _, content in tensors if shape == (8, 3, 3, 1))
    np.testing.assert_array_equal(content, integers.transpose(IN_FILE["conv"]))


def normalization(model):
    return next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))


def test_a_child_writes_the_same_file_and_the_model_is_unchanged(trained, exported, digits, tmp_path):
    before = trained.get_weights()
    result = export_tflite(
        trained, tmp_path / "net.tflite", format="int8", samples=digits[0][:10], calibration=digits[0][:10] / 3
    )
    assert result.path.read_bytes() == exported.path.read_bytes()
    assert all((now == then).all() for now, then in zip(trained.get_weights(), before, strict=True))
    assert all(len(layer.reparametrizations) == 1 for layer in reparametrized_layers(trained).values())


def test_clusters_stay(digits, tmp_path, lite_model):
    """Four values in a kernel stay at most four, whatever their distances."""
    model = float_net()
    kernel = np.random.default_rng(0).choice([-0.31, 0.0, 0.017, 0.2], (128, 24))
    model.get_layer("hidden").kernel.assign(kernel)
    model = fake_quantized(model)
    model(digits[0][:50], training=True)
    result = export_tflite(model, tmp_path / "net.tflite", format="int8", samples=digits[0][:20], isolate=False)
    interpreter = lite_model(result.path)
    (index,) = (one["index"] for one in interpreter.get_tensor_details() if tuple(one["shape"]) == (24, 128))
    for unit, integers in enumerate(interpreter.get_tensor(index)):
        pairs = {(float(value), int(one)) for value, one in zip(kernel[:, unit], integers, strict=True)}
        assert len(pairs) <= 4 and (0.0, 0) in pairs


def test_a_model_without_ranges_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="have no ranges.*trained for at least one step"):
        export_tflite(fake_quantized(float_net()), tmp_path / "net.tflite", format="int8")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["float32", "float16", "dynamic", "int16x8"])
def test_other_formats_are_refused(trained, format, tmp_path):
    with pytest.raises(ConfigurationError, match="8-bit activations.*Expected: format='int8',.*strip"):
        export_tflite(trained, tmp_path / "net.tflite", format=format)
