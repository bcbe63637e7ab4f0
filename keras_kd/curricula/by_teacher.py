"""Curricula by how a teacher does on each example."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras_kd.curricula.scoring import teacher_difficulties
from keras_kd.data.curriculum.curriculum import Curriculum


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _ByTeacher(Curriculum):
    """A curriculum whose difficulties a teacher defines, computed once for a pipeline, with a progress bar.

    Args:
        teacher: a Keras model, the path of a `.keras` file, or any `keras_kd` teacher. None takes the teacher of the
            training: `Distiller.fit` and `Pipeline.with_teacher` provide it.
        output: the name of the output to read; None is the only one.
        batch_size: of the teacher.
        progress: whether to show the bar, which appears after two seconds.
    """

    measure: ClassVar[str]

    teacher: Any = None
    output: str | None = None
    batch_size: int = 128
    progress: bool = True

    def difficulties(self, pipeline, teacher=None, inputs=None):
        own = self.teacher is not None
        if not own and teacher is None:
            return None
        return teacher_difficulties(
            self.teacher if own else teacher,
            pipeline,
            by=self.measure,
            output=self.output,
            inputs=None if own else inputs,
            batch_size=self.batch_size,
            progress=self.progress,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ByTeacherConfidence(_ByTeacher):
    """Examples of which the teacher is certain first, see `Curriculum` and `teacher_difficulties`.

        pipeline = kd.data.Pipeline((x, y), curriculum=kd.curricula.ByTeacherConfidence(start=0.3, full_after=2000))
        distiller.fit(pipeline, epochs=20)

    Needs no labels.

    Source: G. Hacohen and D. Weinshall, "On The Power of Curriculum Learning in Training Deep Networks", 2019, who
    order by the confidence of a classifier on the features of another network.

    Args:
        start, full_after, pacing, order, balanced: see `Curriculum`.
        teacher, output, batch_size, progress: see `ByTeacherLoss`.

    Raises:
        ConfigurationError: settings out of range; with the pipeline or its `fit`: a teacher of numbers, or one with
            several outputs and no `output`.
    """

    measure = "confidence"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ByTeacherLoss(_ByTeacher):
    """Examples on which the teacher's loss is low first, see `Curriculum` and `teacher_difficulties`.

    Needs a label for each example. A teacher may have learned its own training examples by heart; their loss is then
    low whether or not they are easy.

    Source: X. Wu, E. Dyer and B. Neyshabur, "When Do Curricula Work?", 2021.

    Args:
        start, full_after, pacing, order, balanced: see `Curriculum`.
        teacher: a Keras model, the path of a `.keras` file, or any `keras_kd` teacher. None takes the teacher of the
            training: `Distiller.fit` and `Pipeline.with_teacher` provide it.
        output: the name of the output to read; None is the only one.
        batch_size: of the teacher.
        progress: whether to show a progress bar.

    Raises:
        ConfigurationError: settings out of range; with the pipeline or its `fit`: examples without labels, or a teacher
            with several outputs and no `output`.
    """

    measure = "loss"
