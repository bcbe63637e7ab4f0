"""Progress in a file is a few plain lines, flushed immediately; on a terminal it is a bar."""

import io

import pytest
from rich.console import Console

from keras_kd import interruption, progress
from keras_kd.progress import Lines, bar, shows_bars


class Clock:
    """Replaces `time`; advances only when set."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class Counting(io.StringIO):
    flushes = 0

    def flush(self):
        self.flushes += 1


def test_a_line_per_stage_and_per_minute(clock):
    file = Counting()
    lines = Lines(Console(file=file, width=30))
    teacher = lines.add("teacher", 1200, 0)
    for minute_third in range(9):
        clock.now = 20.0 * (minute_third + 1)
        lines.advance(teacher, 100, f"validation {minute_third}%")
    lines.finish(teacher)
    student = lines.add("student", 2, 1)
    clock.now += 59.0
    lines.advance(student, 1)
    lines.finish(student)
    assert file.getvalue().splitlines() == [
        "teacher: 0 of 1,200",
        "teacher: 300 of 1,200, validation 2%",
        "teacher: 600 of 1,200, validation 5%",
        "teacher: 900 of 1,200, validation 8%",
        "teacher: 1,200 of 1,200, validation 8%, 180 s",
        "student: 2 of 2, 59 s",
    ]
    assert file.flushes >= 6


def test_text_is_printed_unchanged():
    file = io.StringIO()
    Lines(Console(file=file, width=20)).say("teacher: loaded run[1]/teacher.keras, trained before")
    assert file.getvalue() == "teacher: loaded run[1]/teacher.keras, trained before\n"


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, False),
        ({"force_terminal": True, "_environ": {"TERM": "xterm"}}, True),
        ({"force_terminal": True, "_environ": {"TERM": "dumb"}}, False),
        ({"force_jupyter": True}, True),
    ],
)
def test_bars_are_shown_only_on_terminals_that_support_them(settings, shown):
    file = None if settings.get("force_jupyter") else io.StringIO()
    assert shows_bars(Console(file=file, **settings)) is shown


def test_a_bar_in_a_file(clock, capsys):
    with bar("teacher cache", 4) as advance:
        for _ in range(4):
            clock.now += 50.0
            advance()
    expected = "teacher cache: 0 of 4\nteacher cache: 2 of 4\nteacher cache: 4 of 4\nteacher cache: 4 of 4, 200 s\n"
    assert capsys.readouterr().out == expected


def test_short_work_prints_nothing(clock, capsys):
    with bar("quick", 2, after_seconds=2.0) as advance:
        advance()
        advance()
    assert capsys.readouterr().out == ""
    with bar("slow", None, after_seconds=2.0) as advance:
        advance()
        clock.now += 3.0
        advance()
    assert capsys.readouterr().out == "slow: 0\nslow: 2, 3 s\n"


def test_each_step_checks_for_ctrl_c(monkeypatch, capsys):
    monkeypatch.setattr(interruption, "_pressed", type(interruption._pressed)())
    for shown in (True, False):
        interruption.forget()
        with pytest.raises(KeyboardInterrupt), bar("work", 2, shown=shown) as advance:
            advance()
            interruption._pressed.set()
            advance()
