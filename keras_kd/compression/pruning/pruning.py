"""Magnitude pruning: weights of small magnitude become zero while the model is trained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_kd.compression.pruning.masking import Mask, MovementMask
from keras_kd.compression.pruning.patterns import Blocks, NOfM, get_pattern
from keras_kd.compression.pruning.per_weight import PerWeight, check_listed, ranked_sparsities
from keras_kd.compression.pruning.sparsities import get_sparsity
from keras_kd.compression.selection import matrix_view
from keras_kd.compression.stripping import check_model, reparametrized_layers
from keras_kd.compression.transform import WeightTransform
from keras_kd.errors import ConfigurationError, check_choice, check_integer, explain
from keras_kd.surgery.weights import weights_by_name

SCOPES = ("layer", "global")
SCORES = {"magnitude": Mask, "movement": MovementMask}


class Pruning(WeightTransform):
    """Prunes kernels and embedding tables, by magnitude or movement, each to the same sparsity or all together.

        prune = kd.compression.Pruning(kd.schedules.Polynomial(0.0, 0.8, steps=2000), begin=200)
        sparse = prune.apply(student)
        kd.Distiller(teacher, sparse).fit(...)
        small = prune.strip(sparse)

    The masks are state of the model. They change in the forward pass of a training step, so that `fit` needs no
    callback. A pruned weight is exactly zero in every forward pass, in what `strip` returns and in what is exported,
    whatever the optimizer does: it trains a weight behind the mask.

    Zeros make a compressed file smaller (`gzip`, an app package). They do not shrink the `.tflite` file or speed it up,
    except where XNNPACK's sparse kernels apply.

    Source: M. Zhu & S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
    2017 (the cubic schedule: `Polynomial(start, end, steps=...)`).

    Args:
        sparsity: the fraction of zeros of each kernel, 0 to 1: a number, or a schedule over the steps since `begin`.
            None is the sparsity of the pattern, 0.5 for `"2:4"`. Where a schedule falls, pruned weights stay pruned. At
            least one weight is kept. A dictionary by the paths of layers gives each its own; others are not pruned.
        pattern: `"unstructured"`; a block of inputs by outputs that is pruned as a whole, such as `"1x4"` or `(1, 4)`;
            or `"2:4"`: at most 2 nonzero of 4 neighboring inputs of an output.
        scope: `"layer"`: each kernel has this sparsity. `"global"`: all kernels together have it, by one ranking of
            magnitudes, so that layers with small weights lose more. How much each loses at which sparsity is read from
            the weights that the model has when `apply` is called, because in a compiled step no layer knows the weights
            of the others; which of its weights it loses is decided while it is trained. Hence it is for trained models:
            the magnitudes of an untrained one are those of its initializers.
        score: `"magnitude"`; or `"movement"`: weights that training moves away from zero are kept, by scores that are
            trained with the weights (Sanh, Wolf & Rush, "Movement Pruning", 2020). It is meant for fine-tuning a model
            on another task, at high sparsity, where the magnitudes are those of the old task; trained on the task
            itself, magnitude is as good. The sparsity must begin at 0, because the scores do.
        begin: the step at which pruning begins.
        frequency: the masks are computed every so many steps, from `begin` on. Steps are forward passes in training
            mode.
        skip: the paths of layers that stay as they are.

    Raises:
        ConfigurationError: a setting out of range.
    """

    def __init__(
        self,
        sparsity: Any = None,
        *,
        pattern: Any = "unstructured",
        scope: str = "layer",
        score: str = "magnitude",
        begin: int = 0,
        frequency: int = 100,
        skip: Collection[str] = (),
    ):
        super().__init__(skip)
        self.pattern = get_pattern(pattern)
        self.sparsity = get_sparsity(sparsity, self.pattern)
        self.scope = check_choice("scope", scope, SCOPES)
        self.score = check_choice("score", score, SCORES)
        self.begin = check_integer("begin", begin, at_least=0)
        self.frequency = check_integer("frequency", frequency, at_least=1)
        self._check_scope()
        self._check_first_scores()

    def for_model(self, model):
        if isinstance(self.sparsity, dict):
            check_listed(model, self.sparsity, self.skip)
            layers = {path: self._with(sparsity) for path, sparsity in self.sparsity.items()}
            return PerWeight(lambda path, weight: layers.get(path, "not listed in sparsity"), self.skip)
        if self.scope == "global":
            ranked = ranked_sparsities(model, self, self.sparsity)
            weights = {key: self._with(sparsity) for key, sparsity in ranked.items()}
            return PerWeight(lambda path, weight: weights.get((path, weight), self), self.skip)
        return self

    def function(self, layer, weight, calls):
        view = matrix_view(layer, weight)
        if self.pattern.needs_matrix:
            if view is None:
                return f"does not sum over inputs, which {self.pattern} needs"
            shape = tuple(weights_by_name(layer)[weight].shape)
            if problem := self._misfit(*view.matrix_shape(shape)[-2:]):
                return problem
        return SCORES[self.score](
            self.sparsity,
            str(self.pattern),
            view if self.pattern.needs_matrix else None,
            begin=self.begin,
            frequency=self.frequency,
            calls=calls,
            name=f"{weight.replace('/', '_')}_mask",
        )

    def _misfit(self, inputs: int, outputs: int) -> str | None:
        pattern = self.pattern
        if isinstance(pattern, NOfM) and inputs < pattern.m:
            return f"{inputs} inputs, fewer than the {pattern.m} of {pattern}"
        if isinstance(pattern, Blocks) and (inputs < pattern.height or outputs < pattern.width):
            return f"{inputs} inputs and {outputs} outputs, smaller than a block of {pattern}"
        return None

    def _check_scope(self) -> None:
        by_layer = isinstance(self.sparsity, dict)
        if self.scope == "global" and (by_layer or self.score != "magnitude"):
            raise ConfigurationError(
                explain(
                    "scope='global' ranks the weights of all layers by magnitude.",
                    received="a sparsity for each layer"
                    if isinstance(self.sparsity, dict)
                    else f"score={self.score!r}",
                    expected="one sparsity, and score='magnitude'",
                    fix="Set scope='layer'.",
                )
            )

    def _check_first_scores(self) -> None:
        """The scores of movement are all 0 at step 0, where a sparsity above 0 would prune at random."""
        schedules = self.sparsity.values() if isinstance(self.sparsity, dict) else [self.sparsity]
        if self.score == "movement" and self.begin == 0 and any(float(schedule(0)) > 0 for schedule in schedules):
            raise ConfigurationError(
                explain(
                    "score='movement' has no scores at step 0.",
                    received=f"{self.sparsity!r}, and begin=0",
                    expected="a sparsity that begins at 0, such as Polynomial(0.0, 0.8, steps=...), or a later begin",
                )
            )

    def _with(self, sparsity: Any) -> Pruning:
        """These settings with another sparsity, for a single layer or weight."""
        settings = {"pattern": self.pattern, "score": self.score, "begin": self.begin, "frequency": self.frequency}
        return Pruning(sparsity, **settings)


def sparsity(model: keras.Model) -> dict[str, float]:
    """The fraction of exact zeros in each kernel of a model that is being pruned, by path of the layer and weight.

    Raises:
        ConfigurationError: the model was not made by `apply`.
    """
    check_model(model)
    found = {
        f"{path}/{name}": value
        for path, layer in reparametrized_layers(model).items()
        for name, value in layer.effective_weights().items()
    }
    if not found:
        raise ConfigurationError(
            explain(
                f"{model.name!r} is not being pruned.",
                received="a model without compressed layers",
                expected="a model made by `apply`",
            )
        )
    return {path: float(np.mean(keras.ops.convert_to_numpy(value) == 0)) for path, value in found.items()}
