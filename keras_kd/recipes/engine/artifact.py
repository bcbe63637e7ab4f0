"""The result of a stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from keras_kd.evaluation.roles import Role

Kind = Literal["keras", "tflite", "cache", "snapshots", "text", "arrays", "external"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artifact:
    """The result of a stage.

    Attributes:
        role: its purpose. Artifacts are selected by this or by `derived_from`.
        title: its name in the report and in progress lines; nothing depends on it.
        kind: the type of its file; `"external"` has no file in the run folder.
        file: the path of its file, relative to the run folder; None without a file.
        derived_from: the id of the artifact whose weights it continues or converts; None for one with its own start.
        labels: the number of labeled training examples; None for all of them.
        record: plain data about how it was made. `"history"` and `"conditions"` of a training go into the report,
            `"notes"` are printed.
        draft: a finished file that the loop moves to `file`.
        is_complete: whether the stage is done; if not, it runs again in the next run.
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
