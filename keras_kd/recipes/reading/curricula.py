"""The sections about the order in which the distilled students see the training examples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from keras_kd.recipes.reading.section import Section


class ByTeacher(Section):
    """A curriculum by what the teacher makes of each example, see `keras_kd.curricula`.

    `start` is the fraction of the examples that is allowed at first; all are from step `full_after` on.
    """

    name: Literal["teacher_confidence", "teacher_loss"]
    start: float = Field(gt=0, le=1)
    full_after: int = Field(ge=1, le=2**53)
    pacing: Literal["exp", "linear", "log", "quad", "root", "step"] = "linear"
    order: Literal["easy_first", "hard_first", "random"] = "easy_first"
    balanced: bool = False


def _check_suffix(name: str) -> str:
    if not name.endswith(".npy"):
        raise ValueError("a .npy file with a number for each training example, in the order of the source")
    return name


class ByScores(ByTeacher):
    """A curriculum by numbers in a `.npy` file, one for each training example in their order; the lowest is easiest."""

    name: Literal["scores"]
    file: Annotated[str, AfterValidator(_check_suffix)]


AnyCurriculum = Annotated[ByTeacher | ByScores, Field(discriminator="name")]
