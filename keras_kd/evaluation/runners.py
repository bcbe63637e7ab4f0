"""One interface to run Keras models and TFLite files."""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.errors import ConfigurationError, explain
from keras_kd.litert import Model, check_examples


class Runner(ABC):
    """A model with one input and one output, for prediction and timing.

    Attributes:
        name: its name in reports.
        num_threads: the number of CPU threads; None if its framework chooses.
    """

    def __init__(self, name: str, num_threads: int | None):
        self.name = name
        self.num_threads = num_threads

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """The outputs for all examples.

        Args:
            x: inputs [n, ...] in the scale that the Keras model takes.

        Returns:
            Real numbers, float32 [n, ...].

        Raises:
            ConfigurationError: no examples, or a shape that the model does not accept.
        """

    @abstractmethod
    def run(self, x: Any) -> np.ndarray:
        """Runs one pass over one prepared batch, and nothing else; this is the timed part.

        Args:
            x: the result of `prepare`.

        Returns:
            The model's output in its own dtype.
        """

    def prepare(self, x: np.ndarray) -> Any:
        """Converts one batch [1, ...] to the form that `run` takes; called once, outside of the timing."""
        return x


class KerasRunner(Runner):
    """Runs a Keras model in inference mode, traced once per input shape on TensorFlow.

    `run` takes a NumPy batch and returns a NumPy array, so on a GPU the time includes both copies.

    Args:
        model: a built model with one input and one output.
        name: default: the model's name.
        batch_size: examples per step of `predict`.

    Raises:
        ConfigurationError: the model has several inputs or outputs.

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> KerasRunner(model).predict(np.ones((5, 4), "float32")).shape
    (5, 3)
    """

    def __init__(self, model: keras.Model, *, name: str | None = None, batch_size: int = 32):
        super().__init__(name or model.name, num_threads=None)
        for kind in ("inputs", "outputs"):  # a subclassed model has neither; `run` checks its output
            _check_single(self.name, kind, len(getattr(model, kind, None) or [model]))
        self.model = model
        self._batch_size = batch_size
        self._call = compile_inference(model)

    def predict(self, x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        check_examples(self.name, x, getattr(self.model, "input_shape", None))
        starts = range(0, len(x), self._batch_size)
        outputs = [self.run(x[start : start + self._batch_size]) for start in starts]
        return np.concatenate(outputs).astype(np.float32, copy=False)

    def run(self, x: np.ndarray) -> np.ndarray:
        output = self._call(x)
        if isinstance(output, (list, tuple, dict)):
            _check_single(self.name, "outputs", len(output))
            (output,) = output.values() if isinstance(output, dict) else output
        return keras.ops.convert_to_numpy(output)


class TFLiteRunner(Runner):
    """Runs a TFLite file on the CPU with LiteRT, its default kernels (XNNPACK) included.

    The file keeps its static batch size: `predict` runs the examples batch by batch and pads the last batch. Inputs are
    quantized and outputs dequantized if the file requires it, with the tensors' own scale and zero point. `run` does
    what an app does per frame: copy the input tensor in, invoke, copy the output tensor out. Quantization is part of
    `prepare` and is not timed: apps do it while they decode the image.

    Args:
        path: the file.
        name: default: the file's name without its extension.
        num_threads: CPU threads of the interpreter.
        signature: which signature of the file to run. Default: that of the main graph.

    Raises:
        ConfigurationError: the file is missing, LiteRT cannot load it, it lacks the signature, or has several inputs or
            outputs.
    """

    def __init__(
        self, path: str | Path, *, name: str | None = None, num_threads: int = 1, signature: str | None = None
    ):
        self.path = Path(path)
        super().__init__(name or self.path.stem, num_threads)
        self._model = Model(self.path, num_threads=num_threads, name=self.name, signature=signature)
        _check_single(self.name, "inputs", len(self._model.inputs))
        _check_single(self.name, "outputs", len(self._model.outputs))
        (self._output,) = self._model.outputs

    @property
    def num_bytes(self) -> int:
        """The size of the file."""
        return file_sizes(self.path)[0]

    @property
    def gzip_bytes(self) -> int:
        """The size of the file after gzip, roughly the download size."""
        return file_sizes(self.path)[1]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._model.predict(np.asarray(x))[self._output].astype(np.float32, copy=False)

    def prepare(self, x: np.ndarray) -> Callable[[], list[np.ndarray]]:
        """Binds one batch [1, ...], quantized if the input tensor is quantized, so that only LiteRT's work is timed."""
        contents, _ = self._model.encode(x)
        return self._model.bind(contents)

    def run(self, x: Callable[[], list[np.ndarray]]) -> np.ndarray:
        return x()[0]


def file_sizes(path: str | Path) -> tuple[int, int]:
    """The size of a file, and its size after gzip, both in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    content = Path(path).read_bytes()
    return len(content), len(gzip.compress(content))


def compile_inference(model: keras.Model) -> Callable[[Any], Any]:
    """The model's inference pass as a function of one batch."""
    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch  # compiled by Keras for the backend
    import tensorflow as tf

    return tf.function(lambda x: model(x, training=False))


def _check_single(name: str, kind: str, number: int) -> None:
    if number != 1:
        problem = f"A runner serves models with one input and one output; {name!r} has more {kind}."
        fix = "Wrap the model: `keras.Model(one_input, one_output)`."
        raise ConfigurationError(explain(problem, received=number, expected=1, fix=fix))
