"""Measurements of a teacher's outputs on one set of labeled examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_kd.diagnosis.labeled_logits import LabeledLogits
from keras_kd.errors import ConfigurationError, TeacherError, explain
from keras_kd.teachers.calibration import (
    ReliabilityBins,
    calibration_error,
    log_probabilities,
    reliability_bins,
    wilson_interval,
)

TEMPERATURES = (1, 2, 4, 8, 20)  # from 1 (as trained) to Hinton et al.'s highest; most papers distill at 4
CONFIDENT = 0.999  # a probability that hardly differs from a one-hot label


@dataclass(frozen=True)
class Measurements:
    """Measurements of a teacher on one set of examples. Unlabeled examples are excluded from all of them.

    Attributes:
        num_classes: C, 2 for a single sigmoid.
        num_examples: the number of examples measured.
        num_unlabeled: the number of examples excluded because they have no label (-1, or a sample weight of 0).
        num_not_finite: the number of labeled examples excluded because their logits contain NaN or infinity.
        accuracy: the share of correct predictions, 0 to 1.
        accuracy_interval: the bounds of its 95% score interval (Wilson, 1927).
        majority_share: the accuracy of always predicting the most frequent class.
        most_predicted: the class predicted most often.
        most_predicted_share: the share of examples for which it is predicted.
        most_predicted_label_share: the share of examples with this label.
        negative_log_likelihood: the mean over the labels, in nats.
        mean_confidence: the mean probability of the top class.
        sure_share: the share of examples for which that probability is above 0.999.
        calibration_error: the expected calibration error (ECE) over 15 bins, 0 to 1 (Guo et al., 2017).
        bins: those bins.
        entropy: the mean entropy of the outputs in nats, by temperature; at most `log(C)`.
        dark_mass: the mean probability of all classes except the top one, by temperature.
    """

    num_classes: int
    num_examples: int
    num_unlabeled: int
    num_not_finite: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    majority_share: float
    most_predicted: int
    most_predicted_share: float
    most_predicted_label_share: float
    negative_log_likelihood: float
    mean_confidence: float
    sure_share: float
    calibration_error: float
    bins: ReliabilityBins
    entropy: dict[int, float]
    dark_mass: dict[int, float]

    def as_dict(self) -> dict[str, Any]:
        """The measurements as JSON-compatible data."""
        return {
            **vars(self),
            "accuracy_interval": list(self.accuracy_interval),
            "bins": {name: list(values) for name, values in self.bins._asdict().items()},
            "entropy": {str(temperature): nats for temperature, nats in self.entropy.items()},
            "dark_mass": {str(temperature): share for temperature, share in self.dark_mass.items()},
        }


def measure(batches: Iterable[LabeledLogits], *, keep: bool = False) -> tuple[Measurements, LabeledLogits | None]:
    """Measures all batches, keeping only a few numbers per example in memory.

    Args:
        batches: logits and labels.
        keep: whether to also return the logits and labels that were measured.

    Raises:
        ConfigurationError: no labeled examples.
        TeacherError: no finite outputs.
    """
    rows, kept, num_unlabeled, num_not_finite = [], [], 0, 0
    for logits, labels in batches:
        is_labeled, is_finite = labels >= 0, np.isfinite(logits).all(axis=1)
        num_unlabeled += int((~is_labeled).sum())
        num_not_finite += int((is_labeled & ~is_finite).sum())
        counted = LabeledLogits(*(values[is_labeled & is_finite] for values in (logits, labels)))
        rows.append(_by_example(*counted))
        if keep:
            kept.append(counted)
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else {"label": ()}
    if not len(columns["label"]):
        raise _nothing(num_unlabeled, num_not_finite)
    measured = LabeledLogits(*map(np.concatenate, zip(*kept, strict=True))) if keep else None
    return _summary(columns, logits.shape[1], num_unlabeled, num_not_finite), measured


def _by_example(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers kept for each example, arrays `[n]`."""
    columns = {"label": labels, "predicted": logits.argmax(axis=1)}
    for temperature in TEMPERATURES:
        log_p = log_probabilities(logits, temperature)
        p = np.exp(log_p)
        columns[f"entropy_{temperature}"] = -(p * log_p).sum(axis=1)
        columns[f"dark_mass_{temperature}"] = 1 - p.max(axis=1)
        if temperature == 1:
            columns["confidence"] = p.max(axis=1)
            columns["surprise"] = -log_p[np.arange(len(labels)), labels]
    return columns


def _summary(columns: dict[str, np.ndarray], num_classes: int, num_unlabeled: int, num_not_finite: int) -> Measurements:
    labels, predicted, confidence = columns["label"], columns["predicted"], columns["confidence"]
    right, num_examples = predicted == labels, len(labels)
    bins = reliability_bins(confidence, right)
    most_predicted = int(np.bincount(predicted).argmax())
    means = {name: float(values.mean()) for name, values in columns.items()}
    return Measurements(
        num_classes=num_classes,
        num_examples=num_examples,
        num_unlabeled=num_unlabeled,
        num_not_finite=num_not_finite,
        accuracy=float(right.mean()),
        accuracy_interval=wilson_interval(float(right.mean()), num_examples),
        majority_share=float(np.bincount(labels).max() / num_examples),
        most_predicted=most_predicted,
        most_predicted_share=float((predicted == most_predicted).mean()),
        most_predicted_label_share=float((labels == most_predicted).mean()),
        negative_log_likelihood=means["surprise"],
        mean_confidence=means["confidence"],
        sure_share=float((confidence > CONFIDENT).mean()),
        calibration_error=calibration_error(bins),
        bins=bins,
        entropy={temperature: means[f"entropy_{temperature}"] for temperature in TEMPERATURES},
        dark_mass={temperature: means[f"dark_mass_{temperature}"] for temperature in TEMPERATURES},
    )


def _nothing(num_unlabeled: int, num_not_finite: int) -> Exception:
    if num_not_finite:
        return TeacherError(
            explain(
                "None of the teacher's outputs is finite.",
                received=f"NaN or infinity in all {num_not_finite} outputs",
                expected="finite logits",
                fix="Its training has diverged, or its inputs are not in the scale that it was trained on.",
            )
        )
    return ConfigurationError(
        explain(
            "None of the examples has a label.",
            received=f"{num_unlabeled} unlabeled examples (-1)",
            expected="at least one labeled example",
        )
    )
