"""Files written anew, against LiteRT's own schema and interpreter."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from keras_kd import litert
from keras_kd.export import Metadata, add_metadata, measure_ranges
from keras_kd.litert import compacted, read_file, same_model
from keras_kd.litert.formats import Dynamic, Int8, Int16x8

layers = keras.layers


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((20, 8, 8, 1), dtype="float32")


@pytest.fixture(scope="module")
def content(export_bytes, images):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1), name="image")
    for width in (16, 16, 32):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return export_bytes(keras.Model(image, layers.Dense(10, name="scores")(x)), samples=images)


def fields(part):
    """An object of the schema as nested lists and dictionaries."""
    if isinstance(part, np.ndarray):
        return [str(part.dtype), *part.tolist()]
    if isinstance(part, (list, tuple)):
        return [fields(one) for one in part]
    return {name: fields(value) for name, value in vars(part).items()} if hasattr(part, "__dict__") else part


def run(content, images):
    runner = Interpreter(model_content=content).get_signature_runner()
    ((key, given),) = runner.get_input_details().items()
    scale, zero = given["quantization"]
    outputs = []
    for image in images[:, None]:
        if scale:
            limits = np.iinfo(given["dtype"])
            image = np.clip(np.round(image / scale) + zero, limits.min, limits.max).astype(given["dtype"])
        outputs.append(next(iter(runner(**{key: image}).values())))
    return np.concatenate(outputs)


@pytest.mark.parametrize(
    "form", [None, Dynamic(), Int8(), Int16x8()], ids=lambda form: getattr(form, "name", "float32")
)
def test_a_compacted_file_has_the_same_content_and_outputs(form, content, images):
    ranges = measure_ranges(content, images).values
    whole = content if form is None else litert.quantize(content, form, ranges)
    made = compacted(whole)
    schemas = [fields(flatbuffer_utils.convert_bytearray_to_object(bytearray(one))) for one in (whole, made)]
    assert schemas[0] == schemas[1] and same_model(read_file(whole), read_file(made))
    np.testing.assert_array_equal(run(whole, images), run(made, images))
    assert compacted(made) == made


def test_tensors_are_aligned_and_zero_points_shared(content, images, tmp_path):
    whole = litert.quantize(content, Int8(), measure_ranges(content, images).values)
    made = compacted(whole)
    channels = 16 + 16 + 32 + 10
    assert len(whole) - len(made) > channels * 8  # those of the biases
    path = tmp_path / "net.tflite"
    path.write_bytes(made)
    add_metadata(path, Metadata(name="net"))
    for one in (made, path.read_bytes()):
        starts = [start for start, size in read_file(one).buffers if size]
        assert len(starts) > 5 and not any(start % 16 for start in starts)


def test_other_weights_are_another_model(content):
    file = read_file(content)
    start, size = max(file.buffers, key=lambda one: one[1])
    other = bytearray(content)
    other[start + size // 2] ^= 1
    assert same_model(file, file) and not same_model(file, read_file(bytes(other)))
