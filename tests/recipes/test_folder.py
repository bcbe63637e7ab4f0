"""What a run folder remembers, whenever the run is killed."""

import json
from pathlib import Path

import pytest

from keras_kd.recipes import folder as module
from keras_kd.recipes.folder import RunFolder, digest, settings_key, write_atomically

KEY, OTHER, OLD, NEW = ({"epochs": epochs} for epochs in (1, 2, 3, 4))


class Killed(BaseException):
    """Stands for a kill -9: nothing in the library may catch it."""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "digits")


class Model:
    """Saves itself as text."""

    def __init__(self, text):
        self.text = text

    def save(self, path):
        path.write_text(self.text)


def kill_at(monkeypatch, method, name):
    """The process ends where `method` of a path with this name is about to be called."""
    original = getattr(Path, method)

    def killing(path, *args):
        if path.name == name:
            raise Killed
        return original(path, *args)

    monkeypatch.setattr(Path, method, killing)


def test_a_new_folder_has_finished_nothing_and_writes_nothing(folder, tmp_path):
    assert folder.finished("teacher", KEY, folder.path / "teacher.keras") is None
    assert not folder.wrote("teacher", folder.path / "teacher.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_stage_is_known_by_settings_and_file(folder):
    file = folder.path / "teacher.keras"
    folder.finish_model("teacher", KEY, {"history": {"loss": [1.0]}}, file, Model("weights"))
    assert file.read_text() == "weights"
    again = RunFolder(folder.path)
    assert again.finished("teacher", KEY, file) == {"history": {"loss": [1.0]}}
    assert again.finished("teacher", OTHER, file) is None
    assert again.finished("student", KEY, file) is None
    assert again.wrote("teacher", file)


@pytest.mark.parametrize("content", ["somebody else's", ""])
def test_a_file_that_was_replaced_is_not_the_stage_s_own(folder, content):
    file = folder.path / "teacher.keras"
    folder.finish_model("teacher", KEY, {}, file, Model("weights"))
    file.write_text(content)
    assert folder.finished("teacher", KEY, file) is None
    assert not folder.wrote("teacher", file)


def test_a_file_that_was_removed_has_to_be_made_again(folder):
    file = folder.path / "teacher.keras"
    folder.finish_model("teacher", KEY, {}, file, Model("weights"))
    file.unlink()
    assert folder.finished("teacher", KEY, file) is None


def test_a_file_without_a_stamp_is_somebody_else_s(folder):
    file = folder.path / "teacher.keras"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    assert not folder.wrote("teacher", file)


@pytest.mark.parametrize(
    ("method", "name"),
    [("replace", "teacher.json.tmp"), ("replace", "saving-teacher.keras"), ("write_text", "saving-teacher.keras")],
    ids=["before the stamp", "before the move", "while saving"],
)
def test_killed_while_a_model_is_finished(folder, monkeypatch, method, name):
    """The model of the settings before is still known as the run's own, and the stage is run again."""
    file = folder.path / "teacher.keras"
    folder.finish_model("teacher", OLD, {}, file, Model("old weights"))
    with monkeypatch.context() as patch:
        kill_at(patch, method, name)
        with pytest.raises(Killed):
            folder.finish_model("teacher", NEW, {}, file, Model("new weights"))
    assert file.read_text() == "old weights"
    assert folder.wrote("teacher", file)
    assert folder.finished("teacher", NEW, file) is None
    folder.finish_model("teacher", NEW, {"history": 1}, file, Model("new weights"))
    assert folder.finished("teacher", NEW, file) == {"history": 1}
    assert sorted(path.name for path in folder.path.rglob("*")) == [".state", "teacher.json", "teacher.keras"]


def test_a_stage_that_writes_its_file_itself_is_finished_without_a_draft(folder):
    file = folder.path / "student.tflite"
    file.parent.mkdir(parents=True)
    file.write_text("flat")
    folder.finish("export", KEY, {"export": "said"}, file)
    assert folder.finished("export", KEY, file) == {"export": "said"}
    assert file.read_text() == "flat"


def test_a_text_is_never_there_in_part(tmp_path, monkeypatch):
    file = tmp_path / "new" / "report.json"
    write_atomically(file, "old")
    with monkeypatch.context() as patch:
        kill_at(patch, "replace", "report.json.tmp")
        with pytest.raises(Killed):
            write_atomically(file, "new")
    assert file.read_text() == "old"
    write_atomically(file, "größer")
    assert file.read_text("utf-8") == "größer"
    assert [path.name for path in file.parent.iterdir()] == ["report.json"]


def test_stamps_are_written_atomically(folder, monkeypatch):
    written = []
    monkeypatch.setattr(module, "write_atomically", lambda path, text: written.append((path.name, json.loads(text))))
    file = folder.path / "student.tflite"
    folder.finish("export", KEY, {"export": "said"}, file)
    assert written == [
        ("export.json", {"settings": KEY, "result": {"export": "said"}, "digest": None, "replaced": None})
    ]


def test_digest(tmp_path):
    file = tmp_path / "file"
    assert digest(file) is None
    file.write_bytes(b"abc")  # the SHA-256 of "abc" as FIPS 180-2 prints it
    assert digest(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_settings_keys():
    key = settings_key({"a": 1, "b": (2, None)}, "text")
    assert key == settings_key({"b": [2, None], "a": 1}, "text")
    assert len({key, settings_key({"a": 1, "b": (2, 0)}, "text"), settings_key({"a": 1, "b": (2, None)}, "test")}) == 3
    assert settings_key() == "4f53cda18c2baa0c"  # sha256 of "[]": the same in every process
