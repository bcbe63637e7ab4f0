"""Scans the layers of a model: what does it cost to compress each one?"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import keras

from keras_kd.compression.sensitivities.choosing import CompressionSettings, choose
from keras_kd.compression.sensitivities.measuring import Measured, Quality, check_compressible, find_from_logits
from keras_kd.compression.sensitivities.table import LayerCosts, SensitivityTable
from keras_kd.compression.sensitivities.targets import parse_target
from keras_kd.compression.sensitivities.variants import Setting
from keras_kd.compression.transform import check_skip, checked_paths
from keras_kd.errors import ConfigurationError, check_integer, check_number, explain
from keras_kd.progress import bar

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
BITS = (8, 6, 4, 3, 2)


class Sensitivity:
    """The result of `sensitivity`; prints as a table.

    Attributes:
        table: the costs of each layer.
        settings: the settings for the target, or None without one.
    """

    def __init__(self, table: SensitivityTable, measured: Measured, quality: Quality):
        self.table, self._measured, self._quality = table, measured, quality
        self.settings: CompressionSettings | None = None

    def choose(self, target: str) -> CompressionSettings:
        """Settings for each layer that reach a target, without another scan.

        Zeros and bits are chosen by what they cost per byte saved when each layer is compressed alone. Each combination
        is then measured as a whole, without training; if it costs more than its layers alone, options that cost much
        are given up for others.

        Args:
            target: `"size<200kB"`, `"accuracy_drop<0.5"`, or both, joined by a comma. The size is that of all weights,
                gzipped, as in an app package. The drop is that of the measure: in points of a hundred for shares. With
                a size alone the drop is kept small, with a drop alone the size.

        Warns:
            UserWarning: the target cannot be reached; the result says how close it comes.

        Raises:
            ConfigurationError: an invalid target.
        """
        settings = choose(self._measured, self.table, parse_target(target, self._quality.name), self._quality.drop)
        if not settings.reached:
            warnings.warn(str(settings).partition("\n")[0], UserWarning, stacklevel=2)
        return settings

    def __str__(self) -> str:
        return str(self.table) if self.settings is None else f"{self.table}\n\n{self.settings}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return self.table.to_dict() | {"settings": None if self.settings is None else self.settings.to_dict()}


def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    target: str | None = None,
    sparsities: Sequence[float] = SPARSITIES,
    bits: Sequence[int] = BITS,
    measure: Any = None,
    task: Any = "classification",
    from_logits: bool | None = None,
    skip: Collection[str] = (),
    batch_size: int = 128,
    verbose: bool = True,
) -> Sensitivity:
    """Measures what it costs to compress each layer of a trained model, one at a time and without training.

    Each layer is pruned by magnitude to several sparsities, and its kernels are rounded to several bit widths
    (symmetric, one scale for each output channel). Training afterwards regains much of a drop, so the numbers say
    which layers are sensitive, not what a trained compressed model will reach.

        found = kd.compression.sensitivity(model, (x, y), target="size<200kB, accuracy_drop<0.5")
        print(found)
        prune = kd.compression.Pruning(found.settings.sparsity)

    Source: S. Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015 (the scan by
    layer).

    Args:
        model: a Functional or Sequential model, with models nested to any depth. A copy is measured; the model is never
            changed, not even if the scan is interrupted.
        data: `(inputs, labels)` as arrays, or a finite data set of such batches. It should not be the training set.
        target: see `Sensitivity.choose`; the result has `settings` then.
        sparsities: fractions of zeros, above 0 and below 1.
        bits: widths of a weight, 2 to 8.
        measure: the name of a measure of the task, its headline by default; or a function of outputs and labels that
            returns a number, larger for better models.
        task: one of `keras_kd.tasks`, or its name.
        from_logits: whether the outputs are logits; by default as the model's last activation says.
        skip: the paths of layers that are left out.
        batch_size: examples in a forward pass.
        verbose: whether to show a progress bar.

    Raises:
        ConfigurationError: an invalid setting or target, a model without trainable kernels or compressed already, data
            that do not fit.
    """
    check_compressible(model)
    sparsities, bits = _checked_sparsities(sparsities), _checked_bits(bits)
    if not (sparsities or bits):
        raise ConfigurationError(explain("Nothing to scan.", received="no sparsities and no bits", expected="some"))
    skipped = checked_paths(skip)
    quality = Quality(measure, task, find_from_logits(model) if from_logits is None else from_logits)
    if target is not None:
        parse_target(target, quality.name)
    measured = Measured(model, data, quality, batch_size)
    _check_skip(skipped, measured)
    found = Sensitivity(_scan(measured, quality, sparsities, bits, skipped, verbose), measured, quality)
    if target is not None:
        found.settings = found.choose(target)
    return found


def _scan(measured, quality, sparsities, bits, skipped, verbose) -> SensitivityTable:
    paths = [path for path in measured.layers if path not in skipped]
    total = len(paths) * (len(sparsities) + len(bits))
    rows = []
    with bar("sensitivity", total, unit="settings", shown=verbose, after_seconds=2.0) as advance:

        def drop(path: str, setting: Setting) -> float:
            value = measured.value({path: setting})
            advance()
            return quality.drop(measured.baseline, value)

        for path in paths:
            rows.append(
                LayerCosts(
                    path=path,
                    kind=type(measured.layers[path]).__name__,
                    num_weights=measured.num_weights(path),
                    by_sparsity={sparsity: drop(path, Setting(sparsity)) for sparsity in sparsities},
                    by_bits={width: drop(path, Setting(bits=width)) for width in bits},
                )
            )
    return SensitivityTable(quality.name, quality.unit, measured.baseline, measured.num_examples, tuple(rows))


def _checked_sparsities(values: Any) -> tuple[float, ...]:
    values = _listed("sparsities", values)
    for value in values:
        if not 0.0 < check_number("sparsities", value) < 1.0:
            raise ConfigurationError(
                explain("Invalid 'sparsities'.", received=repr(value), expected="numbers above 0 and below 1")
            )
    return tuple(sorted(set(map(float, values))))


def _checked_bits(values: Any) -> tuple[int, ...]:
    values = [check_integer("bits", value, at_least=2, at_most=8) for value in _listed("bits", values)]
    return tuple(sorted(set(values), reverse=True))


def _listed(name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (list, tuple, set, frozenset, range)):
        raise ConfigurationError(explain(f"Invalid {name!r}.", received=repr(values), expected="a list of numbers"))
    return tuple(values)


def _check_skip(skipped: tuple[str, ...], measured: Measured) -> None:
    problem = "'skip' names a layer that the model does not have, or that has no trainable kernel."
    check_skip(skipped, measured.layers, problem)
    if set(skipped) == set(measured.layers):
        raise ConfigurationError(
            explain(
                "'skip' leaves no layer.", received=repr(skipped), expected="fewer of " + ", ".join(measured.layers)
            )
        )
