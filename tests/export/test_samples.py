"""The accepted forms of calibration data and samples, and the errors for unusable ones."""

import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.export._samples import MAX_STREAMED, random_samples, read_samples
from keras_kd.export._saved_model import ModelInput

IMAGE = ModelInput("image", "image-1", (2, 2), "float32")
TOKENS = ModelInput("tokens", "tokens", (3,), "int32")
images = np.arange(40, dtype="float32").reshape(10, 2, 2)
tokens = np.arange(30).reshape(10, 3)


def batched(*arrays, size=4):
    return [tuple(array[i : i + size] for array in arrays) for i in range(0, len(arrays[0]), size)]


@pytest.mark.parametrize(
    "data",
    [
        images,
        images.astype("float64"),
        {"image": images},
        {"image-1": images},
        [images[:4], images[4:]],
        iter([images[:7], images[7:]]),
        batched(images, np.zeros(10)),
    ],
    ids=["array", "float64", "name", "key", "batches", "generator", "with labels"],
)
def test_one_input(data):
    read = read_samples("samples", data, [IMAGE])
    assert list(read) == ["image"]
    assert read["image"].dtype == np.float32
    np.testing.assert_array_equal(read["image"], images)


@pytest.mark.parametrize(
    "data",
    [
        [images, tokens],
        (images, tokens),
        {"tokens": tokens, "image": images},
        [([a, b], 0) for a, b in batched(images, tokens)],
        [({"image": a, "tokens": b},) for a, b in batched(images, tokens)],
    ],
    ids=["list", "tuple", "dict", "batches of lists", "batches of dicts"],
)
def test_two_inputs(data):
    read = read_samples("samples", data, [IMAGE, TOKENS])
    np.testing.assert_array_equal(read["image"], images)
    np.testing.assert_array_equal(read["tokens"], tokens)
    assert read["tokens"].dtype == np.int32


def test_a_tf_dataset_without_end_is_read_to_the_limit():
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, np.zeros(10))).repeat().batch(7)
    read = read_samples("calibration", dataset, [IMAGE])["image"]
    assert len(read) == MAX_STREAMED
    np.testing.assert_array_equal(read[:10], images)


def test_a_generator_is_not_read_further_than_needed():
    def batches():
        for start in range(0, MAX_STREAMED, 20):
            yield np.full((20, 2, 2), start, "float32")
        pytest.fail("read on")

    assert len(read_samples("calibration", batches(), [IMAGE])["image"]) == MAX_STREAMED


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (images[:0], "'calibration' is empty"),
        (iter([]), "'calibration' is empty"),
        (images[0], r"Received: \(2, 2\). Expected: \(n, 2, 2\)"),
        (images[:, :1], r"Received: \(10, 1, 2\). Expected: \(n, 2, 2\)"),
        (images.astype("uint8"), "Received: uint8. Expected: float32. Scale the data"),
        (np.where(np.arange(10)[:, None, None] > 6, np.nan, images), r"NaN or infinity. Received: examples 7, 8, 9"),
        (np.full((1, 2, 2), 1e300), "NaN or infinity. Received: examples 0 "),  # in float32
        ({"picture": images}, r"Received: \['picture'\]. Expected: \['image-1'\]"),
        ([[images, images]], "Received: 2 arrays. Expected: one for each of"),
        (3, "Received: int. Expected: an array of samples, or an iterable of batches"),
    ],
)
def test_what_does_not_fit_is_named(data, message):
    with pytest.raises(ConfigurationError, match=message):
        read_samples("calibration", data, [IMAGE])


def test_inputs_of_different_length_are_refused():
    with pytest.raises(ConfigurationError, match="have different numbers of examples"):
        read_samples("samples", [images, tokens[:3]], [IMAGE, TOKENS])


def test_random_samples_are_seeded_and_in_range():
    first, second = random_samples([IMAGE, TOKENS], 50), random_samples([IMAGE, TOKENS], 50)
    for name in ("image", "tokens"):
        np.testing.assert_array_equal(first[name], second[name])
    assert 0 <= first["image"].min() < first["image"].max() < 1
    assert set(np.unique(first["tokens"])) == {0, 1}


def test_batches_of_several_sizes_are_refused():
    open_size = ModelInput("image", "image", (None, 2), "float32")
    message = r"several sizes for input 'image'.*\(2, 2\), \(3, 2\). Expected: the size that the phone"
    with pytest.raises(ConfigurationError, match=message):
        read_samples("samples", [np.ones((4, 2, 2)), np.ones((4, 3, 2))], [open_size])


def test_integers_that_would_wrap_around_are_refused():
    with pytest.raises(ConfigurationError, match="outside the range of int32. Received: 0..1099511627776"):
        read_samples("samples", np.array([[0, 1, 2**40]]), [TOKENS])
