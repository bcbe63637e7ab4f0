"""A `.tflite` file as the teacher, answering on the LiteRT interpreter."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.features.outputs import ONLY_OUTPUT
from keras_kd.serialization import register
from keras_kd.teachers.absent import check_fingerprint, reopened
from keras_kd.teachers.base import Teacher
from keras_kd.teachers.external.foreign import ForeignTeacher, plain_names
from keras_kd.teachers.external.probabilities import SMALLEST
from keras_kd.teachers.fingerprints import fingerprint_of_path

_ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid", "STABLEHLO_LOGISTIC": "sigmoid"}
_PASSES_VALUES = ("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "EXPAND_DIMS")


@register
class TFLiteTeacher(ForeignTeacher):
    """A TFLite (LiteRT) file that teaches: it is run by the data pipeline, on the CPU, outside the training step.

    A quantised input is quantised, a quantised output dequantised, by the tensors' own scale and zero point. A model
    with an open batch takes each batch at once; one with a fixed batch goes through it in pieces of that size, the
    last one filled up. What ends in a softmax or a sigmoid is read off the graph; its probabilities become logits, and
    those below half a quantisation step (in a float model: below 1.2e-38) are taken for that. Several outputs have the
    names of the file's signature.

    Args:
        path: the file. A saved distiller names the teacher by it.
        outputs: `"logits"` or `"probabilities"`; None finds out from the graph's last operators.
        activation: `"softmax"` or `"sigmoid"` made the probabilities, where the graph does not tell.
        num_threads: CPU threads of the interpreter; None takes as many as there are cores.
        expected_fingerprint: where given, another file is refused.

    Raises:
        TeacherError: the file is missing, or has another fingerprint.
        ConfigurationError: LiteRT cannot load it, it has several inputs, or settings are not usable.
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
                explain("The teacher's file is not there.", received=str(self.path), expected="a .tflite file")
            )
        self._fingerprint = fingerprint_of_path(self.path)
        if expected_fingerprint is not None:
            check_fingerprint(self, expected_fingerprint)
        self._lock = threading.Lock()  # an interpreter serves one thread at a time
        self._interpreter = _load(self.path, num_threads)
        self._input = _only_input(self._interpreter, self.path)
        self._outputs = _named_outputs(self._interpreter)
        makers = _makers(self._interpreter)
        self._graph_says = {name: _activation(details["index"], makers) for name, details in self._outputs.items()}
        tensors = [self._input, *self._outputs.values()]
        self._takes_any_batch = all(_signature(details)[:1] == (None,) for details in tensors)
        self._shapes = {name: (None, *_signature(details)[1:]) for name, details in self._outputs.items()}

    def activation_of(self, name, num_classes):
        known = self._graph_says[name]
        return known if known and self.outputs != "logits" else super().activation_of(name, num_classes)

    def smallest_of(self, name):
        """Half a step of a quantised output: a 0 says no more than that the probability is below."""
        scale, _ = self._outputs[name]["quantization"]
        return scale / 2 or SMALLEST

    def ask(self, ids, view, x):
        x = _fitting(x, _signature(self._input), self.path.name)
        with self._lock:
            if self._takes_any_batch:
                try:
                    return self._run(x)
                except RuntimeError:  # a batch of its own is written into the graph somewhere
                    self._takes_any_batch = False
                    self._interpreter = _load(self.path, self.num_threads)
            return self._run_in_pieces(x, int(_only_input(self._interpreter, self.path)["shape"][0]))

    def _run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        interpreter, index = self._interpreter, self._input["index"]
        if tuple(interpreter.get_input_details()[0]["shape"]) != x.shape:
            interpreter.resize_tensor_input(index, x.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(index, _to_tensor(x, self._input))
        interpreter.invoke()
        outputs = self._outputs.items()
        return {name: _from_tensor(interpreter.get_tensor(details["index"]), details) for name, details in outputs}

    def _run_in_pieces(self, x: np.ndarray, size: int) -> dict[str, np.ndarray]:
        missing = -len(x) % size
        filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)])
        pieces = [self._run(filled[start : start + size]) for start in range(0, len(filled), size)]
        return {name: np.concatenate([piece[name] for piece in pieces])[: len(x)] for name in self._outputs}

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
        """The named teacher where its file is still there, else an `AbsentTeacher` that says so when it is needed."""
        return reopened(cls, config)


