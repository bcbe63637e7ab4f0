"""Keeps the start-up messages of native libraries off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Holds back what is written to standard error while heavy libraries load; shows it all where loading fails.

    TensorFlow writes to the file descriptor from C++, past `sys.stderr` and whatever its log level is set to.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(original, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)


def touch_backend() -> None:
    """Runs the first operation, at which TensorFlow looks for devices and says what it found."""
    from keras import ops

    ops.zeros(())
