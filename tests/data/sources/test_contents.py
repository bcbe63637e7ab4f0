"""The contents of the data are checked before training: values, labels, names, and damaged files."""

import zipfile

import numpy as np
import pytest

from keras_kd.data import Mixup, Pipeline, open_source
from keras_kd.data.sources import records
from keras_kd.data.sources.contents import check_class_names, check_pixel_range, rows_not_finite
from keras_kd.errors import ConfigurationError

X = np.random.default_rng(0).random((60, 4, 4, 1))
Y = np.arange(60) % 3


def spoiled(value, rows=(7, 20), x=X):
    x = x.copy()
    x[list(rows), 1, 2] = value
    return x


# Non-finite numbers.


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_rows_that_are_not_finite_are_named_at_opening(write_npz, dtype, value, order):
    x = np.asarray(spoiled(value).astype(dtype), order=order)
    with pytest.raises(ConfigurationError, match=r"'x' in .*data\.npz has values.*in rows 7, 20\. .*nan_to_num"):
        open_source(write_npz(x=x, y=Y))


def test_a_float64_that_float32_cannot_hold_is_not_finite(write_npz):
    with pytest.raises(ConfigurationError, match="in row 3"):
        open_source(write_npz(x=spoiled(1e300, [3]), y=Y))


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pipeline_names_part_and_rows_before_a_batch_is_made(part, value):
    parts = [X.copy(), np.eye(3, dtype="float32")[Y], np.ones(60)]
    parts[part][[4, 59]] = value
    with pytest.raises(ConfigurationError, match=f"{('x', 'y', 'sample_weight')[part]} has values.*in rows 4, 59"):
        Pipeline(tuple(parts))


def test_structures_of_inputs_are_looked_at_too():
    with pytest.raises(ConfigurationError, match="x has values.*in row 5"):
        Pipeline(({"a": X, "b": spoiled(np.nan, [5])}, Y))


def test_whole_numbers_and_text_pass():
    assert Pipeline((np.arange(60), np.array(["a"] * 60))).num_examples == 60


def test_an_array_on_disk_is_looked_at_as_it_is_read(tmp_path):
    np.save(tmp_path / "x.npy", spoiled(np.nan, [33]))
    pipeline = Pipeline((np.load(tmp_path / "x.npy", mmap_mode="r"), Y), batch_size=10, shuffle=False)
    batches = pipeline.epoch(0)
    for _ in range(3):
        next(batches)
    with pytest.raises(ConfigurationError, match="x has values.*in row 33"):
        next(batches)


@pytest.mark.parametrize("limit", [records.MEMORY_LIMIT_BYTES, 0], ids=["in memory", "streamed"])
def test_a_tf_dataset_is_looked_at(monkeypatch, limit):
    import tensorflow as tf

    monkeypatch.setattr(records, "MEMORY_LIMIT_BYTES", limit)
    dataset = tf.data.Dataset.from_tensor_slices((spoiled(np.nan, [41]), Y))
    with pytest.raises(ConfigurationError, match="x has values.*in row 41"):
        list(Pipeline(dataset, batch_size=16).epoch(0))


def test_rows_not_finite_in_pieces(monkeypatch):
    monkeypatch.setattr("keras_kd.data.sources.contents._PIECE_BYTES", 128)
    np.testing.assert_array_equal(rows_not_finite(spoiled(np.nan, [0, 31, 59])), [0, 31, 59])


# The range of pixels.


@pytest.mark.parametrize(
    ("scale", "offset", "value_range", "fits"),
    [
        (255, 0, (0, 1), False),
        (255, 0, (-1, 1), False),
        (255, 0, (0, 255), True),
        (1, 0, (0, 255), True),
        (2, -1, (-1, 1), True),
        (5.2, -2.6, (0, 1), True),  # standardized
        (80, -80, (0, 1), False),
        (16, 0, (0, 1), False),
    ],
)
def test_float_pixels_far_outside_the_value_range(write_npz, scale, offset, value_range, fits):
    place = write_npz(x=X * scale + offset, y=Y)
    if fits:
        np.testing.assert_allclose(open_source(place, value_range=value_range).test.arrays()[0].max(), 1, 1, 400)
        return
    with pytest.raises(
        ConfigurationError, match=r"far outside 'value_range'.*Received: values from.*x / 255.*uint8.*value_range="
    ):
        open_source(place, value_range=value_range)


def test_the_range_that_the_error_names_is_accepted(write_npz):
    x = np.round(X * 255)
    place = write_npz(x_train=x, y_train=Y, x_test=x, y_test=Y)
    with pytest.raises(ConfigurationError, match=r"'x_train'.*pass value_range=\(0, 255\)"):
        open_source(place)
    np.testing.assert_array_equal(open_source(place, value_range=(0, 255)).test.arrays()[0], x.astype("float32"))


def test_the_columns_of_a_table_have_ranges_of_their_own(write_npz):
    table = np.random.default_rng(0).normal(size=(60, 7)) * 1000
    assert open_source(write_npz(x=table, y=Y)).input_shape == (7,)


