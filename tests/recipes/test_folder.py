"""The state that a run folder keeps, whenever the run is killed."""

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from keras_kd import files
from keras_kd.errors import RecipeError, StorageError
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.engine import stamps
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.folder import RunFolder, digest, removed_on_error, settings_key
from keras_kd.recipes.engine.stage import Stage

KEY, OTHER, OLD, NEW = ({"epochs": epochs} for epochs in (1, 2, 3, 4))


class Piece(Stage):
    def run(self, context):
        raise NotImplementedError


def made(name, record):
    return Artifact(role=Role.TEACHER, title="a file", kind="keras", file=Path(name), record=record)


def piece(id, settings, name="teacher.keras"):
    """A stage that makes a file."""
    return Piece(id, settings=settings, makes=Artifact(role=Role.TEACHER, title=id, kind="keras", file=Path(name)))


def finish(folder, id, settings, record, content, name="teacher.keras"):
    """Writes the draft of a stage and marks it as done."""
    stage = piece(id, settings, name)
    draft = folder.draft(Path(name))
    draft.write_text(content)
    stamps.finish(folder, stage, dataclasses.replace(stage.makes, draft=draft, record=record), {})


def finished(folder, id, settings, name="teacher.keras"):
    """The record of a finished stage, or None."""
    artifact = stamps.finished(folder, piece(id, settings, name), {})
    return artifact if artifact is None else artifact.record


class Killed(BaseException):
    """Simulates kill -9: nothing in the library may catch it."""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "digits")


def kill_at(monkeypatch, method, name):
    """Raises `Killed` before a file of this name is moved into place, or before `method` of such a path is called."""
    if method == "move":
        move = files.move
        monkeypatch.setattr(files, "move", lambda draft, file: killing_move(move, draft, file, name))
        return
    original = getattr(Path, method)

    def killing(path, *args):
        if path.name == name:
            raise Killed
        return original(path, *args)

    monkeypatch.setattr(Path, method, killing)


def killing_move(move, draft, file, name):
    if file.name == name:
        raise Killed
    move(draft, file)


def test_a_new_folder_has_finished_nothing_and_writes_nothing(folder, tmp_path):
    assert finished(folder, "teacher", KEY) is None
    assert not folder.wrote("teacher", folder.path / "teacher.keras")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_stage_is_known_by_settings_and_file(folder):
    file = folder.path / "teacher.keras"
    finish(folder, "teacher", KEY, {"history": {"loss": [1.0]}}, "weights")
    assert file.read_text() == "weights"
    again = RunFolder(folder.path)
    assert finished(again, "teacher", KEY) == {"history": {"loss": [1.0]}}
    assert finished(again, "teacher", OTHER) is None
    assert finished(again, "student", KEY) is None
    assert again.wrote("teacher", file)


@pytest.mark.parametrize("content", ["somebody else's", ""])
def test_a_file_that_was_replaced_is_not_the_stage_s_own(folder, content):
    file = folder.path / "teacher.keras"
    finish(folder, "teacher", KEY, {}, "weights")
    file.write_text(content)
    assert finished(folder, "teacher", KEY) is None
    assert not folder.wrote("teacher", file)


def test_a_file_that_was_removed_has_to_be_made_again(folder):
    file = folder.path / "teacher.keras"
    finish(folder, "teacher", KEY, {}, "weights")
    file.unlink()
    assert finished(folder, "teacher", KEY) is None


def test_a_file_without_a_stamp_is_somebody_else_s(folder):
    file = folder.path / "teacher.keras"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    assert not folder.wrote("teacher", file)


@pytest.mark.parametrize(
    ("method", "name"),
    [("move", "teacher.json"), ("move", "teacher.keras"), ("write_text", "saving-teacher.keras")],
    ids=["before the stamp", "before the move", "while saving"],
)
def test_killed_while_a_model_is_finished(folder, monkeypatch, method, name):
    """The model of the previous settings is still recognized as the run's own, and the stage runs again."""
    file = folder.path / "teacher.keras"
    finish(folder, "teacher", OLD, {}, "old weights")
    with monkeypatch.context() as patch:
        kill_at(patch, method, name)
        with pytest.raises(Killed):
            finish(folder, "teacher", NEW, {}, "new weights")
    assert file.read_text() == "old weights"
    assert folder.wrote("teacher", file)
    assert finished(folder, "teacher", NEW) is None
    finish(folder, "teacher", NEW, {"history": 1}, "new weights")
    assert finished(folder, "teacher", NEW) == {"history": 1}
    assert sorted(path.name for path in folder.path.rglob("*")) == [".state", "teacher.json", "teacher.keras"]


def test_a_stage_that_writes_its_file_itself_is_finished_without_a_draft(folder):
    file = folder.path / "student.tflite"
    file.parent.mkdir(parents=True)
    file.write_text("flat")
    stamps.finish(folder, piece("export", KEY, "student.tflite"), made("student.tflite", {"export": "text"}), {})
    assert finished(folder, "export", KEY, "student.tflite") == {"export": "text"}
    assert file.read_text() == "flat"


def test_stamps_are_written_atomically(folder, monkeypatch):
    written = []
    monkeypatch.setattr(files, "write_json", lambda path, value: written.append((path.name, value)))
    stamps.finish(folder, piece("export", KEY, "student.tflite"), made("student.tflite", {"export": "text"}), {})
    (name, stamp), *others = written
    assert (name, others) == ("export.json", [])
    assert stamp["settings"] == KEY and stamp["record"] == {"export": "text"} and stamp["digest"] is None


