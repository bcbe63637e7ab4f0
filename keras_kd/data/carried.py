"""What travels with a batch besides inputs and labels: which examples these are, and what a teacher said of them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Carried(NamedTuple):
    """The inputs of a batch together with the teacher's answers, in the place of `x` in `(x, y, sample_weight)`.

    Attributes:
        x: the student's inputs, `[b, ...]`.
        ids: int64 `[b]`, the number of each example in its source, the same in every epoch.
        view: int64 `[b]`, which of the replayable augmentations of these examples this is.
        answers: what `CarriedTeacher.answers` gave, arrays `[b, ...]` by name.
    """

    x: Any
    ids: Any
    view: Any
    answers: dict[str, Any]


def inputs_of(x: Any) -> Any:
    """The inputs alone, whether or not something travels with them."""
    return x.x if isinstance(x, Carried) else x
