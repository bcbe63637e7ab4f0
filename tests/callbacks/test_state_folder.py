"""The files of a state are complete or absent, verified when read, and never replaced by damaged ones."""

import contextlib
import errno

import numpy as np
import pytest

from keras_kd.callbacks._state_folder import StateFolder
from keras_kd.errors import ConfigurationError, Notice

KINDS = ("weights.h5", "arrays.npz", "json")


@pytest.fixture
def save(tmp_path):
    def save(files, epoch):
        files.save(epoch, lambda file: file.write_bytes(b"weights %d" % epoch), {"n": epoch}, {"a": np.arange(epoch)})

    return save


@pytest.fixture
def two(tmp_path, save):
    """A folder after two saves."""
    files = StateFolder(tmp_path)
    save(files, 1)
    save(files, 2)
    return tmp_path


def present(folder):
    return {int(file.name.removeprefix("epoch-").split(".")[0]) for file in folder.iterdir()}


def test_load_returns_what_was_saved(two):
    saved = StateFolder(two).load()
    assert (saved.epoch, saved.state, saved.weights.read_bytes()) == (2, {"n": 2}, b"weights 2")
    np.testing.assert_array_equal(saved.arrays["a"], [0, 1])


def damage(file, how):
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        flipped = bytes([*content[:-3], content[-3] ^ 1, *content[-2:]])
        file.write_bytes({"empty": b"", "zeros": bytes(99), "half": content[: len(content) // 2], "bit": flipped}[how])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["empty", "zeros", "half", "bit", "gone"])
def test_damage_costs_one_state(kind, how, two):
    damage(two / f"epoch-2.{kind}", how)
    if (kind, how) == ("json", "gone"):  # as if never saved
        assert StateFolder(two).load().epoch == 1
        return
    with pytest.warns(Notice, match="epoch-2: .* is damaged. The training resumes .* after epoch 1"):
        assert StateFolder(two).load().epoch == 1


def test_an_edited_value_counts_as_damage_and_nothing_is_removed(two):
    for epoch in (1, 2):
        file = two / f"epoch-{epoch}.json"
        file.write_text(file.read_text().replace(f'"n": {epoch}', '"n": 7'))
    with pytest.raises(ConfigurationError, match="damaged: epoch-2: .*checksum; epoch-1: .*delete the folder"):
        StateFolder(two).load()
    assert len(list(two.iterdir())) == 6


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"checksum": 1, "files": 3}'])
def test_unexpected_json_counts_as_damage(content, two):
    (two / "epoch-2.json").write_text(content)
    with pytest.warns(Notice, match="epoch-2.*damaged"):
        assert StateFolder(two).load().epoch == 1


def test_a_damaged_state_does_not_displace_the_intact_one(two, save):
    (two / "epoch-2.weights.h5").write_bytes(b"")
    files = StateFolder(two)
    with pytest.warns(Notice, match="damaged"):
        files.load()
    save(files, 3)
    assert present(two) == {1, 3}
    save(files, 4)
    assert present(two) == {3, 4}


def test_the_files_of_a_failed_save_are_removed(two):
    files = StateFolder(two)
    files.load()
    with pytest.raises(OSError, match="full"):
        files.save(3, lambda file: (_ for _ in ()).throw(OSError("full")), {}, {})
    (two / "epoch-3.weights.h5").write_bytes(b"half")
    files.drop(3)
    assert present(two) == {1, 2}


@contextlib.contextmanager
def largest_file(num_bytes):
    """Limits the size of files in this process, which fails like a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_found_before_the_weights_are_written(two):
    """HDF5 crashes the process when it closes a file on a full disk."""
    files, written = StateFolder(two), []
    files.load()
    with largest_file(10_000), pytest.raises(OSError) as caught:
        files.save(3, written.append, {}, {}, num_bytes=20_000)
    assert caught.value.errno == errno.EFBIG and written == []
    assert present(two) == {1, 2}
