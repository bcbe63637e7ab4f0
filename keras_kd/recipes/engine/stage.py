"""A stage of a run: its inputs, the settings that it depends on, and its artifact."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.folder import digest, settings_key


class Stage(abc.ABC):
    """A unit of work that runs once for the same settings and inputs.

    Args:
        id: the name of the stage and of its stamp in the run folder.
        inputs: the stages whose artifacts it reads.
        settings: plain data that its result depends on, besides the inputs. A name that ends in " fingerprint" marks a
            hash, which messages do not show.
        makes: its artifact, as far as known before the run.

    Attributes:
        is_repeated: whether it runs in every run, for a result that costs next to nothing.
    """

    is_repeated: ClassVar[bool] = False

    def __init__(self, id: str, *, inputs: Sequence[Stage] = (), settings: Mapping[str, Any], makes: Artifact):
        self.id = id
        self.inputs = tuple(inputs)
        self.settings = dict(settings)
        self.makes = makes

    def key(self) -> str:
        """A hash of the settings and the keys of the stages that it reads; the same in another process."""
        return settings_key(self.settings, {stage.id: stage.key() for stage in self.inputs})

    @abc.abstractmethod
    def run(self, context: Context) -> Artifact:
        """Makes the artifact; its file is a draft until the stage is marked as done."""

    def prepare(self, context: Context) -> None:  # noqa: B027 - most stages have nothing to prepare
        """Called once inputs are available and the stage has to run, for slow starts in parallel with other stages."""

    def clean_up(self, context: Context) -> None:  # noqa: B027 - most stages have nothing to clean up
        """Called when the stage is marked as done."""

    def digest(self, file: Path) -> str | None:
        """The identity of a file of this stage; None if it is missing or damaged."""
        return digest(file)

    def skipped(self, file: Path | None) -> str | None:
        """The line that is printed if the stage is already done."""
        return None

    def replacing(self, file: Path, reason: str) -> str | None:
        """The line that is printed before an existing file is replaced, with a `reason` such as `"epochs 25 -> 3"`."""
        return None
