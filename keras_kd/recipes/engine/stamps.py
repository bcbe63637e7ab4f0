"""The stamps of finished stages: whether a stage is done, and what running it again replaces.

A stage is done when its stamp, a small JSON file in `.state/`, has the key of the stage, the digests of its inputs and
the digest of its file. A file from elsewhere is thus never taken for the run's own, and after a kill at any moment the
next run can resume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_kd import files
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.folder import FINGERPRINT, RunFolder, changes, plain
from keras_kd.recipes.engine.stage import Stage


def finished(folder: RunFolder, stage: Stage, read: Mapping[str, str | None]) -> Artifact | None:
    """The artifact of a stage that is done, with its digest; None if the stage has to run.

    Args:
        folder: the run folder.
        stage: a stage of the plan.
        read: the digests of the artifacts that it reads, by stage id.
    """
    stamp = folder.stamp(stage.id)
    if stamp is None or stamp["key"] != stage.key() or stamp["read"] != dict(read):
        return None
    file = Path(stamp["file"]) if stamp["file"] else None
    digest = None if file is None else stage.digest(folder.path / file)
    if digest != stamp["digest"] or (file is not None and digest is None):
        return None
    return dataclasses.replace(stage.makes, file=file, record=stamp["record"], digest=digest)


def replaces(folder: RunFolder, stage: Stage, read: Mapping[str, str | None]) -> str | None:
    """Why running a stage again replaces its file, such as `"epochs 25 -> 3"`; None if there is no file to replace."""
    file = folder.path / stage.makes.file
    if not file.exists():
        return None
    stamp = folder.stamp(stage.id)
    if stamp is None or not folder.wrote(stage.id, file):
        return "not written by this run"
    before = stamp["settings"] | _as_settings(stamp["inputs"], stamp["read"])
    after = plain(stage.settings) | _as_settings(_keys(stage), read)
    return ", ".join(changes(before, after)) or "not finished"


def finish(folder: RunFolder, stage: Stage, artifact: Artifact, read: Mapping[str, str | None]) -> None:
    """Marks a stage as done, and moves the draft of its artifact into place.

    The stamp is written first and includes the digest of the file to be replaced: after a kill before the move, the
    stage is not done, and the old file is still recognized as the run's own.
    """
    file = artifact.file and folder.path / artifact.file
    content = artifact.draft or file
    stamp = {
        "key": stage.key(),
        "settings": plain(stage.settings),
        "inputs": _keys(stage),
        "read": dict(read),
        "file": artifact.file and str(artifact.file),
        "record": artifact.record,
        "digest": content and stage.digest(content),
        "replaced": file and stage.digest(file),
    }
    files.write_json(folder.state / f"{stage.id}.json", stamp)
    if artifact.draft is not None:
        files.move(artifact.draft, file)


def _keys(stage: Stage) -> dict[str, str]:
    return {known.id: known.key() for known in stage.inputs}


def _as_settings(inputs: Mapping[str, str], read: Mapping[str, str | None]) -> dict[str, Any]:
    return {f"{id.replace('_', ' ')}{FINGERPRINT}": [key, read.get(id)] for id, key in inputs.items()}
