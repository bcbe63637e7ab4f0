"""Adds the key of the recipe to errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keras_kd.errors import KerasKDError, RecipeError


@contextlib.contextmanager
def checking(key: str) -> Iterator[None]:
    """Turns errors into a `RecipeError` that begins with `key`."""
    try:
        yield
    except (KerasKDError, ValueError, TypeError, OSError, ImportError) as error:
        raise RecipeError(f"{key}: {error}") from error
