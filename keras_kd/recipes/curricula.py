"""Makes the curriculum of the distilled students, and the settings that identify it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_kd import curricula, files
from keras_kd.errors import ConfigurationError, explain
from keras_kd.recipes.engine.folder import FINGERPRINT
from keras_kd.recipes.reading.curricula import ByScores, ByTeacher

_CLASSES = {"teacher_confidence": curricula.ByTeacherConfidence, "teacher_loss": curricula.ByTeacherLoss}


def make_curriculum(settings: ByTeacher | None) -> curricula.Curriculum | None:
    """The curriculum of these settings; None without any. One by the teacher takes that of the training."""
    if settings is None:
        return None
    config = settings.model_dump(exclude={"name", "file"})
    if isinstance(settings, ByScores):
        return curricula.ByScores(difficulties_by_id=_scores(Path(settings.file)), **config)
    return _CLASSES[settings.name](progress=False, **config)


def identity_of(settings: ByTeacher | None) -> dict[str, Any]:
    """What a training depends on because of its curriculum; nothing without one."""
    if settings is None:
        return {}
    own = {"curriculum": settings.model_dump()}
    if isinstance(settings, ByScores):
        own |= {f"scores{FINGERPRINT}": files.digest_of_file(Path(settings.file))}
    return own


def described(settings: ByTeacher | None) -> dict[str, str]:
    """The curriculum as a condition of a training; none without one."""
    if settings is None:
        return {}
    order = "" if settings.order == "easy_first" else f", {settings.order}"
    text = f"{settings.name}{order}, {settings.start:g} at first, all from step {settings.full_after:,} on"
    return {"curriculum": text}


def _scores(file: Path) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigurationError(
            explain(
                "The scores cannot be read.",
                received=f"{file}: {error}",
                expected="a file that numpy.save has written, with a number for each training example",
            )
        ) from error
