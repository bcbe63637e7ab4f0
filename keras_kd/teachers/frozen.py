"""A live Keras model as a frozen teacher."""

from __future__ import annotations

import functools
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_kd import files
from keras_kd.errors import ConfigurationError, TeacherError, check_choice, check_integer, explain
from keras_kd.features import Head, ModelOutputs, Place, find_heads, find_place, forward, inner_taps, output_shapes
from keras_kd.keras_private import all_layers
from keras_kd.serialization import register
from keras_kd.surgery.folding import Folding
from keras_kd.surgery.precision import PRECISIONS, make_copies
from keras_kd.teachers.absent import check_fingerprint, reopened
from keras_kd.teachers.base import Batch, Teacher
from keras_kd.teachers.external.opening import from_path
from keras_kd.teachers.micro_batches import in_micro_batches

_OTHER_FILES = (
    "For an .h5 file, pass keras.models.load_model(file). For a .tflite or .npz file or a SavedModel folder, use "
    "kd.teachers.from_path."
)
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def fingerprint(model: keras.Model) -> str:
    """A SHA-256 over the shapes, dtypes and values of all weights in order, as `sha256:` and 64 hex digits.

    Names are excluded because Keras renumbers them in each process. Layers without weights do not affect the hash.
    """
    return files.fingerprint(files.digest_of_arrays(ops.convert_to_numpy(weight) for weight in model.weights))


