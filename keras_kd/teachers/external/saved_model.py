"""A TensorFlow SavedModel as the teacher, run inside the training step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features import ModelOutputs
from keras_kd.features.logits import logits_from_probabilities
from keras_kd.features.outputs import name_outputs
from keras_kd.keras_private import in_safe_mode
from keras_kd.serialization import register
from keras_kd.teachers.absent import check_fingerprint, reopened
from keras_kd.teachers.base import Batch, Teacher
from keras_kd.teachers.external.foreign import plain_names
from keras_kd.teachers.external.probabilities import check_outputs, is_distribution, looks_like_probabilities
from keras_kd.teachers.fingerprints import fingerprint_of_path


@register
class SavedModelTeacher(Teacher):
    """A folder written by `model.export(...)` or `tf.saved_model.save(...)` as the teacher.

    Runs through `keras.layers.TFSMLayer` inside the training step, like a `FrozenTeacher`, on the TensorFlow backend;
    takes one input, or a structure if the endpoint does. A SavedModel is a program that can do anything, including
    reading and writing files. Keras therefore loads a saved model that refers to one only with `safe_mode=False`; the
    same holds for a saved distiller with such a teacher.

    Args:
        path: the folder. A saved distiller names the teacher by it.
        endpoint: `"serving_default"` or another saved endpoint, such as `"serve"` of a Keras export. Outputs that Keras
            only numbered are named as in the model itself: `"output"`, or `"0"`, `"1"`.
        outputs: `"logits"` or `"probabilities"`. None assumes logits, and rejects the model if every row is a
            distribution for random inputs. Probabilities are clipped to at least 1.2e-38.
        activation: the activation that produced the probabilities, `"softmax"` or `"sigmoid"`; None assumes a sigmoid
            for a single column.
        expected_fingerprint: if given, a folder with other contents is rejected.

    Raises:
        TeacherError: no SavedModel, another fingerprint, or undeclared probabilities.
        ConfigurationError: no such endpoint, another backend, or invalid settings.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        endpoint: str = "serving_default",
        outputs: str | None = None,
        activation: str | None = None,
        expected_fingerprint: str | None = None,
    ):
        check_outputs(outputs, activation)
        self.path = Path(path)
        self.endpoint = endpoint
        self.outputs = outputs
        self.activation = activation
        self._fingerprint = _fingerprint(self.path)
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)
        self._layer = _open(self.path, endpoint)
        self._input, self._shapes = _read(self._layer)
        if outputs is None:
            self._check_for_probabilities()

    def __call__(self, batch: Batch, taps: Sequence[str] = ()) -> ModelOutputs:
        named = _named(self._layer(batch.x))
        return ModelOutputs({name: ops.stop_gradient(self._logits(value)) for name, value in named.items()})

    def _logits(self, value: Any) -> Any:
        if self.outputs != "probabilities":
            return ops.cast(value, "float32")
        return logits_from_probabilities(value, self._activation_of(value.shape[-1]))

    def _activation_of(self, num_classes: int | None) -> str:
        if self.outputs != "probabilities":
            return "linear"
        return self.activation or ("sigmoid" if num_classes == 1 else "softmax")

    def _check_for_probabilities(self) -> None:
        """Raises `TeacherError` if the supposed logits of random inputs look like probabilities."""
        if self._input is None or None in self._input[1:]:
            return
        x = np.random.default_rng(0).normal(size=(self._input[0] or 2, *self._input[1:]))
        for name, value in _named(self._layer(x.astype(np.float32))).items():
            if is_distribution(ops.convert_to_numpy(value)):
                raise looks_like_probabilities(type(self).__name__, name)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 over the folder's files, by sorted relative path and content."""
        return self._fingerprint

    @property
    def output_shapes(self):
        return self._shapes

    @property
    def activations(self) -> dict[str, str]:
        return {name: self._activation_of(shape[-1]) for name, shape in (self._shapes or {}).items()}

    def get_config(self) -> dict[str, Any]:
        return {
            "path": str(self.path.resolve()),
            "endpoint": self.endpoint,
            "outputs": self.outputs,
            "activation": self.activation,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The teacher if its folder still exists, else an `AbsentTeacher` that raises when called.

        Raises:
            TeacherError: Keras is in safe mode.
        """
        if Path(config["path"]).exists() and in_safe_mode() is not False:
            raise _unsafe(config["path"])
        return reopened(cls, config)


def _fingerprint(path: Path) -> str:
    if not (path / "saved_model.pb").is_file():
        expected = "a folder with a saved_model.pb"
        raise TeacherError(explain("The teacher's SavedModel does not exist.", received=str(path), expected=expected))
    return fingerprint_of_path(path)


def _open(path: Path, endpoint: str) -> keras.layers.TFSMLayer:
    """The layer, in float32 regardless of the dtype policy: the graph was saved with its own dtypes."""
    try:
        return keras.layers.TFSMLayer(str(path), call_endpoint=endpoint, trainable=False, dtype="float32")
    except Exception as error:  # includes TensorFlow's own classes, which must not be imported here
        raise ConfigurationError(
            explain(
                f"Keras cannot open the SavedModel: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
                received=f"{path}, endpoint {endpoint!r}, backend {keras.backend.backend()!r}",
                expected="a complete folder written by model.export(...) or tf.saved_model.save(...)",
            )
        ) from error


def _read(layer: keras.layers.TFSMLayer) -> tuple[tuple[int | None, ...] | None, dict[str, tuple] | None]:
    """The shapes of the input (if it is a single tensor) and of each output; None if unknown before a batch."""
    endpoint = layer.call_endpoint_fn
    traces = getattr(endpoint, "concrete_functions", [endpoint])  # a function rather than a signature
    if len(traces) != 1:
        return None, None
    inputs = keras.tree.flatten(traces[0].structured_input_signature)
    shapes = {name: _shape(spec) for name, spec in _named(traces[0].structured_outputs).items()}
    is_float = len(inputs) == 1 and inputs[0].dtype.is_floating
    return _shape(inputs[0]) if is_float else None, None if None in shapes.values() else shapes


def _shape(spec: Any) -> tuple[int | None, ...] | None:
    return None if spec.shape.rank is None else tuple(spec.shape.as_list())


def _named(outputs: Any) -> dict[str, Any]:
    named = name_outputs(outputs)
    names = plain_names(named)
    return {names[name]: value for name, value in named.items()}


def _unsafe(path: str) -> TeacherError:
    return TeacherError(
        explain(
            "The teacher of this distiller is a SavedModel, which can run arbitrary code.",
            received=f"{path}, while Keras is in safe mode",
            expected="a SavedModel from a trusted source",
            fix="Load the distiller with keras.models.load_model(file, safe_mode=False), or create a new one.",
        )
    )
