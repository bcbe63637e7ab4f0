"""The roles of the models and files of a run."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """The purpose of an artifact in a run; comparisons, headlines and exports depend on it, never on a title."""

    TEACHER = "teacher"
    SNAPSHOTS = "snapshots"  # the teacher at several times of its training
    ASSISTANT = "assistant"
    SCRATCH = "scratch"  # a student trained without a teacher
    DISTILLED = "distilled"  # a student trained with one
    MODEL = "model"  # any other model
    EXPORTED = "exported"  # a file made from one of these
    REFERENCE = "reference"  # the teacher's file, measured for its size and latency
    CACHE = "cache"
    EXITS = "exits"  # a student with its early exits
    EXITS_FILE = "exits_file"  # a file made from it
    GENERATOR = "generator"  # a student with the generator that made its images
    SYNTHESIZED = "synthesized"  # images made without data
    DIAGNOSIS = "diagnosis"
    MEASUREMENTS = "measurements"
    REPORT = "report"


MODELS = frozenset({Role.TEACHER, Role.ASSISTANT, Role.SCRATCH, Role.DISTILLED, Role.MODEL})
