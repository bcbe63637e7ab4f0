import numpy as np
import pytest

from keras_kd.data import open_source
from keras_kd.errors import ConfigurationError

X = np.arange(60 * 4 * 4 * 3, dtype=np.int64).reshape(60, 4, 4, 3).astype(np.uint8)
Y = np.arange(60) % 3


def test_own_train_and_test(write_npz, digit_images):
    x, y = digit_images
    source = open_source(
        write_npz(x_train=x[:1500], y_train=y[:1500], x_test=x[1500:], y_test=y[1500:]), validation=0.2
    )
    assert (source.input_shape, source.num_classes) == ((8, 8, 1), 10)
    np.testing.assert_array_equal(source.test.arrays()[0], x[1500:].astype(np.float32) / 255)
    np.testing.assert_array_equal(source.test.labels(), y[1500:])
    assert (source.train.num_examples, source.validation.num_examples) == (1200, 300)
    both = np.concatenate([source.train.arrays()[0], source.validation.arrays()[0]])
    assert {i.tobytes() for i in both} == {i.tobytes() for i in x[:1500].astype(np.float32) / np.float32(255)}


def test_all_parts(write_npz):
    source = open_source(write_npz(x_train=X, y_train=Y, x_val=X[:6], y_val=Y[:6], x_test=X[6:9], y_test=Y[6:9]))
    sizes = [split.num_examples for split in (source.train, source.validation, source.test)]
    assert sizes == [60, 6, 3]


def test_x_and_y_are_cut(write_npz):
    source = open_source(write_npz(x=X, y=Y, class_names=np.array(["ant", "bee", "cat"])))
    assert source.class_names == ("ant", "bee", "cat")
    sizes = [split.num_examples for split in (source.train, source.validation, source.test)]
    assert sizes == [48, 6, 6]
    assert np.bincount(source.test.labels()).tolist() == [2, 2, 2]


def test_the_seed_moves_the_cut(write_npz):
    place = write_npz(x=X, y=Y)
    first, other = open_source(place), open_source(place, seed=1)
    assert (first.test.arrays()[0] != other.test.arrays()[0]).any()
    assert first.fingerprint != other.fingerprint
    assert first.fingerprint == open_source(place).fingerprint


def test_the_fingerprint_follows_the_content(write_npz):
    first = open_source(write_npz(x=X, y=Y)).fingerprint
    changed = X.copy()
    changed[0, 0, 0, 0] += 1
    assert open_source(write_npz(x=changed, y=Y)).fingerprint != first


def test_uint8_without_channels_is_greyscale(write_npz):
    source = open_source(write_npz(x=X[..., 0], y=Y[:, None]))
    assert source.input_shape == (4, 4, 1)
    assert source.train.arrays()[0].shape == (48, 4, 4, 1)


def test_floats_are_taken_as_they_are(write_npz):
    x = np.linspace(-5, 5, 60 * 7).reshape(60, 7)
    source = open_source(write_npz(x_train=x, y_train=Y, x_test=x, y_test=Y))
    assert source.input_shape == (7,)
    np.testing.assert_array_equal(source.test.arrays()[0], x.astype(np.float32))


def test_pixels_are_read_on_first_use(write_npz, tmp_path):
    source = open_source(write_npz(x=X, y=Y))
    (tmp_path / "data.npz").unlink()
    assert source.train.num_examples == 48 and len(source.train.labels()) == 48
    with pytest.raises(FileNotFoundError):
        source.train.arrays()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X, "y": Y}, "the keys images, y.*x_train, y_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "Add y_test"),
        ({"x": X, "y": Y[:10]}, "different numbers of examples.*one label per example"),
        ({"x": X[:0], "y": Y[:0]}, "'x' and 'y' in .* are empty"),
        ({"x": X, "y": np.eye(3)[Y]}, r"classification \(one-hot rows\), regression \(floating point targets\).*task:"),
        ({"x": X, "y": Y - 1}, r"Received: -1 in row 0 and 19 more"),
        ({"x": X, "y": Y.astype(float)}, r"y \(60,\) of float64.*classification \(one whole number.*regression"),
        ({"x": X, "y": np.array(["ant"] * 60)}, "No task fits"),
        ({"x": X.reshape(60, 48), "y": Y}, r"pixels or token ids.*reshape\(n, H, W\).*astype\(np\.int32\)"),
        ({"x": Y[:, None] - 1, "y": Y}, "not token ids. Received: -1 to 1"),
        ({"x": X.astype(np.int32), "y": Y}, r"Received: int32.*astype\(np\.uint8\)"),
        ({"x": X, "y": Y * 0}, "at least two classes"),
        ({"x": X, "y": Y, "class_names": np.array(["a", "b"])}, "labels up to 2, 2 class names"),
        ({"x": X, "y": Y, "class_names": np.array(["a", "b", "c"], object)}, "pickled objects"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "different shapes or dtypes"),
    ],
)
def test_bad_arrays(write_npz, arrays, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(write_npz(**arrays))


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ConfigurationError, match=".npz file not found"):
        open_source(f"npz:{tmp_path / 'none.npz'}")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK not really")
    with pytest.raises(ConfigurationError, match="not a readable .npz"):
        open_source(f"npz:{broken}")


def test_image_size_is_refused(write_npz):
    with pytest.raises(ConfigurationError, match="cannot be resized"):
        open_source(write_npz(x=X, y=Y), image_size=8)
