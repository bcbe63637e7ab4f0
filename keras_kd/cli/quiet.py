"""Keeps messages of native libraries off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def quiet_natives(is_expected: Callable[[Exception], bool] = lambda error: False) -> Iterator[None]:
    """Holds back the output of native libraries to standard error; prints it after an unexpected error.

    TensorFlow and LiteRT write to the file descriptor from C++, bypassing `sys.stderr` and ignoring their log level.
    Python's own output to `sys.stderr` (warnings, errors) is not affected.
    """
    sys.stderr.flush()
    original = os.dup(2)
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(2), "w", buffering=1) as visible:
        os.dup2(held.fileno(), 2)
        sys.stderr = visible
        try:
            yield
        except Exception as error:
            if not is_expected(error):
                held.seek(0)
                os.write(original, held.read())
            raise
        finally:
            sys.stderr = python_stderr
            os.dup2(original, 2)
            os.close(original)


def initialize_backend() -> None:
    """Runs a first operation, which makes TensorFlow search for devices and log the result."""
    from keras import ops

    ops.zeros(())
