"""One law for every row of these tables: the right error, in words that help, at once, and nothing written."""

import warnings

import pytest

from keras_kd.errors import KerasKDError, Notice

_LONGEST_MESSAGE = 1200


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Runs an attack in an empty folder and holds how it ends.

    `refused(attack, error, words)` calls `attack()`; it has to raise `error`, one of the package's own, with a message
    that holds all `words` and is not longer than a person reads; the working directory has to stay empty.
    """
    monkeypatch.chdir(tmp_path)

    def run(attack, error, words):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            with pytest.raises(error) as caught:
                attack()
        message = str(caught.value)
        assert isinstance(caught.value, KerasKDError), f"a raw {type(caught.value).__name__}: {message}"
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"
        assert 0 < len(message) <= _LONGEST_MESSAGE
        assert not list(tmp_path.iterdir()), "something was written"

    return run
