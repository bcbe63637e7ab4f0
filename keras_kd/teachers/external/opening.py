"""Opens teachers from files and folders that are not Keras models."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.external.saved_model import SavedModelTeacher
from keras_kd.teachers.external.stored_logits import StoredLogits
from keras_kd.teachers.external.tflite import TFLiteTeacher

_FILES = "a .tflite or .npz file, or a folder with a saved_model.pb (a .keras file is for FrozenTeacher)"


def from_path(path: str | Path, **settings: Any) -> Teacher:
    """Opens a teacher from a file or folder that is not a Keras model.

    Args:
        path: a `.tflite` file (`TFLiteTeacher`), an `.npz` file of logits (`StoredLogits`), or the folder of a
            TensorFlow SavedModel (`SavedModelTeacher`).
        settings: arguments of that class.

    Raises:
        TeacherError: the path does not exist.
        ConfigurationError: the path is of another kind.
    """
    if not isinstance(path, (str, PathLike)):
        raise ConfigurationError(explain("`path` must be a path.", received=repr(path), expected=_FILES))
    path = Path(path)
    if not path.exists():
        raise TeacherError(explain("The teacher's file does not exist.", received=str(path), expected=_FILES))
    if path.is_dir() and (path / "saved_model.pb").exists():
        return SavedModelTeacher(path, **settings)
    kinds = {".tflite": TFLiteTeacher, ".npz": StoredLogits}
    if path.is_file() and path.suffix in kinds:
        return kinds[path.suffix](path, **settings)
    received = f"{path}, a folder without a saved_model.pb" if path.is_dir() else str(path)
    raise ConfigurationError(explain("Unsupported type of teacher file.", received=received, expected=_FILES))
