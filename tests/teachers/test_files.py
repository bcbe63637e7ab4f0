"""Files and folders that hold no teacher: the error names each, and what was expected."""

import os
import shutil
import zipfile

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError, KerasKDError, TeacherError
from keras_kd.teachers import FrozenTeacher, SavedModelTeacher, StoredLogits, from_path
from keras_kd.teachers.frozen import as_teacher


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.fixture
def whole(model, tmp_path):
    model.save(tmp_path / "whole.keras")
    return (tmp_path / "whole.keras").read_bytes()


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda c: b"garbage", lambda c: b"", lambda c: c[: len(c) // 2]])
def test_a_file_with_only_a_keras_extension(whole, damage, tmp_path):
    file = tmp_path / "teacher.keras"
    file.write_bytes(damage(whole))
    with pytest.raises(TeacherError, match=r"not a .keras file.*teacher\.keras, which is damaged.*model\.save"):
        FrozenTeacher(file)


def test_a_damaged_keras_file(whole, tmp_path):
    file = tmp_path / "teacher.keras"
    file.write_bytes(flipped(whole))
    with pytest.raises(TeacherError, match=r"cannot load the teacher.*teacher\.keras"):
        FrozenTeacher(file)


@pytest.mark.parametrize("members", [{"a": "b"}, {"config.json": "{", "metadata.json": "{}"}])
def test_an_archive_that_is_not_a_model(members, tmp_path):
    with zipfile.ZipFile(tmp_path / "teacher.keras", "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    with pytest.raises(TeacherError, match="cannot load the teacher"):
        as_teacher(tmp_path / "teacher.keras")


@pytest.mark.parametrize("name", ["teacher.h5", "teacher.weights.h5", "teacher.txt", "teacher"])
@pytest.mark.parametrize("open_teacher", [FrozenTeacher, as_teacher])
def test_files_of_other_formats(name, open_teacher, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(TeacherError, match=r"not a .keras file.*keras\.models\.load_model\(file\).*from_path"):
        open_teacher(tmp_path / name)


@pytest.mark.parametrize("open_teacher", [FrozenTeacher, as_teacher])
def test_a_pipe_is_not_opened(open_teacher, tmp_path):
    os.mkfifo(tmp_path / "teacher.keras")
    with pytest.raises(TeacherError, match="not a .keras file"):
        open_teacher(tmp_path / "teacher.keras")


@pytest.mark.parametrize("name", ["folder", "folder.keras", "folder.h5"])
@pytest.mark.parametrize("open_teacher", [FrozenTeacher, as_teacher, from_path, SavedModelTeacher])
def test_an_empty_folder(name, open_teacher, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(KerasKDError, match=f"{name}.*Expected"):
        open_teacher(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_saved_model_that_is_empty_or_garbage(content, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot open the SavedModel.*a complete folder"):
        as_teacher(tmp_path)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports by TensorFlow")
def test_a_saved_model_without_its_variables(model, tmp_path):
    model.export(tmp_path / "saved", verbose=False)
    shutil.rmtree(tmp_path / "saved" / "variables")
    with pytest.raises(ConfigurationError, match="cannot open the SavedModel.*a complete folder"):
        as_teacher(tmp_path / "saved")


@pytest.mark.parametrize("damage", [flipped, lambda c: b"", lambda c: b"garbage", lambda c: c[:-40]])
def test_damaged_stored_logits(damage, tmp_path):
    file = tmp_path / "logits.npz"
    np.savez(file, logits=np.random.default_rng(0).random((40, 3)))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ConfigurationError, match=r"cannot be read.*logits\.npz"):
        as_teacher(file)


def test_rows_of_stored_logits_that_are_not_finite_are_listed():
    logits = np.zeros((40, 3))
    logits[[5, 31], 1] = np.nan
    with pytest.raises(ConfigurationError, match="'logits' has values.*in rows 5, 31"):
        StoredLogits(logits)
