"""Precomputed logits, looked up by example id."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.data.sources.contents import check_finite
from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features.outputs import ONLY_OUTPUT
from keras_kd.serialization import register
from keras_kd.teachers.absent import check_fingerprint, reopened
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.external.foreign import ForeignTeacher
from keras_kd.teachers.fingerprints import fingerprint_of_arrays

_IDS = "ids"
_ONLY = "logits"


@register
class StoredLogits(ForeignTeacher):
    """Logits from an `.npz` file or from arrays, one row per example, without the model that computed them.

    Without `ids`, row i belongs to example i of the pipeline's source. The rows belong to the unaugmented examples, so
    a pipeline with augmentation is rejected unless `augmented_is_fine`.

    Args:
        source: an `.npz` file, a dict of arrays, or a single array: `logits` `[n, classes]`, or an array `[n, ...]` per
            output name, and optionally `ids` int `[n]`, the example id of each row. A saved distiller names the teacher
            by the file's path.
        outputs: `"logits"` or `"probabilities"`; None assumes logits, and rejects a batch in which every row is a
            distribution. Probabilities are clipped to at least the smallest positive float32 (1.2e-38).
        activation: the activation that produced the probabilities, `"softmax"` or `"sigmoid"`; None assumes a sigmoid
            for a single column.
        augmented_is_fine: accept a pipeline with augmentation.
        fingerprint: the fingerprint of the model that computed the logits, if they are to represent it; None hashes
            the arrays.
        expected_fingerprint: if given, other contents are rejected.

    Raises:
        TeacherError: the file is missing, or its contents have another fingerprint.
        ConfigurationError: arrays without rows or of unequal length, duplicate ids, or invalid settings; NaN or
            infinity, with the rows listed.

    >>> teacher = StoredLogits({"logits": np.eye(3) * 9, "ids": [7, 5, 3]})
    >>> teacher.outputs_for(np.array([3, 7]), 0, None)["output"].tolist()
    [[0.0, 0.0, 9.0], [9.0, 0.0, 0.0]]
    """

    knows_one_set = True

    def __init__(
        self,
        source: str | Path | Mapping[str, np.ndarray] | np.ndarray,
        *,
        outputs: str | None = None,
        activation: str | None = None,
        augmented_is_fine: bool = False,
        fingerprint: str | None = None,
        expected_fingerprint: str | None = None,
    ):
        super().__init__(outputs, activation)
        self.path = Path(source) if isinstance(source, (str, Path)) else None
        self.augmented_is_fine = augmented_is_fine
        arrays = _as_arrays(source if self.path is None else _load(self.path))
        ids = arrays.pop(_IDS, None)
        self._logits_by_name, self.num_rows = _checked(arrays)
        self._ids = ids if ids is None else _checked_ids(ids, self.num_rows)
        self._order = None if ids is None else np.argsort(self._ids)
        self._shapes = {name: (None, *array.shape[1:]) for name, array in self._logits_by_name.items()}
        self._fingerprint = fingerprint
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)

    def raw_outputs(self, ids, view, x):
        rows = self._rows_of(np.asarray(ids))
        return {name: array[rows] for name, array in self._logits_by_name.items()}

    def check_pipeline(self, pipeline: Any) -> None:
        """Raises `TeacherError` if the pipeline's examples do not match the rows, or are augmented."""
        wanted, present = pipeline.num_examples, self.num_rows
        if (present != wanted) if self._ids is None else (present < wanted):
            raise TeacherError(
                explain(
                    "The stored logits do not match the pipeline's examples.",
                    received=f"{present} rows of logits for {wanted} examples",
                    expected="one row per example" if self._ids is None else "at least one row per example",
                    fix="Compute the logits of the same data, or pass the example id of each row as 'ids'.",
                )
            )
        if pipeline.augment and not self.augmented_is_fine:
            raise TeacherError(
                explain(
                    "The pipeline augments its examples, but the stored logits belong to the unaugmented examples.",
                    received=f"augment={pipeline.augment!r}",
                    expected="a pipeline without augmentation",
                    fix="Remove the augmentation, use a live teacher, or pass StoredLogits(..., "
                    "augmented_is_fine=True).",
                )
            )

    def _rows_of(self, ids: np.ndarray) -> np.ndarray:
        if self._ids is None:
            is_known, rows = (ids >= 0) & (ids < self.num_rows), ids
            known_ids = f"0 to {self.num_rows - 1}"
        else:
            rows = self._order[np.minimum(np.searchsorted(self._ids, ids, sorter=self._order), self.num_rows - 1)]
            is_known = self._ids[rows] == ids
            known_ids = f"{self.num_rows} ids from {self._ids.min()} to {self._ids.max()}"
        if not is_known.all():
            missing = ids[~is_known]
            raise TeacherError(
                explain(
                    "The stored logits do not contain this example.",
                    received=f"example {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                    expected=f"one of {known_ids}",
                )
            )
        return rows

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the arrays, the same for a file as for its arrays."""
        if self._fingerprint is None:
            ids = {} if self._ids is None else {_IDS: self._ids}
            self._fingerprint = fingerprint_of_arrays(self._logits_by_name | ids)
        return self._fingerprint

    def get_config(self) -> dict[str, Any]:
        return {
            "path": str(self.path.resolve()) if self.path is not None else None,
            "outputs": self.outputs,
            "activation": self.activation,
            "augmented_is_fine": self.augmented_is_fine,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The teacher if its file still exists, else an `AbsentTeacher` that raises when called."""
        return reopened(cls, config)


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise TeacherError(explain("The teacher's file does not exist.", received=str(path), expected="an .npz file"))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigurationError(
            explain(
                f"The .npz file of logits cannot be read: {error}.",
                received=str(path),
                expected="an intact file written by numpy.savez, without pickled objects",
            )
        ) from error


def _as_arrays(source: Any) -> dict[str, np.ndarray]:
    arrays = source if isinstance(source, Mapping) else {_ONLY: source}
    return {str(name): np.asarray(array) for name, array in arrays.items()}


def _checked(arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """The logits by output name, and the number of rows."""
    lengths = {array.shape[0] if array.ndim > 1 and array.dtype.kind in "fiu" else 0 for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        shapes = {name: f"{array.shape} of {array.dtype}" for name, array in arrays.items()}
        raise ConfigurationError(
            explain(
                "The arrays do not contain one row of logits per example.",
                received=str(shapes),
                expected="'logits' [n, classes], or an array [n, ...] per output; and optionally 'ids' [n]",
            )
        )
    for name, array in arrays.items():
        check_finite(f"The array {name!r}", array)
    return {ONLY_OUTPUT: arrays[_ONLY]} if set(arrays) == {_ONLY} else arrays, lengths.pop()


def _checked_ids(ids: np.ndarray, num_rows: int) -> np.ndarray:
    if ids.shape != (num_rows,) or ids.dtype.kind not in "iu" or len(np.unique(ids)) != num_rows:
        received = f"shape {ids.shape} of {ids.dtype}, {len(np.unique(ids))} distinct values"
        expected = f"{num_rows} distinct integers, one per row"
        raise ConfigurationError(explain("Invalid 'ids'.", received=received, expected=expected))
    return ids.astype(np.int64)
