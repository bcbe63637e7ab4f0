"""Weights for a training in stages: features first, then predictions, then labels."""

from __future__ import annotations

from keras_kd.errors import ConfigurationError, explain
from keras_kd.schedules import Piecewise


def stages(*boundaries: int) -> tuple[Piecewise, ...]:
    """One weight for each stage of a training: 1 during its stage, 0 before and after.

        features, predictions, labels = kd.curricula.stages(1000, 4000)
        losses = [
            {"name": "hint", "teacher": "stage_3", "student": "stage_3", "weight": features},
            {"name": "soft_targets", "weight": predictions},
        ]
        alpha = kd.schedules.Piecewise((4000,), (1.0, 0.0))
        distiller = kd.Distiller(teacher, student, losses=losses, alpha=alpha)

    The weight of the labels is `1 - alpha`.

    Source: A. Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, who train on features, then on predictions.

    Args:
        boundaries: the optimizer steps at which a stage ends and the next one begins, increasing, at least one.

    Raises:
        ConfigurationError: no boundaries, or steps that do not increase from at least 1.

    >>> features, predictions = stages(10)
    >>> [(float(features(step)), float(predictions(step))) for step in (9, 10)]
    [(1.0, 0.0), (0.0, 1.0)]
    """
    if not boundaries:
        raise ConfigurationError(
            explain("A training in stages needs boundaries.", received="none", expected="stages(1000) or more steps")
        )
    weights = ([float(i == stage) for i in range(len(boundaries) + 1)] for stage in range(len(boundaries) + 1))
    return tuple(Piecewise(boundaries, tuple(values)) for values in weights)
