"""The inputs of a pipeline's batch with what belongs to them: example ids, view, outputs of an offline teacher."""

from __future__ import annotations

from typing import Any, NamedTuple


class PipelineInputs(NamedTuple):
    """What a `Pipeline` puts in the place of `x` in `(x, y, sample_weight)`.

    Attributes:
        x: the student's inputs, `[b, ...]`.
        ids: int64 `[b]`, the number of each example in its source, the same in every epoch.
        view: int64 `[b]`, which of the replayable augmentations of these examples this is.
        teacher_outputs: the result of `OfflineTeacher.outputs_for`, arrays `[b, ...]` by name; empty without such a
            teacher.
    """

    x: Any
    ids: Any
    view: Any
    teacher_outputs: dict[str, Any]


def inputs_of(x: Any) -> Any:
    """The inputs alone, of a `PipelineInputs` or of plain inputs."""
    return x.x if isinstance(x, PipelineInputs) else x
