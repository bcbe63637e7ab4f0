"""Ctrl-C handling: the first stops the work at a point from which it can resume, the second kills the process."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

from keras_kd import interruption

EXIT_CODE = 130
_working = threading.Event()
_ending = threading.Lock()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handles Ctrl-C during a command, unless the process was started with Ctrl-C ignored.

    Before the work begins (`working`), nothing needs saving and the process ends immediately: an exception during an
    import may be swallowed, or may crash the native library being loaded.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    terminal = os.dup(2)  # output of native libraries to descriptor 2 is held back during the command
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    interruption.forget()
    handler = functools.partial(_pressed, terminal)
    signal.signal(signal.SIGINT, handler)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    sys.unraisablehook = _without_interrupts(sys.unraisablehook)
    threading.Thread(target=_watch, args=(reader, terminal), name="second Ctrl-C", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(writer)


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Turns Ctrl-C into a `KeyboardInterrupt`, so that unfinished files are removed."""
    _working.set()
    try:
        yield
    finally:
        _working.clear()


def end_at_once() -> None:
    """From here on, Ctrl-C ends the process without a message: its work is done."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _pressed(terminal: int, number: int, frame: object) -> None:
    """Handles the first Ctrl-C, in the main thread."""
    if not _working.is_set() and not interruption.is_pressed():
        _end(terminal, "Interrupted.")
    elif not interruption.is_pressed():
        interruption.press()


def _watch(reader: int, terminal: int) -> None:
    """Waits for the second Ctrl-C in a separate thread, since the main thread may be in a long native call."""
    pressed = 0
    while signals := os.read(reader, 64):
        pressed += signals.count(signal.SIGINT)
        if pressed > 1:
            _end(terminal, "Interrupted twice; ended without clean-up.")


def _end(terminal: int, message: str) -> None:
    """Ends the process and its children without clean-up."""
    if not _ending.acquire(blocking=False):  # already ending, in the other thread or further up in this one
        return
    for process in [found for found in gc.get_objects() if issubclass(type(found), subprocess.Popen)]:
        with contextlib.suppress(OSError):
            process.kill()
    show_cursor = "\x1b[?25h" if os.isatty(terminal) else ""
    with contextlib.suppress(OSError):  # last, since the main thread may still be printing
        os.write(terminal, f"{show_cursor}\n{message}\n".encode())
    os._exit(EXIT_CODE)


def _without_interrupts(show):
    """An unraisable-exception hook that ignores `KeyboardInterrupt`, which is already recorded."""

    def hook(unraisable):
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            show(unraisable)

    return hook
