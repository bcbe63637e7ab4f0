"""The inputs of a pipeline's batch with their example ids, view and outputs of an offline teacher."""

from __future__ import annotations

from typing import Any, NamedTuple


class PipelineInputs(NamedTuple):
    """Replaces `x` in the `(x, y, sample_weight)` batches of a `Pipeline`.

    Attributes:
        x: the student's inputs, `[b, ...]`.
        ids: int64 `[b]`, the id of each example in its source, the same in every epoch.
        view: int64 `[b]`, the index of the reproducible augmented view.
        teacher_outputs: the result of `OfflineTeacher.outputs_for`, arrays `[b, ...]` by name; empty without such a
            teacher.
    """

    x: Any
    ids: Any
    view: Any
    teacher_outputs: dict[str, Any]


def inputs_of(x: Any) -> Any:
    """The plain inputs, from a `PipelineInputs` or from plain inputs."""
    return x.x if isinstance(x, PipelineInputs) else x
