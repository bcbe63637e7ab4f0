"""The section about the data of a teacher that sees other inputs than the student."""

from __future__ import annotations

from typing import Annotated, Any

from keras_kd.recipes.reading.section import Section, list_as_tuple


class TeacherData(Section):
    """What the teacher sees of the examples of `data`, see `keras_kd.data.pair`; labels and splits are those of `data`.

    `value_range` and `data_dir` default to those of `data`. Without a `source`, so does `image_size`; with one, null
    keeps the size of its images.
    """

    source: str | None = None
    data_dir: str | None = None
    image_size: Annotated[tuple[int, int] | None, list_as_tuple] = None
    value_range: Annotated[tuple[float, float] | None, list_as_tuple] = None


def settings_of_student(data: Any) -> dict[str, Any]:
    """The settings of `data` as arguments of `keras_kd.data.open_source`."""
    return data.model_dump(exclude={"curriculum", "teacher"})


def settings_of_teacher(data: Any) -> dict[str, Any]:
    """The settings of `data` as far as `data.teacher` does not replace them: arguments of `keras_kd.data.open_source`.

    >>> from keras_kd.recipes.reading.schema import Data
    >>> data = Data(source="folder:small", image_size=(8, 8), teacher=TeacherData(source="npz:large.npz"))
    >>> found = settings_of_teacher(data)
    >>> found["source"], found["image_size"], found["value_range"]
    ('npz:large.npz', None, (0.0, 1.0))
    """
    settings, given = settings_of_student(data), data.teacher.model_dump(exclude_none=True)
    source = given.get("source", settings["source"])
    if source != settings["source"]:
        settings["image_size"] = None
    if not source.startswith("tfds:"):
        settings["data_dir"] = None
    return settings | given
