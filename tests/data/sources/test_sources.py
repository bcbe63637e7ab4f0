import hashlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_kd.data import open_source
from keras_kd.errors import ConfigurationError

# The images of the digits' test split, as first published: changing them would make old results incomparable.
DIGITS_TEST_SHA256 = "77b2abcf1dc8349748ce77b49a9b770a50e86b065a675ca877e55d0f8a724b5b"


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


def test_digits_are_whole_and_disjoint(digits):
    # scikit-learn's 1,797 images are all distinct.
    parts = [split.arrays()[0] for split in (digits.train, digits.validation, digits.test)]
    assert [len(part) for part in parts] == [1078, 359, 360]
    rows = {image.tobytes() for part in parts for image in part}
    assert rows == {image.tobytes() for image in (load_digits().images / 16).astype(np.float32)}


def test_digits_are_stratified(digits):
    share = np.bincount(load_digits().target) / 1797
    for split in (digits.train, digits.validation, digits.test):
        counts = np.bincount(split.labels())
        assert np.abs(counts - share * split.num_examples).max() < 1.1


def test_digits_split_is_fixed(digits):
    other = open_source("digits", seed=5)
    np.testing.assert_array_equal(other.test.arrays()[0], digits.test.arrays()[0])
    assert other.fingerprint == digits.fingerprint
    test_rows = digits.test.records.stored.tobytes()
    assert hashlib.sha256(test_rows).hexdigest() == DIGITS_TEST_SHA256


def test_digits_describe_themselves(digits):
    assert digits.name == "digits"
    assert digits.class_names == tuple("0123456789")
    assert (digits.num_classes, digits.input_shape) == (10, (8, 8, 1))
    assert (digits.train.name, digits.validation.name, digits.test.name) == ("train", "validation", "test")


def test_value_range_is_what_black_and_white_become(digits):
    other = open_source("digits", value_range=(-1.0, 1.0))
    x = other.train.arrays()[0]
    assert (x.min(), x.max()) == (-1.0, 1.0)
    np.testing.assert_allclose(x, digits.train.arrays()[0] * 2 - 1, atol=1e-6)
    assert other.fingerprint != digits.fingerprint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", '"tfds:digit"'),
        ("hf:mnist", 'Expected: "digits", "tfds:NAME", "folder:PATH" or "npz:PATH"'),
        ("tfds:", '"tfds:NAME"'),
        (None, "Received: None"),
    ],
)
def test_unknown_source(source, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 0.5}, "one fixed split"),
        ({"validation": "train[:10%]"}, 'are for "tfds:NAME" only'),
        ({"validation": 1.5}, "0 < validation < 1"),
        ({"image_size": 32}, "cannot be resized"),
        ({"data_dir": "data"}, "'data_dir' does not apply"),
        ({"value_range": (1.0, 0.0)}, "the lower one first"),
        ({"value_range": 1.0}, "two numbers"),
        ({"seed": -1}, "0 <= seed"),
        ({"seed": 2**32}, "seed <= 4294967295"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source("digits", **settings)


def test_heavy_packages_load_on_first_use():
    """Except those that Keras itself loads."""
    code = (
        "import sys, keras\n"
        "before = set(sys.modules)\n"
        "import keras_kd.data\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'sklearn', 'PIL'} & (set(sys.modules) - before)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
