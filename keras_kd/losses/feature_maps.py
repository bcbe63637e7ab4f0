"""Feature maps of different sizes: pooling them to a common size, and checking that this is possible."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain


def pool_to_smallest(*maps: Any) -> list[Any]:
    """Average-pools maps `[batch, height, width, channels]` to the smallest height and width among them."""
    sizes = [tuple(features.shape[1:3]) for features in maps]
    if len(set(sizes)) == 1:
        return list(maps)
    smallest = tuple(min(lengths) for lengths in zip(*sizes, strict=True))
    return [adaptive_average_pool(features, smallest) for features in maps]


def adaptive_average_pool(features: Any, size: tuple[int, int]) -> Any:
    """Pools `[batch, height, width, channels]` to a smaller height and width, which need not divide the old ones.

    Output row `i` of `n` is the mean of the input rows from `floor(i * height / n)` up to, but not including,
    `ceil((i + 1) * height / n)`; columns work the same way. Equivalent to PyTorch's `adaptive_avg_pool2d`.
    """
    for axis, (equation, cells) in enumerate(zip(("ih,bhwc->biwc", "jw,bhwc->bhjc"), size, strict=True), start=1):
        length = features.shape[axis]
        if length != cells:
            weights = ops.convert_to_tensor(_pooling_weights(length, cells), dtype=features.dtype)
            features = ops.einsum(equation, weights, features)
    return features


def _pooling_weights(length: int, cells: int) -> list[list[float]]:
    """The weight of each input position in each output cell, `[cells, length]`."""
    bounds = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
    return [[float(start <= i < stop) / (stop - start) for i in range(length)] for start, stop in bounds]


def check_feature_maps(name: str, *shapes: Any) -> None:
    """Checks that `pool_to_smallest` can bring maps of these shapes to a common size.

    Args:
        name: the name of the loss, for the error message.
        shapes: `(batch, height, width, channels)` each. An unknown height or width must be unknown in all of them.

    Raises:
        ConfigurationError: if a shape is not that of a map, or if only some of the sizes are known.
    """
    are_maps = all(len(shape) == 4 for shape in shapes)
    sizes = {tuple(shape[1:3]) for shape in shapes}
    if not are_maps or (len(sizes) > 1 and any(None in size for size in sizes)):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares feature maps.",
                received=" and ".join(str(tuple(shape)) for shape in shapes),
                expected="known heights and widths" if are_maps else "shapes (batch, height, width, channels)",
                fix="Build the models with a fixed image size."
                if are_maps
                else "Choose other layers; keras_kd.taps(model) lists them with their shapes.",
            )
        )
