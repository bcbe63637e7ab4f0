"""Ctrl-C is raised immediately or between two steps, and is never lost."""

import threading

import pytest

from keras_kd import interruption


@pytest.fixture(autouse=True)
def own_events(monkeypatch):
    for name in ("_pressed", "_held"):
        monkeypatch.setattr(interruption, name, threading.Event())


def test_it_is_raised_when_pressed_and_at_each_check():
    interruption.check()
    with pytest.raises(KeyboardInterrupt):
        interruption.press()
    assert interruption.is_pressed()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_it_is_only_recorded_while_held():
    interruption.hold()
    interruption.press()
    assert interruption.is_pressed()
    with pytest.raises(KeyboardInterrupt):
        interruption.check()


def test_forget_resets_the_state():
    interruption.hold()
    interruption.press()
    interruption.forget()
    interruption.check()
    with pytest.raises(KeyboardInterrupt):
        interruption.press()
