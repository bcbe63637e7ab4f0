"""Logits from a file: looked up by example number, and rejected if they belong to other data."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special

from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.external.stored_logits import StoredLogits


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(6, 3)).astype("float16")


def rows(teacher, *ids):
    return teacher.outputs_for(np.array(ids), 5, None)


def test_rows_by_index(logits):
    teacher = StoredLogits(logits)
    outputs = rows(teacher, 4, 0, 4)
    assert outputs["output"].dtype == "float32" and teacher.output_shapes == {"output": (None, 3)}
    np.testing.assert_array_equal(outputs["output"], logits[[4, 0, 4]].astype("float32"))
    assert teacher.views is None and teacher.runs_outside_step


def test_rows_by_ids_in_any_order(logits):
    ids = np.array([40, 2, 33, -1, 7, 0])
    teacher = StoredLogits({"logits": logits, "ids": ids})
    for row, number in enumerate(ids):
        np.testing.assert_array_equal(rows(teacher, number)["output"][0], logits[row].astype("float32"))


def test_an_array_per_output(logits):
    teacher = StoredLogits({"digit": logits, "odd": logits[:, :1], "ids": np.arange(6)[::-1]})
    assert teacher.output_shapes == {"digit": (None, 3), "odd": (None, 1)}
    np.testing.assert_array_equal(rows(teacher, 5)["odd"], logits[:1, :1].astype("float32"))


def test_probabilities(logits):
    p = scipy.special.softmax(logits.astype("float64"), -1)
    teacher = StoredLogits(p, outputs="probabilities")
    np.testing.assert_allclose(rows(teacher, 1, 2)["output"], np.log(p[1:3]), rtol=1e-6)
    with pytest.raises(TeacherError, match="StoredLogits.*outputs='probabilities'"):
        rows(StoredLogits(p), 1, 2)


@pytest.mark.parametrize("missing", [6, -1, 100])
def test_an_example_without_a_row_is_reported(logits, missing):
    with pytest.raises(TeacherError, match=f"example {missing}[.] Expected: one of 0 to 5"):
        rows(StoredLogits(logits), 1, missing)
    teacher = StoredLogits({"logits": logits, "ids": [0, 1, 2, 3, 4, 9]})
    with pytest.raises(TeacherError, match=f"example {missing} and 1 more.*6 ids from 0 to 9"):
        rows(teacher, 1, missing, 9, 5)


def test_files(logits, tmp_path):
    np.savez(tmp_path / "l.npz", logits=logits, ids=np.arange(6) + 10)
    teacher = from_path(tmp_path / "l.npz")
    assert isinstance(teacher, StoredLogits)
    np.testing.assert_array_equal(rows(teacher, 12)["output"], logits[2:3].astype("float32"))
    assert teacher.fingerprint == StoredLogits({"ids": np.arange(6) + 10, "logits": logits}).fingerprint
    assert teacher.fingerprint != StoredLogits(logits).fingerprint
    again = deserialize(serialize(teacher))
    assert isinstance(again, StoredLogits) and again.get_config() == teacher.get_config()
    np.savez(tmp_path / "l.npz", logits=logits + 1, ids=np.arange(6) + 10)
    with pytest.raises(TeacherError, match="another teacher"):
        deserialize(serialize(teacher))
    (tmp_path / "l.npz").unlink()
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == teacher.fingerprint
    assert isinstance(deserialize(serialize(StoredLogits(logits))), AbsentTeacher)


def pipeline(num_examples=6, augment=()):
    return SimpleNamespace(num_examples=num_examples, augment=augment)


def test_a_pipeline_of_other_data_is_rejected(logits):
    plain, numbered = StoredLogits(logits), StoredLogits({"logits": logits, "ids": np.arange(6)})
    plain.check_pipeline(pipeline())
    numbered.check_pipeline(pipeline(num_examples=4))
    for teacher, number in ((plain, 4), (plain, 7), (numbered, 7)):
        with pytest.raises(TeacherError, match=f"6 rows of logits for {number} examples"):
            teacher.check_pipeline(pipeline(number))


def test_an_augmenting_pipeline_is_rejected_unless_allowed(logits):
    with pytest.raises(TeacherError, match="stored logits.*augment=.'flip',.*augmented_is_fine=True"):
        StoredLogits(logits).check_pipeline(pipeline(augment=("flip",)))
    StoredLogits(logits, augmented_is_fine=True).check_pipeline(pipeline(augment=("flip",)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros(3), r"\(3,\) of float64"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, "one row of logits per example"),
        ({}, "one row of logits per example"),
        ({"logits": np.zeros((3, 2)), "ids": [0, 1, 1]}, "2 distinct values.*3 distinct integers"),
        ({"logits": np.zeros((3, 2)), "ids": [0.0, 1.0, 2.0]}, "of float64"),
    ],
)
def test_invalid_arrays_are_rejected(source, message):
    with pytest.raises(ConfigurationError, match=message):
        StoredLogits(source)


def test_invalid_files_are_rejected(tmp_path):
    with pytest.raises(TeacherError, match="does not exist.*no.npz"):
        StoredLogits("no.npz")
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    (tmp_path / "a.txt").write_text("logits")
    np.savez(tmp_path / "a.npz", logits=np.array([{}, {}]))
    for name in ("a.npy", "a.txt", "a.npz"):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            StoredLogits(tmp_path / name)
