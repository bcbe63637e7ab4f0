"""Unusable arrays: as `.npz` sources, in pipelines, and in `fit`."""

import io
import zipfile

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import KerasKDError

RNG = np.random.default_rng(0)
X = RNG.random((40, 6, 6, 1)).astype("float32")
BYTES = (X * 255).astype("uint8")
Y = np.arange(40) % 4


def changed(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


# As a data source: the arrays of an .npz file, and the expected words of the message.
NPZ = {
    "no arrays": ({}, ""),
    "other names": ({"images": X, "labels": Y}, "x_train"),
    "x without y": ({"x": X}, "y"),
    "y without x": ({"y": Y}, "x"),
    "train without labels": ({"x_train": X}, "y_train"),
    "test without labels": ({"x_train": X, "y_train": Y, "x_test": X}, "y_test"),
    "one label too few": ({"x": X, "y": Y[:-1]}, "39"),
    "one label too many": ({"x": X[:-1], "y": Y}, "39"),
    "no examples": ({"x": X[:0], "y": Y[:0]}, ""),
    "one example": ({"x": X[:1], "y": Y[:1]}, ""),
    "one class": ({"x": X, "y": np.zeros(40, int)}, "class"),
    "labels of two axes": ({"x": X, "y": np.stack([Y, Y], -1)}, "y"),
    "a single number as labels": ({"x": X, "y": np.array(3)}, "y"),
    "whole numbers as floats, of classes or measured": ({"x": X, "y": Y.astype(float)}, "task"),
    "infinite labels": ({"x": X, "y": changed(Y + 0.5, 3, np.inf)}, "y"),
    "NaN labels": ({"x": X, "y": changed(Y.astype(float), 3, np.nan)}, "y"),
    "text labels": ({"x": X, "y": np.array(["a", "b"] * 20)}, "y"),
    "complex labels": ({"x": X, "y": Y + 1j}, "y"),
    "a negative label": ({"x": X, "y": changed(Y, 5, -3)}, "-3"),
    "a label of 2**40": ({"x": X, "y": changed(Y.astype("int64"), 5, 2**40)}, str(2**40)),
    "a label of 2**63": ({"x": X, "y": changed(Y.astype("uint64"), 5, 2**63)}, ""),
    "a label far from the others": ({"x": X, "y": changed(Y, 5, 10_000_000)}, "10000000"),
    "text images": ({"x": np.array(["a"] * 40), "y": Y}, "x"),
    "complex images": ({"x": X + 1j, "y": Y}, "x"),
    "dates as images": ({"x": np.zeros((40, 4), "datetime64[s]"), "y": Y}, "x"),
    "images without an axis": ({"x": np.array(1.0), "y": Y}, "x"),
    "images of one axis": ({"x": np.arange(40.0), "y": Y}, "x"),
    "images of no pixels": ({"x": np.zeros((40, 0, 6, 1), "float32"), "y": Y}, "x"),
    "NaN in an image": ({"x": changed(X, (7, 0, 0, 0), np.nan), "y": Y}, "7"),
    "infinity in an image": ({"x": changed(X, (9, 0, 0, 0), np.inf), "y": Y}, "9"),
    "NaN everywhere": ({"x": np.full_like(X, np.nan), "y": Y}, ""),
    "float pixels of 0..255": ({"x": X * 255, "y": Y}, "value_range"),
    "objects": ({"x": np.array([{}] * 40, dtype=object), "y": Y}, "x"),
    "objects as labels": ({"x": X, "y": np.array([None] * 40, dtype=object)}, "y"),
    "splits of other shapes": ({"x_train": X, "y_train": Y, "x_test": X[:, :3], "y_test": Y}, ""),
    "splits of other types": ({"x_train": X, "y_train": Y, "x_test": BYTES, "y_test": Y}, ""),
    "an empty test split": ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, ""),
    "too few class names": ({"x": X, "y": Y, "class_names": np.array(["a", "b"])}, "class_names"),
    "an empty class name": ({"x": X, "y": Y, "class_names": np.array(["a", "", "c", "d"])}, "class"),
    "a class name twice": ({"x": X, "y": Y, "class_names": np.array(["a", "a", "c", "d"])}, "'a'"),
    "a newline in a class name": ({"x": X, "y": Y, "class_names": np.array(["a", "b\nc", "d", "e"])}, "class"),
    "a carriage return in a class name": ({"x": X, "y": Y, "class_names": np.array(["a", "b\rc", "d", "e"])}, "class"),
    "a line separator in a class name": (
        {"x": X, "y": Y, "class_names": np.array(["a", "b\u2028c", "d", "e"])},
        "class",
    ),
    "a zero byte in a class name": ({"x": X, "y": Y, "class_names": np.array(["a", "b\0c", "d", "e"])}, "class"),
}


def npz(folder, arrays):
    file = folder / "data.npz"
    np.savez(file, **arrays)
    return file


def used(source):
    """Reads all splits of a source and returns it."""
    for split in (source.train, source.validation, source.test):
        split.arrays()
    return source