def test_digest(tmp_path):
    file = tmp_path / "file"
    assert digest(file) is None
    file.write_bytes(b"abc")  # the SHA-256 of "abc" from FIPS 180-2
    assert digest(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_settings_keys():
    key = settings_key({"a": 1, "b": (2, None)}, "text")
    assert key == settings_key({"b": [2, None], "a": 1}, "text")
    assert len({key, settings_key({"a": 1, "b": (2, 0)}, "text"), settings_key({"a": 1, "b": (2, None)}, "test")}) == 3
    assert settings_key() == "4f53cda18c2baa0c"  # sha256 of "[]": the same in every process


# One run at a time, for one recipe.

MINE = {"data": "digits", "teacher": "big", "student": "small"}
THEIRS = MINE | {"data": "npz:other.npz"}


def test_a_second_run_at_the_same_time_is_refused(folder):
    with folder.held(MINE), pytest.raises(RecipeError, match=f"output_dir: process {os.getpid()} on .* is using this"):
        with RunFolder(folder.path).held(MINE):
            pass
    with folder.held(MINE):
        pass


def test_the_folder_of_another_recipe_is_refused_and_left_as_it_is(folder):
    with folder.held(MINE):
        pass
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    message = r"contains the results of another recipe. Received: .*: data digits -> npz:other.npz\..*--overwrite"
    with pytest.raises(RecipeError, match=message), folder.held(THEIRS):
        pass
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    with folder.held(THEIRS, overwrite=True):
        pass
    with folder.held(THEIRS):
        pass
    with pytest.raises(RecipeError, match="another recipe"), folder.held(MINE):
        pass


@pytest.mark.parametrize("name", ["student.keras", "student_int8.tflite", "report.html", "labels.txt"])
def test_results_that_no_run_wrote_are_not_replaced(folder, name):
    folder.path.mkdir(parents=True)
    (folder.path / name).write_text("somebody's")
    with pytest.raises(RecipeError, match=f"no run of this recipe wrote. Received: .*{name}"), folder.held(MINE):
        pass
    assert [path.name for path in folder.path.rglob("*")] == [name]


def test_a_teacher_placed_in_the_folder_is_accepted(folder):
    folder.path.mkdir(parents=True)
    (folder.path / "teacher.keras").write_text("theirs")
    with folder.held(MINE):
        pass


def test_what_a_kill_left_half_written_is_swept(folder):
    folder.state.mkdir(parents=True)
    for name in ("saving-teacher.keras", ".partial-0-teacher.json"):
        (folder.state / name).write_text("half")
    with folder.held(MINE, shared=True):
        assert (folder.state / "saving-teacher.keras").exists()  # another share may be writing it
    with folder.held(MINE):
        assert sorted(path.name for path in folder.state.iterdir()) == ["lock", "recipe.json"]


def test_what_is_replaced_is_reported(folder):
    file = folder.path / "teacher.keras"
    assert stamps.replaces(folder, piece("teacher", KEY), {}) is None
    before = {"epochs": 25, "seed": 0, "distillation": {"alpha": 0.5, "losses": None}, "data fingerprint": "a"}
    finish(folder, "teacher", before, {}, "weights")
    after = before | {"epochs": 3, "distillation": {"alpha": 0.9, "losses": None}, "data fingerprint": "b"}
    assert stamps.replaces(folder, piece("teacher", after), {}) == "epochs 25 -> 3, distillation.alpha 0.5 -> 0.9"
    assert stamps.replaces(folder, piece("teacher", before | {"data fingerprint": "b"}), {}) == "the data changed"
    file.write_text("somebody's")
    assert stamps.replaces(folder, piece("teacher", before), {}) == "not written by this run"


def test_a_damaged_stamp_is_a_stage_that_was_not_finished(folder):
    finish(folder, "teacher", KEY, {}, "weights")
    (folder.state / "teacher.json").write_text("{")
    assert finished(folder, "teacher", KEY) is None


def test_only_files_of_the_stage_are_discarded(folder):
    file = folder.path / "student_int8.tflite"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    assert not folder.discard("export") and file.exists()
    stamps.finish(folder, piece("export", KEY, "student_int8.tflite"), made("student_int8.tflite", {}), {})
    assert folder.discard("export") and not file.exists()
    assert finished(folder, "export", KEY, "student_int8.tflite") is None


# Full disks.


def test_a_full_disk_leaves_the_old_model_and_no_draft(folder):
    file = folder.path / "teacher.keras"
    finish(folder, "teacher", OLD, {}, "old weights")
    message = "No space left on device. Received: .*saving-teacher.keras.*a disk with free space"
    with pytest.raises(StorageError, match=message), folder.held(MINE, overwrite=True):
        draft = folder.draft(file)
        with removed_on_error(draft):
            draft.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft))
    assert file.read_text() == "old weights"
    assert finished(folder, "teacher", OLD) == {}
    assert sorted(path.name for path in folder.state.iterdir()) == ["lock", "recipe.json", "teacher.json"]


def test_other_errors_stay_what_they_are(folder):
    with pytest.raises(ConnectionError), folder.held(MINE):
        raise ConnectionError(errno.ECONNRESET, "reset")
