"""What teacher and student take from a batch: all of x, one of its named inputs, or what a function makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_kd.data.pairs.sides import check_is_no_pair, select
from keras_kd.errors import ConfigurationError, explain

Selection = Callable[[Any], Any] | str | None


def check_selection(name: str, selection: Any) -> None:
    """Raises `ConfigurationError` if an argument is neither None, the name of an input, nor a function."""
    if selection is None or callable(selection) or (isinstance(selection, str) and selection):
        return
    raise ConfigurationError(
        explain(
            f"{name!r} must be a function or the name of an input.",
            received=repr(selection),
            expected="a function of the batch's x, a key of x if it is a dict, or None",
        )
    )


def selected(selection: Selection, x: Any) -> Any:
    """The inputs of a model from the batch's x.

    Raises:
        ConfigurationError: the batch has no input of that name; or it is a pair, and nothing is selected.
    """
    if selection is None:
        check_is_no_pair(x, "Distiller(..., teacher_inputs='teacher', student_inputs='student')")
        return x
    return select(x, selection) if isinstance(selection, str) else selection(x)


def selected_or_own(selection: Selection, x: Any, model: Any) -> Any:
    """Like `selected`, but inputs that are the model's own are returned unchanged: outside of training, a student is
    also given its side alone.

    Raises:
        ConfigurationError: a dict without the name, whose keys are not the names of the model's inputs.
    """
    is_own = not isinstance(x, Mapping) or (selection not in x and set(x) == _names(model))
    return x if isinstance(selection, str) and is_own else selected(selection, x)


def _names(model: Any) -> set[str]:
    """The names of a model's inputs, empty if it has no symbolic ones."""
    return {tensor.name for tensor in getattr(model, "inputs", None) or ()}