@pytest.mark.parametrize(("arrays", "word"), list(NPZ.values()), ids=list(NPZ))
def test_an_npz_without_valid_data_is_rejected_when_opened(arrays, word, refused, tmp_path_factory):
    file = npz(tmp_path_factory.mktemp("npz"), arrays)
    refused(lambda: kd.data.open_source(f"npz:{file}"), KerasKDError, [word])


def archive(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        for name, content in members.items():
            whole.writestr(name, content)
    return file.getvalue()


def with_a_bad_byte(arrays, where):
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = bytearray(file.getvalue())
    content[content.index(where) + 200] ^= 0xFF
    return bytes(content)


def whole():
    file = io.BytesIO()
    np.savez(file, x=X, y=Y)
    return file.getvalue()


FILES = {
    "empty": b"",
    "text": b"x, y",
    "half": whole()[: len(whole()) // 2],
    "without its end": whole()[:-10],
    "a damaged x": with_a_bad_byte({"x": X, "y": Y}, b"x.npy"),
    "a damaged y": with_a_bad_byte({"x": X, "y": Y}, b"y.npy"),
    "members that are no arrays": archive({"x.npy": b"no array", "y.npy": b"no array"}),
    "a header alone": archive({"x.npy": b"\x93NUMPY\x01\x00", "y.npy": b"\x93NUMPY\x01\x00"}),
    "a shape beyond all memory": archive(
        {
            name: b"\x93NUMPY\x01\x00\x76\x00"
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 28, 28), }".ljust(117)
            + b"\n"
            for name in ("x.npy", "y.npy")
        }
    ),
    "a single array": (lambda file: (np.save(file, X), file.getvalue())[1])(io.BytesIO()),
}


@pytest.mark.parametrize("content", list(FILES.values()), ids=list(FILES))
def test_an_invalid_npz_file_is_rejected_when_opened(content, refused, tmp_path_factory):
    file = tmp_path_factory.mktemp("npz") / "data.npz"
    file.write_bytes(content)
    refused(lambda: kd.data.open_source(f"npz:{file}"), KerasKDError, ["data.npz"])


# As the source of a pipeline.
PIPELINES = {
    "nothing": lambda: (),
    "None": lambda: None,
    "four parts": lambda: (X, Y, Y, Y),
    "text": lambda: "digits",
    "a number": lambda: 5,
    "a model": lambda: keras.Sequential([keras.Input((2,))]),
    "x alone, empty": lambda: (X[:0],),
    "lengths differ": lambda: (X, Y[:-1]),
    "weights differ in length": lambda: (X, Y, np.ones(39)),
    "weights are NaN": lambda: (X, Y, changed(np.ones(40), 4, np.nan)),
    "weights are infinite": lambda: (X, Y, changed(np.ones(40), 4, np.inf)),
    "NaN in x": lambda: (changed(X, (3, 0, 0, 0), np.nan), Y),
    "infinity in x": lambda: (changed(X, (3, 0, 0, 0), -np.inf), Y),
    "NaN in soft labels": lambda: (X, changed(np.eye(4)[Y], (3, 0), np.nan)),
    "objects": lambda: (np.array([None] * 40), Y),
    "a scalar": lambda: (np.array(1.0), Y),
    "ragged": lambda: ([np.zeros(3), np.zeros(4)], Y),
}


@pytest.mark.parametrize("source", list(PIPELINES.values()), ids=list(PIPELINES))
def test_the_pipeline_rejects_invalid_sources(source, refused):
    refused(lambda: list(kd.data.Pipeline(source()).epoch(0)), KerasKDError, [])


# Invalid requests to a split.
SPLIT = {
    "a row below 0": lambda split: split.subset([-1], "s"),
    "a row beyond the end": lambda split: split.subset([10**6], "s"),
    "rows as floats": lambda split: split.subset([0.5], "s"),
    "rows as text": lambda split: split.subset(["a"], "s"),
    "no rows": lambda split: split.subset([], "s"),
    "rows of two axes": lambda split: split.subset([[0, 1]], "s"),
    "too few labels kept": lambda split: kd.data.few_labels(split, 5, 0),
    "more labels than there are": lambda split: kd.data.few_labels(split, 10**6, 0),
    "no labels kept": lambda split: kd.data.few_labels(split, 0, 0),
    "a negative number of labels": lambda split: kd.data.few_labels(split, -1, 0),
    "no calibration samples": lambda split: kd.data.calibration_samples(split, 0, seed=0),
    "half a calibration sample": lambda split: kd.data.calibration_samples(split, 1.5, seed=0),
    "batches of nothing": lambda split: kd.data.evaluation_batches(split, 0),
}


@pytest.mark.parametrize("attack", list(SPLIT.values()), ids=list(SPLIT))
def test_missing_rows_are_rejected(attack, refused):
    split = kd.data.open_source("digits").train
    refused(lambda: attack(split), KerasKDError, [])