@register
class FrozenTeacher(Teacher):
    """A Keras model as the teacher: run in inference mode, without gradients, never modified.

    By default the model itself runs. With `dtype`, a faster copy runs instead: it computes in that precision, with
    batch normalization folded into the preceding layers. Its outputs are float32, its layers have the same paths, and
    an inner layer that a loss reads is not folded if that would change it.

    The logits of a folded float32 copy agree with those of a float32 model to 1e-5 of their standard deviation. Those
    of a bfloat16 copy agree to 0.1 of it (root mean square 0.02), and at least 97% of the top classes are the same (99%
    for teachers with 90% accuracy). A bfloat16 copy is faster on processors that multiply bfloat16 natively and slower
    than float32 on others. On a CPU, neither copy is faster under XLA, which Keras enables by default: pass
    `jit_compile=False` to `compile` there.

    Args:
        model: the teacher, or the path of its `.keras` file. A saved distiller names the teacher by that path.
        outputs: `"logits"` or `"probabilities"`, if the model's final layer does not determine it.
        dtype: None, `"float32"` or `"bfloat16"`.
        fold: whether to fold batch normalization in that copy.
        batch_size: run at most this many examples at a time, to limit the memory of the teacher's activations; None
            runs the whole batch at once.
        expected_fingerprint: if given, a model with another fingerprint is rejected.

    Raises:
        TeacherError: the file is missing or damaged, or the fingerprint differs.
        ConfigurationError: not a model, a model whose outputs cannot be determined, or a setting out of range.

    Attributes:
        folded: what was folded, such as `31 of 33 batch normalizations`, and in `kept` why the others were not; None
            if the model itself runs.
    """

    def __init__(
        self,
        model: keras.Model | str | Path,
        *,
        outputs: str | None = None,
        dtype: str | None = None,
        fold: bool = True,
        batch_size: int | None = None,
        expected_fingerprint: str | None = None,
    ):
        self.path = Path(model) if isinstance(model, (str, Path)) else None
        self.outputs = outputs
        self.dtype = check_choice("dtype", dtype, (None, *PRECISIONS))
        self.fold = fold
        self.batch_size = None if batch_size is None else check_integer("batch_size", batch_size, at_least=1)
        self.model = _load(self.path) if self.path is not None else _checked(model)
        self._fingerprint: str | None = None
        self._heads = find_heads(self.model, outputs, role="teacher")
        self._copies = None if dtype is None else make_copies(self.model, dtype, fold=fold)
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        run = functools.partial(self._run, taps)
        return run(batch.x) if self.batch_size is None else in_micro_batches(run, batch.x, self.batch_size)

    is_differentiable = True

    def differentiable(self, x: Any, taps: Sequence[str] = ()) -> ModelOutputs:
        model, heads, places = self._running(self._places(taps))
        _, logits, inner = forward(model, heads, x, places=places)
        outputs = ModelOutputs(logits, inner)
        return outputs if self.dtype is None else keras.tree.map_structure(_float32, outputs)

    def _run(self, taps: Sequence[str], x: Any) -> ModelOutputs:
        return keras.tree.map_structure(ops.stop_gradient, self.differentiable(x, taps))

    def _running(self, places: list[Place]) -> tuple[keras.Model, dict[str, Head], list[Place]]:
        """The copy in which every one of `places` has the same value as in the model; the model if no copy does."""
        copy = self._copies and self._copies.find(places)
        if copy is None:
            return self.model, self._heads, places
        return copy.model, copy.heads(self._heads), copy.places(places)

    def _places(self, paths: Iterable[str]) -> list[Place]:
        return [find_place(self.model, path, role="teacher") for path in paths]

    def inner_taps(self, names: Iterable[str]) -> dict[str, tuple[int | None, ...] | None]:
        taps = inner_taps(self.model, names, role="teacher")
        if self._copies is not None:
            self._copies.prepare(self._places(taps))
        return taps

    @property
    def folded(self) -> Folding | None:
        return self._copies and self._copies.folding

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the model's weights, followed by the precision if a copy runs: `sha256:... bfloat16`."""
        if self._fingerprint is None:
            precision = "" if self._copies is None else f" {self.dtype}"
            self._fingerprint = fingerprint(self.model) + precision
        return self._fingerprint

    @property
    def output_shapes(self):
        return output_shapes(self.model)

    @property
    def activations(self) -> dict[str, str]:
        return {name: head.activation for name, head in self._heads.items()}

    @property
    def variables(self) -> list[Any]:
        return self.model.variables if self._copies is None else [*self.model.variables, *self._copies.variables]

    @property
    def supports_jit(self) -> bool:
        return all(layer.supports_jit for layer in all_layers(self.model))

    def get_config(self) -> dict[str, Any]:
        return {
            "path": str(self.path.resolve()) if self.path is not None else None,
            "outputs": self.outputs,
            "dtype": self.dtype,
            "fold": self.fold,
            "batch_size": self.batch_size,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The teacher if its file still exists, else an `AbsentTeacher` that raises when called."""
        return reopened(cls, config)


def as_teacher(teacher: Any) -> Teacher:
    """A `Teacher` from a teacher, a Keras model, or a path: a `.keras` file, or what `from_path` opens."""
    if isinstance(teacher, Teacher):
        return teacher
    if isinstance(teacher, (str, Path)) and (Path(teacher).suffix in (".tflite", ".npz") or Path(teacher).is_dir()):
        return from_path(teacher)
    return FrozenTeacher(teacher)


def _checked(model: Any) -> keras.Model:
    if isinstance(model, keras.Model):
        return model
    raise ConfigurationError(
        explain(
            "`teacher` must be a model or a teacher.",
            received=f"{type(model).__module__}.{type(model).__name__}",
            expected="a keras.Model, the path of a .keras file, or a keras_kd teacher",
        )
    )


def _float32(value: Any) -> Any:
    is_floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype))
    return ops.cast(value, "float32") if is_floating else value


def _load(path: Path) -> keras.Model:
    if not path.exists():
        raise TeacherError(explain("The teacher's file does not exist.", received=str(path), expected="a .keras file"))
    if path.suffix != ".keras" or not path.is_file() or not zipfile.is_zipfile(path):
        raise TeacherError(
            explain(
                "The teacher is not a .keras file.",
                received=str(path)
                + ("" if path.suffix != ".keras" else ", which is damaged or has the wrong file extension"),
                expected="a file written by model.save('teacher.keras')",
                fix=_OTHER_FILES,
            )
        )
    try:
        return _checked(keras.models.load_model(path, compile=False))
    except _UNREADABLE as error:
        raise TeacherError(
            explain(
                f"Keras cannot load the teacher: {error}",
                received=str(path),
                expected="an intact .keras file whose custom classes are registered",
            )
        ) from error
