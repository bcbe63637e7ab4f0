"""The classes that each member of an ensemble knows, as ids of the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, explain

Classes = Sequence[Sequence[int] | None]


def check_ids(classes: Sequence[Any]) -> list[list[int] | None]:
    """Plain lists of class ids, None for a teacher that knows all; raises `ConfigurationError` for an invalid list.

    >>> check_ids([None, range(2), np.array([3, 1])])
    [None, [0, 1], [3, 1]]
    """
    plain = [None if ids is None else np.asarray(ids).tolist() for ids in classes]
    for index, ids in enumerate(plain):
        if ids is not None and not _is_id_list(ids):
            raise ConfigurationError(
                explain(
                    f"'classes' of member {index} must be class ids.",
                    received=repr(classes[index]),
                    expected="unique class ids from 0, or None for all",
                )
            )
    return plain


def count(classes: Classes | None, num_classes: int | None, shapes: Sequence[dict[str, Any] | None]) -> int | None:
    """The total number of classes: as given, from a teacher that knows all classes, or the highest id plus one.

    Args:
        shapes: the output shapes of each teacher, None if unknown.

    Returns:
        None if there are no subsets.

    Raises:
        ConfigurationError: a number without subsets, ids beyond it, or a class that no teacher knows.
    """
    if classes is None:
        if num_classes is None:
            return None
        raise ConfigurationError(
            explain("'num_classes' requires 'classes'.", received=f"num_classes={num_classes}, classes=None")
        )
    if num_classes is not None:
        num_classes = check_integer("num_classes", num_classes, at_least=1)
    else:
        whole = [_width(named) for named, ids in zip(shapes, classes, strict=True) if ids is None]
        highest = max((max(ids) for ids in classes if ids is not None), default=-1)
        num_classes = next(filter(None, whole), highest + 1)
    _check_all_known(classes, num_classes)
    return num_classes


def check_widths(classes: Classes, num_classes: int, shapes: Sequence[tuple[int | None, ...]]) -> None:
    """Raises `ConfigurationError` if a teacher's number of logits differs from the number of classes it knows."""
    for index, (ids, shape) in enumerate(zip(classes, shapes, strict=True)):
        width = num_classes if ids is None else len(ids)
        if shape[-1] != width:
            raise ConfigurationError(
                explain(
                    f"The number of outputs of member {index} differs from its number of ids in 'classes'.",
                    received=f"outputs of shape {shape}",
                    expected=f"{width} outputs",
                )
            )


def _check_all_known(classes: Classes, num_classes: int) -> None:
    every = set(range(num_classes))
    ids = {number for own in classes for number in (every if own is None else own)}
    if ids == every:
        return
    beyond = sorted(ids - every)
    raise ConfigurationError(
        explain(
            f"'classes' has ids beyond num_classes={num_classes}."
            if beyond
            else "No member knows some of the classes.",
            received=f"{beyond or sorted(every - ids)}",
            expected=f"the classes 0 to {num_classes - 1}, each known to at least one member",
        )
    )


def _is_id_list(ids: Any) -> bool:
    is_list = isinstance(ids, list) and bool(ids)
    return is_list and all(type(number) is int and number >= 0 for number in ids) and len(set(ids)) == len(ids)


def _width(named: dict[str, Any] | None) -> int | None:
    """The number of a teacher's classes, None if it is unknown or there are several outputs."""
    return next(iter(named.values()))[-1] if named is not None and len(named) == 1 else None
