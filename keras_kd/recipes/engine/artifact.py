"""What a stage makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from keras_kd.evaluation.roles import Role

Kind = Literal["keras", "tflite", "cache", "text", "external"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """What a stage makes.

    Attributes:
        role: what it is for. Everything that chooses among artifacts goes by this, or by `derived_from`.
        title: how the report and the progress lines call it; nothing depends on it.
        kind: what its file holds; `"external"` has no file in the run folder.
        file: where it is, relative to the run folder; None without a file.
        derived_from: the id of the artifact whose weights it continues or converts; None for one that starts anew.
        labels: how many labeled examples it was trained with; None for all of them.
        record: plain data about how it was made. `"history"` and `"conditions"` of a training enter the report,
            `"notes"` are printed.
        draft: a finished file that the loop moves to `file`.
        is_complete: whether the stage is done; one that is not runs again the next time.
        digest: of the content of its file, filled in by the loop.
    """

    role: Role
    title: str
    kind: Kind
    file: Path | None = None
    derived_from: str | None = None
    labels: int | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    draft: Path | None = None
    is_complete: bool = True
    digest: str | None = None
