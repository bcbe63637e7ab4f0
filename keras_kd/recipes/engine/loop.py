"""The loop over the stages of a run: stamps, resume, progress lines. It is independent of the kinds of stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_kd.recipes.engine import stamps
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage


def run(stages: Sequence[Stage], context: Context, only: Sequence[Stage] | None = None) -> dict[str, Artifact]:
    """Runs the stages in order, skipping finished ones.

    Args:
        stages: all stages of the run.
        context: the context of the run.
        only: the stages to run, including all stages that they read; None runs all.

    Returns:
        The artifacts by stage id, in the order of the stages.
    """
    for stage in stages:
        if only is not None and stage not in only:
            continue
        artifact = finished(stage, context)
        if artifact is None:
            artifact = _run(stage, context)
        elif line := stage.skipped(_path(artifact, context)):
            context.progress.say(line)
        context.artifacts[stage.id] = artifact
        for note in artifact.record.get("notes", ()):
            context.progress.say(note)
        for reader in stages:
            if stage in reader.inputs and _is_ready(reader, context) and finished(reader, context) is None:
                reader.prepare(context)
    _discard_outdated(stages, context)
    return context.artifacts


def finished(stage: Stage, context: Context) -> Artifact | None:
    """The artifact of a stage that is already done with these settings and inputs, or None."""
    if stage.is_repeated:
        return None
    return stamps.finished(context.folder, stage, _read(stage, context))


def _run(stage: Stage, context: Context) -> Artifact:
    folder, file = context.folder, stage.makes.file
    if file is not None and (reason := stamps.replaces(folder, stage, _read(stage, context))):
        if line := stage.replacing(folder.path / file, reason):
            context.progress.say(line)
    artifact = stage.run(context)
    if artifact.is_complete and not stage.is_repeated:
        stamps.finish(folder, stage, artifact, _read(stage, context))
        stage.clean_up(context)
    path = _path(artifact, context)
    return dataclasses.replace(artifact, draft=None, digest=path and stage.digest(path))


def _is_ready(stage: Stage, context: Context) -> bool:
    return all(known.id in context.artifacts for known in stage.inputs)


def _read(stage: Stage, context: Context) -> dict[str, str | None]:
    """The digests of the artifacts that a stage reads, by stage id; if one changes, the stage runs again."""
    return {known.id: context.artifacts[known.id].digest for known in stage.inputs}


def _path(artifact: Artifact, context: Context) -> Path | None:
    return artifact.file and context.folder.path / artifact.file


def _discard_outdated(stages: Sequence[Stage], context: Context) -> None:
    """Removes result files of stages that are no longer in the plan and whose inputs have changed since."""
    contents = {id: artifact.digest for id, artifact in context.artifacts.items()}
    for id, file in context.folder.outdated({stage.id for stage in stages}, contents):
        if context.folder.discard(id):
            context.progress.say(f"{file.name}: removed because it was made from an earlier model.")
