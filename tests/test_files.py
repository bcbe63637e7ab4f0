"""Atomic writes under interruption, and digests against direct `hashlib` calls."""

import ast
import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

import keras_kd
from keras_kd import files
from keras_kd.errors import StorageError

PACKAGE = Path(keras_kd.__file__).parent


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Writing.


def test_text_and_bytes_are_written_and_folders_created(tmp_path):
    file = tmp_path / "new" / "folder" / "labels.txt"
    files.write(file, "größer")
    assert file.read_bytes() == "größer".encode()
    files.write(file, b"\0\1")
    assert file.read_bytes() == b"\0\1"
    assert names(file.parent) == ["labels.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
@pytest.mark.parametrize("moment", ["while writing", "before the move"])
def test_a_failed_write_keeps_the_old_file(error, moment, tmp_path, monkeypatch):
    files.write(tmp_path / "report.json", "old")

    def fail(path, *args):
        if moment == "while writing":
            path.write_text("ne")
        raise error

    owner, method = (Path, "write_bytes") if moment == "while writing" else (files, "move")
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(owner, method, fail)
        files.write(tmp_path / "report.json", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_temporary_path_has_the_folder_and_extension_of_the_file(tmp_path):
    with files.replacing(tmp_path / "model.weights.h5") as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".weights.h5")
        temporary.write_text("weights")
        assert not (tmp_path / "model.weights.h5").exists()
    assert (tmp_path / "model.weights.h5").read_text() == "weights"


@pytest.mark.parametrize("has_links", [True, False])
def test_an_existing_file_is_kept_on_request(has_links, tmp_path, monkeypatch):
    def refuse(file, target):
        raise OSError(errno.ENOTSUP, "no links")

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    files.write(tmp_path / "manifest.json", "first", keep_existing=True)
    files.write(tmp_path / "manifest.json", "second", keep_existing=True)
    assert (tmp_path / "manifest.json").read_text() == "first"
    assert names(tmp_path) == ["manifest.json"]


def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path):
    with files.replacing(tmp_path / "a") as one, files.replacing(tmp_path / "a") as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"  # its block ended last


def test_files_of_killed_processes_are_removed(tmp_path):
    writer = files.replacing(tmp_path / "a.json")
    writer.__enter__().write_text("half")
    (tmp_path / "b.json").write_text("whole")
    assert len(names(tmp_path)) == 2
    files.remove_partial(tmp_path)
    assert names(tmp_path) == ["b.json"]
    files.remove_partial(tmp_path / "missing")


def test_json_round_trip(tmp_path):
    files.write_json(tmp_path / "a.json", {"a": [1, None], "b": "ä"})
    assert files.read_json(tmp_path / "a.json") == {"a": [1, None], "b": "ä"}


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"a": ', b"\xff\xfe"])
def test_json_that_is_missing_damaged_or_not_an_object(content, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    assert files.read_json(tmp_path / "a.json") is None


def test_a_full_disk_raises_a_storage_error_with_the_file(tmp_path):
    message = "No space left on device. Received: .*model.keras. Expected: a disk with free space"
    with pytest.raises(StorageError, match=message), files.storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "model.keras"))
    with pytest.raises(ConnectionError), files.storage_errors(tmp_path):
        raise ConnectionError(errno.ECONNRESET, "reset")


# Digests.


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_digests_of_text_bytes_and_files(tmp_path):
    # the SHA-256 of "abc" from FIPS 180-2
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.digest("a", b"b", "c") == files.digest_of_file(tmp_path / "abc") == expected
    assert files.fingerprint(expected) == f"sha256:{expected}"


def test_digest_of_json():
    assert files.digest_of_json([]) == sha256(b"[]")
    value = {"b": (2, None), "a": Path("x")}
    assert files.digest_of_json(value, default=str) == sha256(json.dumps({"a": "x", "b": [2, None]}).encode())


def test_digest_of_arrays_covers_shape_dtype_and_values():
    array = np.arange(10_000, dtype="int16").reshape(5000, 2)
    assert files.digest_of_arrays([array]) == sha256(b"(5000, 2)int16" + array.tobytes())
    assert files.digest_of_arrays([array[:, ::-1]]) == sha256(b"(5000, 2)int16" + array[:, ::-1].tobytes())
    others = [array.reshape(2, 5000), array.astype("int32"), array[::-1], array + 1]
    assert len({files.digest_of_arrays([one]) for one in [array, *others]}) == 5
    assert files.digest_of_arrays([np.float32(3)]) == sha256(b"()float32" + np.float32(3).tobytes())
    assert files.digest_of_arrays([np.zeros((0, 3))]) == sha256(b"(0, 3)float64")
    words = [np.array(["one", "two"], object), np.array(["one", "three"], object)]
    assert files.digest_of_arrays(words[:1]) != files.digest_of_arrays(words[1:])


def test_digest_of_named_arrays():
    zeros, ones = np.zeros(2), np.ones(2)
    expected = sha256(b"a(2,)float64" + zeros.tobytes() + b"b(2,)float64" + ones.tobytes())
    assert files.digest_of_named_arrays([("b", ones), ("a", zeros)]) == expected
    assert files.digest_of_named_arrays([("a", ones), ("b", zeros)]) != expected


def test_random_keys_are_stable():
    """They seed every augmentation: changed values would change the views of all caches."""
    assert files.random_key("0:0:flip") == int.from_bytes(
        hashlib.blake2b(b"0:0:flip", digest_size=8).digest(), "little"
    )


# The rest of the package.


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_other_module_renames_files_or_computes_hashes(path):
    if path == PACKAGE / "files.py":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert "hashlib" not in [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module != "hashlib"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert not renames(node), f"line {node.lineno}: use keras_kd.files"


def renames(call):
    """`os.replace(a, b)`, `os.rename(a, b)`, `shutil.move(a, b)`, `path.replace(b)` or `path.rename(b)`."""
    name = call.func.attr
    if isinstance(call.func.value, ast.Name) and call.func.value.id in ("os", "shutil"):
        return name in ("replace", "rename", "renames", "move")
    if isinstance(call.func.value, ast.Name) and call.func.value.id == "dataclasses":
        return False
    return name in ("replace", "rename") and len(call.args) == 1 and not call.keywords


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.replace(a, b)", True),
        ("draft.replace(file)", True),
        ("draft.rename(file)", True),
        ("text.replace('a', 'b')", False),
        ("dataclasses.replace(head, operation=None)", False),
        ("dataclasses.replace(head)", False),
        ("files.move(draft, file)", False),
    ],
)
def test_renames_are_recognized(code, expected):
    assert renames(ast.parse(code, mode="eval").body) == expected