def _load(path: Path, num_threads: int | None) -> Any:
    """An interpreter with its tensors allocated."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=num_threads or os.cpu_count())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(f"LiteRT cannot load {path}: {error}") from error
    return interpreter


def _only_input(interpreter: Any, path: Path) -> dict[str, Any]:
    inputs = interpreter.get_input_details()
    if len(inputs) != 1:
        raise ConfigurationError(
            explain(
                f"A TFLite teacher has one input; {path.name!r} has more.",
                received=[details["name"] for details in inputs],
                fix="Wrap its interpreter in a function: FunctionTeacher(function).",
            )
        )
    return inputs[0]


def _named_outputs(interpreter: Any) -> dict[str, dict[str, Any]]:
    """The details of the output tensors by the signature's names; by the tensors' names in a file without one."""
    outputs = {details["index"]: details for details in interpreter.get_output_details()}
    for signature in interpreter.get_signature_list():
        named = interpreter.get_signature_runner(signature).get_output_details()
        if {details["index"] for details in named.values()} == set(outputs):
            names = plain_names(named)
            return {names[name]: outputs[details["index"]] for name, details in sorted(named.items())}
    if len(outputs) == 1:
        return {ONLY_OUTPUT: next(iter(outputs.values()))}
    return {details["name"]: details for details in outputs.values()}


def _signature(details: dict[str, Any]) -> tuple[int | None, ...]:
    """The shape of a tensor with None where it is open."""
    return tuple(None if size < 0 else int(size) for size in details["shape_signature"])


def _makers(interpreter: Any) -> dict[int, tuple[str, list[int]]]:
    """What makes each tensor: an operator's name and its input tensors."""
    operators = [op for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    return {int(made): (op["op_name"], list(map(int, op["inputs"]))) for op in operators for made in op["outputs"]}


def _activation(index: int, makers: dict[int, tuple[str, list[int]]]) -> str | None:
    """The activation that a tensor comes out of, or None."""
    while index in makers:
        operator, inputs = makers[index]
        if operator not in _PASSES_VALUES:
            return _ACTIVATIONS.get(operator)
        index = inputs[0]
    return None


def _fitting(x: Any, shape: tuple[int | None, ...], name: str) -> np.ndarray:
    """`x` as an array of the shape that the model takes, in any batch."""
    x = np.asarray(x)
    fits = x.ndim == len(shape) and all(
        size is None or size == given for size, given in zip(shape[1:], x.shape[1:], strict=True)
    )
    if not fits or not len(x):
        raise TeacherError(
            explain(
                f"The teacher {name!r} does not take these inputs.",
                received=f"shape {x.shape}",
                expected=f"shape {('batch', *shape[1:])}",
                fix="Give the pipeline inputs of that shape; teacher_inputs of a Distiller comes after this teacher.",
            )
        )
    return x


# As `keras_kd.export.tensors`, which lies in a higher layer: `real = scale * (integer - zero_point)`.


def _to_tensor(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Real numbers in the dtype of a tensor; quantised ones are rounded half away from zero, as the kernel does it."""
    scale, zero_point = details["quantization"]
    if not scale:
        return np.ascontiguousarray(values, details["dtype"])
    quotient = (values.astype(np.float32) / np.float32(scale)).astype(np.float64)
    limits = np.iinfo(details["dtype"])
    rounded = np.trunc(quotient + np.copysign(0.5, quotient)) + zero_point
    return np.clip(rounded, limits.min, limits.max).astype(details["dtype"])


def _from_tensor(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """The content of a tensor as real numbers."""
    scale, zero_point = details["quantization"]
    return np.float32(scale) * (values.astype(np.float32) - zero_point) if scale else values
