"""Feature maps of two models at one size."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_kd.errors import ConfigurationError, explain


def pool_to_smallest(*maps: Any) -> list[Any]:
    """Maps `[batch, height, width, channels]`, average-pooled to the smallest height and width among them."""
    sizes = [tuple(features.shape[1:3]) for features in maps]
    if len(set(sizes)) == 1:
        return list(maps)
    smallest = tuple(min(lengths) for lengths in zip(*sizes, strict=True))
    return [adaptive_average_pool(features, smallest) for features in maps]


def adaptive_average_pool(features: Any, size: tuple[int, int]) -> Any:
    """`[batch, height, width, channels]` to a smaller height and width, also where that is no divisor.

    Row `i` of `n` is the mean of the rows from `floor(i * height / n)` to before `ceil((i + 1) * height / n)`, and
    columns alike: PyTorch's `adaptive_avg_pool2d`.
    """
    for axis, (equation, cells) in enumerate(zip(("ih,bhwc->biwc", "jw,bhwc->bhjc"), size, strict=True), start=1):
        length = features.shape[axis]
        if length != cells:
            shares = ops.convert_to_tensor(_shares(length, cells), dtype=features.dtype)
            features = ops.einsum(equation, shares, features)
    return features


def _shares(length: int, cells: int) -> list[list[float]]:
    """`[cells, length]`: what each position gives to each cell."""
    bounds = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
    return [[float(start <= i < stop) / (stop - start) for i in range(length)] for start, stop in bounds]


def check_feature_maps(name: str, *shapes: Any) -> None:
    """Raises `ConfigurationError` where shapes are not maps that `pool_to_smallest` brings to one size.

    Args:
        name: of the loss, for the message.
        shapes: `(batch, height, width, channels)` each; sizes that are not known have to be so in all.
    """
    are_maps = all(len(shape) == 4 for shape in shapes)
    sizes = {tuple(shape[1:3]) for shape in shapes}
    if not are_maps or (len(sizes) > 1 and any(None in size for size in sizes)):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares feature maps.",
                received=" and ".join(str(tuple(shape)) for shape in shapes),
                expected="known heights and widths" if are_maps else "shapes (batch, height, width, channels)",
                fix="Build the models for images of one size."
                if are_maps
                else "Name other layers; keras_kd.taps(model) lists them with their shapes.",
            )
        )
