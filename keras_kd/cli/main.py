"""The entry point: Ctrl-C is taken care of before anything else is loaded."""

from __future__ import annotations

import contextlib
import os
import sys

from keras_kd.cli.interrupts import handled


def main() -> None:
    """Runs the command line."""
    with handled():
        from keras_kd.cli.commands import app

        try:
            app()
        except SystemExit as error:
            _leave(error.code)
            raise


def _leave(code: object) -> None:
    """Ends the process of a command that failed, without the clean-up of an interpreter that has threads of its own.

    TensorFlow's threads still call Python functions then, and say on the terminal that there is none.
    """
    if isinstance(code, int) and code and "tensorflow" in sys.modules:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
