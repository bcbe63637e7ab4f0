"""Records Ctrl-C so that it cannot be lost.

Python turns Ctrl-C into an exception wherever the main thread happens to be, where it may be swallowed: in a finalizer,
in a callback from native code, or in an import that is allowed to fail. A program that records Ctrl-C here (as the
command line does) stops at the next `check` in any case. In other programs this module has no effect.
"""

from __future__ import annotations

import threading

_pressed = threading.Event()
_held = threading.Event()


def press() -> None:
    """Records that Ctrl-C was pressed; raises `KeyboardInterrupt` except between `hold` and `release`."""
    _pressed.set()
    if not _held.is_set():
        raise KeyboardInterrupt


def is_pressed() -> bool:
    """Whether Ctrl-C was pressed."""
    return _pressed.is_set()


def check() -> None:
    """Raises `KeyboardInterrupt` if Ctrl-C was pressed."""
    if _pressed.is_set():
        raise KeyboardInterrupt


def hold() -> None:
    """Makes Ctrl-C only be recorded from now on: the caller must call `check` at each step of its work."""
    _held.set()


def release() -> None:
    """Makes Ctrl-C raise an exception immediately again."""
    _held.clear()


def forget() -> None:
    """Resets the state, as if Ctrl-C had not been pressed."""
    _pressed.clear()
    _held.clear()
