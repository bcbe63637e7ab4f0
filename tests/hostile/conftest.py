"""One law for every row of these tables: the right error, a helpful message, immediately, and nothing written."""

import warnings

import pytest

from keras_kd.errors import KerasKDError, Notice

_LONGEST_MESSAGE = 1200


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Runs an attack in an empty folder and checks the outcome.

    `refused(attack, error, words)` calls `attack()`, which must raise `error`, one of the package's own, with a message
    that contains all `words` and has a readable length. The working directory must stay empty.
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
