"""A LiteRT file that is ready to run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.litert.tensors import Tensor

_ROWS_AT_ONCE = 256


class Model:
    """A LiteRT (`.tflite`) file on the CPU, with inputs and outputs by their names in the file's signature.

    One call runs at a time; other threads wait.

    Args:
        file: the path of a file, or its content.
        num_threads: CPU threads; None uses one per core.
        name: the name in error messages. Default: the file's name.
        signature: which signature of the file to run. Default: that of the main graph.

    Attributes:
        inputs: the input tensors by name.
        outputs: the output tensors by name.
        has_signature: whether the file has a signature. Without one, the names are those of the tensors.
        batch_size: the number of examples that the file takes at once; None if it takes any number.

    Raises:
        ConfigurationError: the file is missing or damaged, has operators that LiteRT does not have, or lacks the
            signature.

        model = litert.Model("student.tflite", num_threads=1)
        probabilities = model.predict(images)["probabilities"]
    """

    def __init__(
        self,
        file: str | Path | bytes,
        *,
        num_threads: int | None = None,
        name: str | None = None,
        signature: str | None = None,
    ):
        self._file = file if isinstance(file, bytes) else Path(file)
        self.name = name or ("a LiteRT file in memory" if isinstance(file, bytes) else self._file.name)
        if num_threads is not None:
            check_integer("num_threads", num_threads, at_least=1)
        self.num_threads = num_threads or os.cpu_count()
        self._lock = threading.Lock()
        self._signature = signature
        self._load()
        try:
            self.inputs, self.outputs, self.has_signature = _named_tensors(self._interpreter, self._signature)
            is_open = all(tensor.shape[:1] == (None,) for tensor in self._tensors())
            self.batch_size = None if is_open else self._allocated_batch()
        except (LookupError, ValueError) as error:  # a name that is not text, or an index that no tensor has
            raise ConfigurationError(self._cannot_load(error)) from error

    @property
    def content(self) -> bytes:
        """The content of the file."""
        return self._file if isinstance(self._file, bytes) else self._file.read_bytes()

    def predict(self, x: Any) -> dict[str, np.ndarray]:
        """The outputs for any number of examples.

        Examples are run in batches of the size that the file takes. The last batch is padded with copies of the last
        example, whose outputs are dropped.

        Args:
            x: the input [n, ...] of a model with one input, or a mapping from input names to arrays [n, ...], in the
                scale and dtype of the Keras model: real numbers are quantized here if the file's input is quantized;
                integers stay integers.

        Returns:
            Arrays [n, ...] by output name, dequantized if the file's output is quantized.

        Raises:
            ConfigurationError: inputs, shapes or dtypes do not match the model; there are no examples; or an operator
                fails.
        """
        contents, num_examples = self.encode(x)
        with self._lock:
            outputs = self._run_all(contents, num_examples)
        return {name: self.outputs[name].decode(content) for name, content in outputs.items()}

    def encode(self, x: Any) -> tuple[dict[str, np.ndarray], int]:
        """The content of the input tensors for some examples, and the number of examples; see `predict`."""
        arrays = self._check_inputs(x)
        num_examples = len(next(iter(arrays.values())))
        return {name: self.inputs[name].encode(array) for name, array in arrays.items()}, num_examples

    def run(self, contents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one pass over one batch, and nothing else.

        Args:
            contents: from `encode`, with as many rows as the file takes at once.

        Returns:
            The content of each output tensor, in its own dtype.

        Raises:
            ConfigurationError: an operator fails.
        """
        with self._lock:
            return self._run(contents)

    # Running. The caller holds the lock.

    def bind(self, contents: Mapping[str, np.ndarray]) -> Callable[[], list[np.ndarray]]:
        """A function that runs one pass over these contents, without the checks of `run`; for timing.

        Each call copies the contents in, invokes the interpreter and copies its outputs out. The function is for one
        thread, and valid until the model runs with another number of rows, after which LiteRT raises `ValueError`.
        LiteRT prepares another graph than the main one in each call, which takes some microseconds.

        Args:
            contents: from `encode`, with as many rows as the file takes at once.
        """
        self.run(contents)  # checks them
        if self._runner is not None:
            return lambda: list(self._runner(**contents).values())
        set_tensor, invoke, get_tensor = (
            self._interpreter.set_tensor,
            self._interpreter.invoke,
            self._interpreter.get_tensor,
        )
        inputs = [(self.inputs[name].index, content) for name, content in contents.items()]
        outputs = [tensor.index for tensor in self.outputs.values()]

        def run() -> list[np.ndarray]:
            for index, content in inputs:
                set_tensor(index, content)
            invoke()
            return [get_tensor(index) for index in outputs]

        return run

    def _run_all(self, contents: dict[str, np.ndarray], num_examples: int) -> dict[str, np.ndarray]:
        if self.batch_size is None:
            try:
                return self._run_in_pieces(contents, num_examples, min(num_examples, _ROWS_AT_ONCE))
            except ConfigurationError:  # the inputs have an open batch dimension, but an inner operator does not
                self._load()
                self.batch_size = self._allocated_batch()
        return self._run_in_pieces(contents, num_examples, self.batch_size)

    def _run_in_pieces(self, contents: dict[str, np.ndarray], num_examples: int, size: int) -> dict[str, np.ndarray]:
        pieces = []
        for start in range(0, num_examples, size):
            rows = np.minimum(np.arange(start, start + size), num_examples - 1)
            pieces.append(self._run({name: content[rows] for name, content in contents.items()}))
        return {name: np.concatenate([piece[name] for piece in pieces])[:num_examples] for name in self.outputs}

    def _run(self, contents: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            if self._runner is not None:
                return dict(self._runner(**contents))
            self._resize({name: content.shape for name, content in contents.items()})
            for name, content in contents.items():
                self._interpreter.set_tensor(self.inputs[name].index, content)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(tensor.index) for name, tensor in self.outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(f"LiteRT cannot run {self.name}: {error}") from error

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        shapes = {self.inputs[name].index: shape for name, shape in shapes.items()}
        if shapes == self._shapes:
            return
        for index, shape in shapes.items():
            self._interpreter.resize_tensor_input(index, shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def _load(self) -> None:
        """Opens the interpreter with the shapes stored in the file."""
        from ai_edge_litert.interpreter import Interpreter

        if isinstance(self._file, bytes):
            source = {"model_content": self._file}
        elif self._file.is_file():
            source = {"model_path": str(self._file)}
        else:
            fix = "Write it with `export_tflite`."
            raise ConfigurationError(explain("There is no TFLite file at this path.", received=self._file, fix=fix))
        try:
            self._interpreter = Interpreter(num_threads=self.num_threads, **source, **self._settings())
            self._interpreter.allocate_tensors()
            details = self._interpreter.get_input_details()
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(self._cannot_load(error)) from error
        self._runner = None if self._signature is None else self._runner_of(self._signature)
        self._shapes = {int(one["index"]): tuple(map(int, one["shape"])) for one in details}

    def _cannot_load(self, error: Exception) -> str:
        where = self.name if isinstance(self._file, bytes) else self._file
        return f"LiteRT cannot load {where}: {error}"

    def _runner_of(self, signature: str) -> Any:
        """What runs another graph than the main one, which the interpreter runs itself; None for that."""
        known = list(self._interpreter.get_signature_list())
        if signature not in known:
            raise ConfigurationError(
                explain(
                    f"{self.name!r} has no such signature.",
                    received=repr(signature),
                    expected=f"one of {known}" if known else "None: the file has no signature",
                )
            )
        runner = self._interpreter.get_signature_runner(signature)
        return None if _is_main(runner) else runner

    def _settings(self) -> Mapping[str, Any]:
        """Further settings of the interpreter."""
        return {}

    def _tensors(self) -> Iterable[Tensor]:
        return (*self.inputs.values(), *self.outputs.values())

    def _allocated_batch(self) -> int:
        """The first dimension of the first input in the file; 1 if it is open, a scalar, or not there."""
        details = self._interpreter.get_input_details() if self._runner is None else _details(self._runner)[0].values()
        first = next(iter(details), None)
        return 1 if first is None else int(next(iter(first["shape"]), 1))

    # Inputs.

    def _check_inputs(self, x: Any) -> dict[str, np.ndarray]:
        named = x if isinstance(x, Mapping) else {next(iter(self.inputs)): x} if len(self.inputs) == 1 else None
        if named is None or set(named) != set(self.inputs):
            problem = f"{self.name!r} does not take these inputs."
            received = sorted(named) if named is not None else f"a {type(x).__name__}"
            expected = f"arrays named {sorted(self.inputs)}"
            raise ConfigurationError(explain(problem, received=received, expected=expected))
        arrays = {name: np.asarray(named[name]) for name in self.inputs}
        for name, array in arrays.items():
            check_examples(self.name, array, self.inputs[name].shape)
        if len({len(array) for array in arrays.values()}) > 1:
            received = {name: len(array) for name, array in arrays.items()}
            raise ConfigurationError(
                explain("The inputs differ in their number of examples.", received=received, expected="equal numbers")
            )
        return arrays


def check_examples(name: str, x: np.ndarray, shape: tuple[int | None, ...] | None) -> None:
    """Raises `ConfigurationError` unless `x` [n, ...] has at least one example, all of the shape that a model takes.

    Args:
        name: the model's name.
        x: the examples.
        shape: the shape of the model's input, batch first, with None for open dimensions; None if unknown.
    """
    fits = shape is None or (
        x.ndim == len(shape)
        and all(size is None or size == given for size, given in zip(shape[1:], x.shape[1:], strict=True))
    )
    if not fits or not x.ndim or not len(x):
        sizes = ["any" if size is None else str(size) for size in (shape or ())[1:]]
        problem, expected = f"{name!r} does not take these examples.", f"({', '.join(['n >= 1', *sizes])})"
        raise ConfigurationError(explain(problem, received=f"shape {x.shape}", expected=expected))


def _named_tensors(interpreter: Any, signature: str | None) -> tuple[dict[str, Tensor], dict[str, Tensor], bool]:
    """Inputs and outputs by the names of a signature, None for that of the main graph; and whether there is one.

    Without a signature, the names are those of the tensors.
    """
    for key in interpreter.get_signature_list() if signature is None else [signature]:
        runner = interpreter.get_signature_runner(key)
        if signature is not None or _is_main(runner):
            return *(_by_name(sorted(details.items())) for details in _details(runner)), True
    ends = interpreter.get_input_details(), interpreter.get_output_details()
    return *(_by_name((one["name"], one) for one in details) for details in ends), False


def _is_main(runner: Any) -> bool:
    return runner._subgraph_index == 0  # indices of tensors do not tell graphs of one structure apart


def _details(runner: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return runner.get_input_details(), runner.get_output_details()


def _by_name(details: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Tensor]:
    return {name: Tensor.from_details(name, one) for name, one in details}
