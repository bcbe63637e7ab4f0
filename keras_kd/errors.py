"""The exceptions of the package, and their wording: what was received, what was expected, how to fix it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


class KerasKDError(Exception):
    """Base class of all errors that this package raises on purpose."""


class ConfigurationError(KerasKDError, ValueError):
    """A setting, a model or an input is invalid."""


class RecipeError(ConfigurationError):
    """A recipe is invalid; nothing has been written."""


class TeacherError(KerasKDError, ValueError):
    """A teacher is missing, or differs from the expected one."""


class ExportError(KerasKDError, RuntimeError):
    """A model could not be exported."""


class TrainingError(KerasKDError, ArithmeticError):
    """A training diverged, and would diverge again with the same settings."""


class StorageError(KerasKDError, OSError):
    """A disk is full or not writable; once this is fixed, the same work resumes from the last save."""


def explain(problem: str, *, received: Any = None, expected: Any = None, fix: str | None = None) -> str:
    """Joins the parts of a message: the problem, what was received, what was expected, how to fix it.

    >>> explain("alpha is out of range.", received=2, expected="0 <= alpha <= 1")
    'alpha is out of range. Received: 2. Expected: 0 <= alpha <= 1.'
    """
    parts = [problem]
    if received is not None:
        parts.append(f"Received: {received}.")
    if expected is not None:
        parts.append(f"Expected: {expected}.")
    if fix is not None:
        parts.append(fix)
    return " ".join(parts)


def without_colors(text: str) -> str:
    """The text without codes for terminals, which Keras puts into its messages.

    >>> without_colors("\x1b[1mno\x1b[0m")
    'no'
    """
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def check_number(
    name: str, value: Any, *, at_least: float = -math.inf, at_most: float = math.inf, fix: str | None = None
) -> float:
    """Returns `value` as a float, or raises `ConfigurationError` if it is not a finite number in the range."""
    in_range = isinstance(value, Real) and not isinstance(value, bool) and at_least <= value <= at_most
    if not (in_range and math.isfinite(value)):
        low = f"{at_least:g} <= " if at_least > -math.inf else ""
        high = f" <= {at_most:g}" if at_most < math.inf else ""
        expected = f"a number, {low}{name}{high}" if low or high else "a finite number"
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(value), expected=expected, fix=fix))
    return float(value)


def check_integer(
    name: str, value: Any, *, at_least: int | None = None, at_most: int | None = None, fix: str | None = None
) -> int:
    """Returns `value` as an int, or raises `ConfigurationError` if it is not a whole number in the range.

    >>> check_integer("views", 3, at_least=1)
    3
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    in_range = is_integer and (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    if not in_range:
        low = "" if at_least is None else f"{at_least} <= "
        high = "" if at_most is None else f" <= {at_most}"
        expected = f"a whole number, {low}{name}{high}" if low or high else "a whole number"
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(value), expected=expected, fix=fix))
    return int(value)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    """Returns `value`, or raises `ConfigurationError` with the choices if it is not one of them."""
    choices = list(choices)
    if value not in choices:
        expected = "one of " + ", ".join(map(repr, choices))
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(value), expected=expected))
    return value


class Notice(UserWarning):
    """Warns about something that was decided automatically and that the user may want to know."""
