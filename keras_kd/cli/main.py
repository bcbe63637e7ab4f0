"""The entry point: installs the Ctrl-C handler before anything else is loaded."""

from __future__ import annotations

import contextlib
import os
import sys

from keras_kd.cli.interrupts import end_at_once, handled


def main() -> None:
    """Runs the command line."""
    with handled():
        from keras_kd.cli.commands import app

        try:
            app()
        except SystemExit as error:
            end_at_once()
            _leave(error.code)
            raise


def _leave(code: object) -> None:
    """Ends the process of a failed command without the interpreter's clean-up.

    During the clean-up, TensorFlow's threads would still call Python functions and print errors.
    """
    if isinstance(code, int) and code and "tensorflow" in sys.modules:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
