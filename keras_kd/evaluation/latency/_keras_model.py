"""A script for a child process: times a Keras model on the CPU.

python _keras_model.py FILE OPEN_SIZE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_kd  # noqa: F401  after Keras, it registers the classes that a file may name
from keras_kd.errors import ConfigurationError, explain
from keras_kd.evaluation.runners import compile_inference
from keras_kd.litert.timing import describe, serve
from keras_kd.model_files import load_file


class KerasSubject:
    """A `.keras` file with random inputs."""

    def __init__(self, path: str, open_size: int):
        self._path, self._open_size = path, open_size

    def prepare(self) -> None:
        keras.ops.zeros(())  # loads the backend

    def load(self) -> None:
        self._model = load_file(self._path)

    def inputs(self) -> dict[str, str]:
        """The batch of one, and the function that is timed, which is traced in the first run."""
        if not getattr(self._model, "inputs", None):
            fix = "Wrap the model: `keras.Model(inputs, model(inputs))`."
            raise ConfigurationError(explain("The shapes of the inputs are unknown.", fix=fix))
        is_sequential = isinstance(self._model, keras.Sequential)  # whose `input` is undefined in a loaded model
        tensors = self._model.inputs[0] if is_sequential else self._model.input
        generator = np.random.default_rng(0)
        self._x = keras.tree.map_structure(lambda one: self._content(one, generator), tensors)
        call = compile_inference(self._model)
        self._call = lambda: keras.tree.map_structure(keras.ops.convert_to_numpy, call(self._x))
        pairs = zip(keras.tree.flatten(tensors), keras.tree.flatten(self._x), strict=True)
        return {one.name: describe(array) for one, array in pairs}

    def run(self) -> Any:
        return self._call()

    def bind(self) -> Callable[[], Any]:
        return self._call

    def _content(self, tensor: keras.KerasTensor, generator: np.random.Generator) -> np.ndarray:
        """Real numbers from 0 to 1, integers 0 or 1."""
        shape = [
            (1 if axis == 0 else self._open_size) if size is None else size for axis, size in enumerate(tensor.shape)
        ]
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "bool" or "int" in dtype:
            return generator.integers(0, 2, shape).astype(dtype)
        if "float" not in dtype:
            problem = f"The input {tensor.name!r} cannot be filled at random."
            raise ConfigurationError(explain(problem, received=dtype, expected="numbers"))
        return generator.random(shape).astype("float32" if dtype == "bfloat16" else dtype)


if __name__ == "__main__":
    serve(KerasSubject(sys.argv[1], int(sys.argv[2])))
