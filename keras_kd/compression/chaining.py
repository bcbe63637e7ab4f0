"""Several techniques as one transform."""

from __future__ import annotations

import keras

from keras_kd.compression.transform import Transform, WeightTransform
from keras_kd.errors import ConfigurationError, explain


def chain(*transforms: Transform) -> Transform:
    """A transform that applies several, in order.

        chain(Clustering(16), QuantizationAware())

    Techniques that compute weights act on each other's results while the model is trained: here the quantized weights
    are those of the centroids. Techniques that change the architecture, such as `ChannelPruning`, come first, and
    `QuantizationAware` comes last.

    Args:
        transforms: at least one.

    Raises:
        ConfigurationError: no transform, or a technique in the wrong place.
    """
    for transform in transforms:
        if not isinstance(transform, Transform):
            raise ConfigurationError(
                explain("Only transforms can be chained.", received=repr(transform), expected="such as Pruning(0.8)")
            )
    transforms = tuple(part for transform in transforms for part in _parts(transform))
    weights = [transform for transform in transforms if isinstance(transform, WeightTransform)]
    others = transforms[: len(transforms) - len(weights)]
    if not transforms or any(isinstance(transform, WeightTransform) for transform in others):
        raise ConfigurationError(
            explain(
                "Invalid chain.",
                received=", ".join(type(transform).__name__ for transform in transforms) or "no transform",
                expected="techniques that change the architecture first, then those that compute weights",
            )
        )
    for transform in weights[:-1]:
        if transform.is_last:
            raise ConfigurationError(
                explain(
                    f"Nothing can follow {type(transform).__name__}.",
                    received=", ".join(type(transform).__name__ for transform in transforms),
                    expected=f"{type(transform).__name__} as the last technique",
                )
            )
    return _Chain(others, _Weights(weights) if weights else None)


def _parts(transform: Transform) -> tuple[Transform, ...]:
    """The transforms of a chain within a chain; any other as it is."""
    if not isinstance(transform, _Chain):
        return (transform,)
    return transform.changes + (tuple(transform.weights.transforms) if transform.weights else ())


class _Weights(WeightTransform):
    """Passes each weight through the functions of several techniques."""

    def __init__(self, transforms: list[WeightTransform], names: list[str] | None = None):
        super().__init__([path for transform in transforms for path in transform.skip])
        self.transforms = transforms
        self.names = names or [type(transform).__name__ for transform in transforms]

    def for_model(self, model):
        return _Weights([transform.for_model(model) for transform in self.transforms], self.names)

    def function(self, layer, weight, calls):
        raise NotImplementedError

    def functions(self, layer, path, weight, calls):
        made = [
            transform.functions(layer, path, weight, calls) if weight in transform.kernels(layer) else ([], [])
            for transform in self.transforms
        ]
        return [function for functions, _ in made for function in functions], [
            f"{name}: {reason}" for name, (_, reasons) in zip(self.names, made, strict=True) for reason in reasons
        ]

    def kernels(self, layer):
        found: dict = {}
        for transform in self.transforms:
            found |= transform.kernels(layer)
        return found

    def additions(self, model):
        return self.transforms[-1].additions(model)


class _Chain(Transform):
    """Changes of the architecture, one after the other, and then the weights."""

    def __init__(self, changes: tuple[Transform, ...], weights: _Weights | None):
        self.changes, self.weights = changes, weights

    def apply(self, model, *, verbose=True):
        for change in self.changes:
            model = change.apply(model, verbose=verbose)
        return model if self.weights is None else self.weights.apply(model, verbose=verbose)

    def strip(self, model: keras.Model) -> keras.Model:
        return (self.weights or self.changes[-1]).strip(model)

    def report(self, model):
        *first, last = [*self.changes, self.weights] if self.weights else self.changes
        for change in first:
            model = change.apply(model, verbose=False)
        return last.report(model)
