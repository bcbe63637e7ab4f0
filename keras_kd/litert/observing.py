"""The values of all tensors of a LiteRT file while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_kd.litert.model import Model
from keras_kd.litert.reading import read_file
from keras_kd.litert.tensors import Tensor


class Observer(Model):
    """A LiteRT file on the CPU without delegates, whose inner tensors can be read. It runs slowly, on one thread.

    Args:
        content: a whole LiteRT file.

    Raises:
        ConfigurationError: the file is damaged, or has operators that LiteRT does not have.
    """

    def __init__(self, content: bytes):
        graph = read_file(content).graphs[0]
        super().__init__(content, num_threads=1)
        computed = (index for one in graph.operators for index in one.outputs if index >= 0)
        self._names = {index: graph.tensors[index].name for index in (*graph.inputs, *computed)}

    def values(self, samples: Any) -> Iterator[dict[str, np.ndarray]]:
        """The values of the inputs and of all computed tensors of the main graph by name, one batch after another.

        Args:
            samples: as in `predict`; the last batch is filled up with copies of the last example.

        Yields:
            Arrays of the size that the file takes at once, dequantized if the tensor is quantized. A tensor whose
            values the interpreter does not keep is left out.
        """
        contents, num_examples = self.encode(samples)
        size = self.batch_size or 1
        for start in range(0, num_examples, size):
            rows = np.minimum(np.arange(start, start + size), num_examples - 1)
            self.run({name: content[rows] for name, content in contents.items()})
            yield self._values()

    def _values(self) -> dict[str, np.ndarray]:
        tensors = [Tensor.from_details(one["name"], one) for one in self._interpreter.get_tensor_details()]
        found = {}
        for tensor in tensors:
            if tensor.index in self._names:
                try:
                    found[self._names[tensor.index]] = tensor.decode(self._interpreter.get_tensor(tensor.index))
                except ValueError:  # the interpreter has no data for it
                    continue
        return found

    def _settings(self) -> Mapping[str, Any]:
        from ai_edge_litert.interpreter import OpResolverType

        return {
            "experimental_preserve_all_tensors": True,
            "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        }
