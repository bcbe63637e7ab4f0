"""Early exits at inference: examples that an exit is sure of need none of the layers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_kd.compression.structured.cut import operations
from keras_kd.errors import ConfigurationError, check_number, explain
from keras_kd.features import find_heads
from keras_kd.features.exit_curve import ExitCurve, ExitPoint
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.regimes.exits import MAIN

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)


def early_exits(
    model: keras.Model, x: Any, y: Any, *, thresholds: Sequence[float] = THRESHOLDS, batch_size: int = 256
) -> ExitCurve:
    """Measures a model with exits as a cascade, for each threshold of the confidence.

    An example leaves at the first exit whose largest probability reaches the threshold.

    Source: Zhang et al., "Be Your Own Teacher", 2019, section 4.4.

    Args:
        model: of `SelfDistiller(...).strip(exits=True)`: outputs `"exit_1"`, `"exit_2"` and so on, and `"output"`.
        x: inputs, as for `predict`.
        y: class numbers, `[n]`; examples with the label -1 are left out.
        thresholds: of the confidence, 0 to 1.
        batch_size: for the predictions.

    Raises:
        ConfigurationError: a model without exits, labels of another number, or a threshold out of range.
    """
    names = _order(model)
    thresholds = [check_number("threshold", value, at_least=0.0, at_most=1.0) for value in thresholds]
    predicted = model.predict(x, batch_size=batch_size, verbose=0)
    heads = find_heads(model)
    probabilities = np.stack([_probabilities(predicted[name], heads[name].activation) for name in names])
    y = np.asarray(y).reshape(-1)
    if len(y) != probabilities.shape[1]:
        problem = "Each example needs a label."
        raise ConfigurationError(explain(problem, received=f"{probabilities.shape[1]} examples, {len(y)} labels"))
    if not (y >= 0).any():
        raise ConfigurationError(explain("No example has a label.", received=f"{len(y)} labels of -1"))
    probabilities, y = probabilities[:, y >= 0], y[y >= 0]
    is_right = probabilities.argmax(-1) == y
    confidence = probabilities.max(-1)
    costs = _costs(model, names)
    return ExitCurve(tuple(_point(value, confidence, is_right, costs, names) for value in thresholds))


def _point(threshold: float, confidence: Any, is_right: Any, costs: Any, names: list[str]) -> ExitPoint:
    """The measurements of one threshold, from `[exits, examples]` of confidences and of right answers."""
    leaves = confidence >= threshold if threshold < 1.0 else np.zeros(confidence.shape, bool)
    leaves[-1] = True
    first = leaves.argmax(0)
    shares = np.bincount(first, minlength=len(names)) / len(first)
    accuracy = is_right[first, np.arange(len(first))].mean()
    leaving = {name: float(share) for name, share in zip(names, shares, strict=True)}
    return ExitPoint(threshold, float(accuracy), float(shares @ costs), leaving)


def _costs(model: keras.Model, names: list[str]) -> np.ndarray:
    """The multiply-adds of leaving at each output, exits passed included, as fractions of the model without exits."""
    outputs = symbolic_outputs(model)
    whole = operations(keras.Model(model.input, outputs[MAIN]))
    passed = [keras.Model(model.input, [outputs[name] for name in names[: index + 1]]) for index in range(len(names))]
    return np.array([operations(part) / whole for part in passed])


def _order(model: Any) -> list[str]:
    """The outputs from the cheapest exit to the model's own output."""
    outputs = symbolic_outputs(model) if isinstance(model, keras.Model) else None
    if outputs is None or MAIN not in outputs or len(outputs) < 2:
        raise ConfigurationError(
            explain(
                "This model has no exits.",
                received=f"outputs {', '.join(outputs)}" if outputs else f"a {type(model).__name__}",
                expected="distiller.strip(exits=True) of a SelfDistiller with exits",
            )
        )
    exits = [name for name in outputs if name != MAIN]
    return [*sorted(exits, key=lambda name: operations(keras.Model(model.input, outputs[name]))), MAIN]


def _probabilities(outputs: np.ndarray, activation: str) -> np.ndarray:
    """Class probabilities, from logits or as they are."""
    outputs = np.asarray(outputs, "float64")
    if activation != "linear":
        return outputs
    shifted = np.exp(outputs - outputs.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)
