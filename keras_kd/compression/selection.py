"""Which weights of a layer are compressed, and how a kernel is read as a matrix of inputs and outputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_kd.features.paths import layers_by_path
from keras_kd.surgery.weights import weights_by_name

_NAMES = ("kernel", "embeddings")


@dataclasses.dataclass(frozen=True)
class MatrixView:
    """How a kernel is read as `(..., inputs, outputs)`.

    Attributes:
        axes: the order of the kernel's axes: positions, inputs, outputs.
        inputs: how many of them are inputs, over which an output sums.
        outputs: how many are outputs.
    """

    axes: tuple[int, ...]
    inputs: int = 1
    outputs: int = 1

    def matrix(self, kernel: Any) -> Any:
        """The kernel as a tensor of shape `(..., inputs, outputs)`."""
        return ops.reshape(ops.transpose(kernel, self.axes), self.matrix_shape(kernel.shape))

    def matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape `(..., inputs, outputs)` of the matrix of a kernel of this shape."""
        sizes = [shape[axis] for axis in self.axes]
        positions = len(sizes) - self.inputs - self.outputs
        inputs, outputs = sizes[positions : positions + self.inputs], sizes[positions + self.inputs :]
        return (*sizes[:positions], math.prod(inputs), math.prod(outputs))

    def kernel(self, matrix: Any, shape: tuple[int, ...]) -> Any:
        """The inverse of `matrix`, for a kernel of this shape."""
        moved = ops.reshape(matrix, tuple(shape[axis] for axis in self.axes))
        return ops.transpose(moved, tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__)))

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"axes": list(self.axes)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> MatrixView:
        return cls(tuple(config["axes"]), config["inputs"], config["outputs"])


def kernels(layer: keras.layers.Layer, *, frozen: bool = False) -> dict[str, Any]:
    """The kernels and embedding tables of a layer and of the layers inside it, by name as in `weights_by_name`.

    Args:
        layer: a built layer.
        frozen: whether to include those that are not trained.

    >>> dense = keras.layers.Dense(1)
    >>> dense.build((None, 1))
    >>> list(kernels(dense))
    ['kernel']
    """
    return {
        name: weight
        for name, weight in weights_by_name(layer).items()
        if (frozen or weight.trainable) and len(weight.shape) >= 2 and weight.name.endswith(_NAMES)
    }


def matrix_view(layer: keras.layers.Layer, name: str) -> MatrixView | None:
    """How a kernel of a layer is read as a matrix; None for one that does not sum over channels, or is not known.

    Args:
        layer: a built layer.
        name: of one of its `kernels`.
    """
    path, _, weight = name.rpartition("/")
    owner = layers_by_path(layer)[path] if path else layer
    rank = len(weights_by_name(layer)[name].shape)
    if weight.startswith("depthwise") or type(owner).__name__.startswith("Depthwise"):
        return None
    if isinstance(owner, keras.layers.EinsumDense):
        return _of_equation(owner.equation, rank)
    if weight.startswith("embeddings"):
        return MatrixView((0, 1)) if rank == 2 else None
    *positions, inputs, outputs = range(rank)
    if type(owner).__name__.endswith("Transpose"):
        inputs, outputs = outputs, inputs
    return MatrixView((*positions, inputs, outputs))


def _of_equation(equation: str, rank: int) -> MatrixView | None:
    """
    >>> _of_equation("abc,cde->abde", 3)
    MatrixView(axes=(0, 1, 2), inputs=1, outputs=2)
    """
    given, _, result = equation.replace(" ", "").replace("...", "").partition("->")
    kernel = given.partition(",")[2]
    inputs = [axis for axis, label in enumerate(kernel) if label not in result]
    outputs = [axis for axis, label in enumerate(kernel) if label in result]
    if len(kernel) != rank or not inputs or not outputs:
        return None
    return MatrixView((*inputs, *outputs), len(inputs), len(outputs))
