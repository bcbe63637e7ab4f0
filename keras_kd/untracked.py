"""Holds what Keras would track if it were a plain attribute of a model, a layer or an optimizer."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(eq=False)
class Untracked:
    """A value that Keras does not look inside: variables, layers or models that belong to another object.

    As plain attributes they would be listed, trained and saved a second time; a dict or list would be wrapped.

    >>> Untracked([1, 2]).value
    [1, 2]
    """

    value: Any