def test_the_check_by_itself():
    check_pixel_range("x", 0, 1, (0, 1))
    check_pixel_range("x", -4.5, 5.5, (0, 1))
    with pytest.raises(ConfigurationError, match="values from 0 to 11, value_range"):
        check_pixel_range("x", 0, 11, (0, 1))


# Labels.


@pytest.mark.parametrize("label", [-1, 2**20, 2**40, 2**62])
def test_npz_labels_that_do_not_name_a_class(write_npz, label):
    y = Y.copy()
    y[17] = label
    with pytest.raises(ConfigurationError, match=f"out of range in 'y' in .* Received: {label} in row 17"):
        open_source(write_npz(x=X, y=y))


def test_an_unsigned_label_that_would_become_negative(write_npz):
    y = Y.astype(np.uint64)
    y[17] = 2**64 - 1
    with pytest.raises(ConfigurationError, match="18446744073709551615 in row 17"):
        open_source(write_npz(x=X, y=y))


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1, -2, 2], None, "-2 in row 2"),
        ([0, 1, 2**40, 2], None, f"{2**40} in row 2"),
        ([0, 1, 3, 2], 3, "3 in row 2.*0..2, or -1"),
    ],
)
def test_labels_that_mixing_cannot_place(labels, num_classes, message):
    with pytest.raises(ConfigurationError, match=message):
        Pipeline((X[:4], np.array(labels)), augment=Mixup(), num_classes=num_classes)


def test_examples_without_a_label_can_be_mixed():
    batch = Pipeline((X[:4], np.array([0, -1, 1, 2])), augment=Mixup()).batch(np.arange(4))
    assert batch[1].shape == (4, 3)


@pytest.mark.parametrize("labels", [np.array([0.5, 1, 2]), np.array([0, 1, -2]), np.array([0, 1, 2**40])])
def test_relabeled_refuses_what_is_not_a_label(labels):
    with pytest.raises(ConfigurationError, match="integers"):
        open_source("digits").train.subset(range(3), "few").relabeled(labels, "other")


# Class names.


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant", "be\ne", "cat"], r"'be\\ne', of label 1"),
        (["ant", "bee", "cat\r"], "of label 2"),
        (["ant", "bee\u2028", "cat"], "of label 1"),
        (["", "bee", "cat"], "'', of label 0"),
        (["ant", "ant", "cat"], "same name. Received: 'ant', of labels 0, 1"),
        (["ant", "cat", "cat "], "same name. Received: 'cat', of labels 1, 2"),
        (np.array([b"ant", b"bee", b"cat"]), r"not text.*dtype \|S3.*astype\(str\)"),
        (np.array([0.5, 1.5, 2.5]), "not text"),
    ],
)
def test_npz_class_names(write_npz, names, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(write_npz(x=X, y=Y, class_names=np.array(names)))


def test_names_of_any_script_pass():
    check_class_names(("Ameise", "蚂蚁", "نملة", "big ant", "ant-2", "🐜"))


# Damaged files.


def rewritten(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("compressed", [False, True])
def test_one_changed_bit_is_found_at_opening(tmp_path, compressed):
    path = tmp_path / "data.npz"
    (np.savez_compressed if compressed else np.savez)(path, y=Y, x=np.round(X * 255).astype(np.uint8))
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("x.npy").header_offset + 400

    def change(content):
        content[place] ^= 1

    rewritten(path, change)
    with pytest.raises(ConfigurationError, match=r"The array 'x' in .*data\.npz cannot be read"):
        open_source(f"npz:{path}")


def test_a_truncated_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ConfigurationError, match=r"not a readable .npz.*data\.npz"):
        open_source(f"npz:{path}")


def test_a_header_that_promises_more_than_there_is(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, y=Y)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776, 4), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x76\x00" + header.encode())
    with pytest.raises(ConfigurationError, match=r"The array 'x' in .*1099511627776, 4.*bytes"):
        open_source(f"npz:{path}")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X[:0], "y": Y[:0]}, "at least one"),
        ({"x": X[:, :0], "y": Y}, r"'x' in .* has an invalid shape.*\(60, 0, 4, 1\)"),
        ({"x": X[:, 0, 0, 0], "y": Y}, r"has an invalid shape.*\(60,\)"),
        ({"x": np.array(5.0), "y": Y}, "has an invalid shape"),
        ({"x": X.astype(object), "y": Y}, "The array 'x' in .* pickled objects"),
        ({"x": X, "y": Y.astype(object)}, "The array 'y' in .* pickled objects"),
        ({"x": X.astype(complex), "y": Y}, "complex128"),
        ({"x": X > 0.5, "y": Y}, "Received: bool"),
        ({"x": X, "y": Y[:-1]}, r"shapes \(60, 4, 4, 1\) and \(59,\)"),
        ({"x": X, "y": np.array(["a"] * 60)}, "No task fits.*of <U1"),
    ],
)
def test_arrays_that_are_not_a_data_set(write_npz, arrays, message):
    with pytest.raises(ConfigurationError, match=message):
        open_source(write_npz(**arrays))
