"""Fingerprints of teachers that are not Keras models: hashes of files, arrays and functions."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import files
from keras_kd.errors import TeacherError, explain

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes)


def fingerprint_of_path(path: Path) -> str:
    """A SHA-256 over a file's content, or over the sorted relative paths and contents of a folder's files.

    Returns:
        `sha256:` and 64 hex digits.
    """
    if path.is_file():
        return files.fingerprint(files.digest_of_file(path))
    inside = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    parts = (part for name, file in inside for part in (name, b"\0", bytes.fromhex(files.digest_of_file(file))))
    return files.fingerprint(files.digest(*parts))


def fingerprint_of_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """A SHA-256 over names, shapes, dtypes and values, independent of the order of the names.

    >>> one, other = fingerprint_of_arrays({"a": np.zeros(2)}), fingerprint_of_arrays({"a": np.zeros((2, 1))})
    >>> one == fingerprint_of_arrays({"a": np.zeros(2)}), one == other
    (True, False)
    """
    return files.fingerprint(files.digest_of_named_arrays(arrays.items()))


def fingerprint_of_function(function: Callable[..., Any], name: str) -> str:
    """A SHA-256 over a name and a function's source code, the same in any process that runs this code.

    The hash includes the numbers and strings that the function reads from its enclosing scopes, and functions of its
    own module. Other modules, classes and functions are included by name only, so a new library version is not
    detected.

    Raises:
        TeacherError: the source is not available (a callable object, a bound method), or the function reads a value
            that its source does not define, such as a model.
    """
    return files.fingerprint(files.digest("\0".join([name, *_describe(function, name, [])])))


def _describe(function: Any, name: str, seen: list[Any]) -> list[str]:
    """The source of a function and of everything it reads."""
    if not inspect.isfunction(function):
        raise _unknown(name, f"a {type(function).__name__}, whose state is not part of its source code")
    try:
        parts = [textwrap.dedent(inspect.getsource(function))]
    except (OSError, TypeError):
        raise _unknown(name, "a function without available source code") from None
    seen.append(function)
    for variable, value in _surroundings(function):
        parts += _describe_value(variable, value, function, name, seen)
    return parts


def _surroundings(function: Any) -> list[tuple[str, Any]]:
    """The values a function reads other than its arguments, by name, including argument defaults."""
    read = inspect.getclosurevars(function)
    defaults = {f"default {number}": value for number, value in enumerate(function.__defaults__ or ())}
    return sorted((read.nonlocals | read.globals | defaults | (function.__kwdefaults__ or {})).items())


def _describe_value(variable: str, value: Any, function: Any, name: str, seen: list[Any]) -> list[str]:
    if isinstance(value, _CONSTANTS):
        return [f"{variable}={value!r}"]
    if isinstance(value, tuple):
        return [part for item in value for part in _describe_value(variable, item, function, name, seen)]
    if inspect.ismodule(value):
        return [value.__name__]
    if inspect.isfunction(value) and value.__module__ == function.__module__:
        return [] if value in seen else _describe(value, name, seen)
    if inspect.isclass(value) or inspect.isfunction(value) or isinstance(value, np.ufunc) or _is_of_module(value):
        return [f"{getattr(value, '__module__', None)}.{value.__name__}"]
    raise _unknown(name, f"a function that reads {variable!r}, a {type(value).__name__}")


def _is_of_module(value: Any) -> bool:
    """Whether `value` is a function written in C rather than a method of an object."""
    return inspect.isbuiltin(value) and (value.__self__ is None or inspect.ismodule(value.__self__))


def _unknown(name: str, received: str) -> TeacherError:
    return TeacherError(
        explain(
            f"The source code of teacher {name!r} does not identify it.",
            received=received,
            expected="a function that uses only its arguments, constants and library functions",
            fix="Pass fingerprint='...', a text that changes whenever the outputs do.",
        )
    )
