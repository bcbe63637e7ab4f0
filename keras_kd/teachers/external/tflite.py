"""A `.tflite` file as the teacher, run by the LiteRT interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features.outputs import ONLY_OUTPUT
from keras_kd.litert import Model, producer
from keras_kd.serialization import register
from keras_kd.teachers.absent import check_fingerprint, reopened
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.external.foreign import ForeignTeacher, plain_names
from keras_kd.teachers.external.probabilities import SMALLEST
from keras_kd.teachers.fingerprints import fingerprint_of_path

_ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid", "STABLEHLO_LOGISTIC": "sigmoid"}


@register
class TFLiteTeacher(ForeignTeacher):
    """A TFLite (LiteRT) file as the teacher, run by the data pipeline on the CPU, outside the training step.

    Quantized inputs and outputs are converted by the tensors' own scale and zero point. A model with a dynamic batch
    size runs each batch at once; one with a fixed batch size runs it in pieces of that size, with the last one padded.
    A final softmax or sigmoid is detected in the graph and its probabilities are converted to logits, clipped to at
    least half a quantization step (1.2e-38 in a float model). Several outputs have the names of the file's signature.

    Args:
        path: the file. A saved distiller names the teacher by it.
        outputs: `"logits"` or `"probabilities"`; None detects it from the graph's last operators.
        activation: the activation that produced the probabilities, `"softmax"` or `"sigmoid"`, if the graph does not
            show it.
        num_threads: CPU threads of the interpreter; None uses all cores.
        expected_fingerprint: if given, another file is rejected.

    Raises:
        TeacherError: the file is missing, or has another fingerprint.
        ConfigurationError: LiteRT cannot load the file, it has several inputs, or the settings are invalid.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        outputs: str | None = None,
        activation: str | None = None,
        num_threads: int | None = None,
        expected_fingerprint: str | None = None,
    ):
        super().__init__(outputs, activation)
        self.path = Path(path)
        self.num_threads = num_threads
        if not self.path.is_file():
            raise TeacherError(
                explain("The teacher's file does not exist.", received=str(self.path), expected="a .tflite file")
            )
        self._fingerprint = fingerprint_of_path(self.path)
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)
        self._model = Model(self.path, num_threads=num_threads)
        self._check_single_input()
        self._names = _output_names(self._model)
        tensors = {name: self._model.outputs[key] for key, name in self._names.items()}
        content = self._model.content
        self._activations = {name: _ACTIVATIONS.get(producer(content, one.index)) for name, one in tensors.items()}
        self._steps = {name: one.scale for name, one in tensors.items()}
        self._shapes = {name: (None, *one.shape[1:]) for name, one in tensors.items()}

    def activation_of(self, name, num_classes):
        known = self._activations[name]
        return known if known and self.outputs != "logits" else super().activation_of(name, num_classes)

    def smallest_of(self, name):
        """Half a quantization step of the output: a 0 only means that the probability is smaller."""
        return self._steps[name] / 2 or SMALLEST

    def raw_outputs(self, ids, view, x):
        try:
            outputs = self._model.predict(x)
        except ConfigurationError as error:
            fix = (
                "Change the pipeline's inputs, or name one of them, pipeline.with_teacher(teacher, inputs=...): a "
                "Distiller's teacher_inputs does not apply to this teacher."
            )
            raise TeacherError(f"{error} {fix}") from error
        return {name: outputs[key] for key, name in self._names.items()}

    def _check_single_input(self) -> None:
        if len(self._model.inputs) != 1:
            raise ConfigurationError(
                explain(
                    f"A TFLite teacher must have one input; {self.path.name!r} has more.",
                    received=sorted(self._model.inputs),
                    fix="Wrap its interpreter in a function: FunctionTeacher(function).",
                )
            )

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of the file."""
        return self._fingerprint

    def get_config(self) -> dict[str, Any]:
        return {
            "path": str(self.path.resolve()),
            "outputs": self.outputs,
            "activation": self.activation,
            "num_threads": self.num_threads,
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Teacher:
        """The teacher if its file still exists, else an `AbsentTeacher` that raises when called."""
        return reopened(cls, config)


def _output_names(model: Model) -> dict[str, str]:
    """Maps output names in the file to those of the Keras model."""
    if not model.has_signature and len(model.outputs) == 1:
        return {next(iter(model.outputs)): ONLY_OUTPUT}
    return plain_names(model.outputs)
