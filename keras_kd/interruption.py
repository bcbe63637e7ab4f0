"""Ctrl-C that cannot be lost.

Python turns Ctrl-C into an exception wherever the main thread happens to be, and there it may be swallowed: in a
finalizer, in a callback from native code, in an import that is allowed to fail. A program that notes Ctrl-C here (the
command line does) is stopped by the next `check` in any case. Without such a program nothing here has an effect.
"""

from __future__ import annotations

import threading

_pressed = threading.Event()
_held = threading.Event()


def press() -> None:
    """Notes that Ctrl-C was pressed; raises `KeyboardInterrupt` except between `hold` and `release`."""
    _pressed.set()
    if not _held.is_set():
        raise KeyboardInterrupt


def is_pressed() -> bool:
    """Whether Ctrl-C was pressed."""
    return _pressed.is_set()


def check() -> None:
    """Raises `KeyboardInterrupt` where Ctrl-C was pressed."""
    if _pressed.is_set():
        raise KeyboardInterrupt


def hold() -> None:
    """From here on Ctrl-C is only noted: whoever calls this also calls `check` at each step of the work."""
    _held.set()


def release() -> None:
    """From here on Ctrl-C is raised where it is pressed."""
    _held.clear()


def forget() -> None:
    """Begins anew, as if Ctrl-C had not been pressed."""
    _pressed.clear()
    _held.clear()
