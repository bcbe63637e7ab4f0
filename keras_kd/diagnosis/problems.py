"""Finds problems of a teacher and describes each with a remedy."""

from __future__ import annotations

import math

from keras_kd.diagnosis.measurements import TEMPERATURES, Measurements
from keras_kd.teachers.calibration import chance_calibration_error

# Most distillation uses T = 4. Below a twentieth of the maximum entropy at that temperature (0.12 nats for 10 classes),
# about 2% of the mass is off the top class, and the gradients of soft targets and labels are nearly the same.
SATURATION_TEMPERATURE = 4
SATURATED_ENTROPY_SHARE = 0.05
# A student learns from outputs on the training data. A teacher that is 10 points more accurate there than on other data
# has memorized the labels.
OVERFIT_GAP = 0.1
# Before temperature scaling, most networks are at 0.01 to 0.1, some on CIFAR-100 at 0.17 (Guo et al., 2017, table 1).
# Above 0.1, the outputs rank the classes but are not meaningful as probabilities, and a student learns them as such.
BAD_CALIBRATION_ERROR = 0.1
# One class is predicted more than 19 times out of 20, and more than 5 points more often than it occurs.
DEGENERATE_SHARE = 0.95
DEGENERATE_EXCESS = 0.05


def find_problems(
    train: Measurements | None,
    validation: Measurements | None,
    *,
    best_temperature: float | None = None,
    calibrated_error: float | None = None,
) -> tuple[str, ...]:
    """One warning of a few sentences per problem; empty if the measurements show none.

    Accuracy and calibration are judged on the validation data if available, softness of the outputs on the training
    data, which the student learns from.
    """
    judged = (validation, "validation") if validation else (train, "training")
    taught = (train, "training") if train else (validation, "validation")
    sentences = [
        *(_not_finite(*part) for part in ((train, "training"), (validation, "validation")) if part[0]),
        _near_random(*judged),
        _degenerate(*judged),
        _saturated(*taught),
        _overfit(train, validation),
        _badly_calibrated(*judged, best_temperature, calibrated_error),
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _not_finite(measured: Measurements, data: str) -> str | None:
    if not measured.num_not_finite:
        return None
    total = measured.num_examples + measured.num_not_finite
    return (
        f"Not finite: {measured.num_not_finite:,} of {total:,} outputs for the {data} data contain NaN or infinity; "
        "these examples are excluded here. A single one in a batch makes the student's loss NaN."
    )


def _near_random(measured: Measurements, data: str) -> str | None:
    low, high = measured.accuracy_interval
    guessing = 1 / measured.num_classes
    if low > max(guessing, measured.majority_share):
        return None
    return (
        f"Near-random: the accuracy on the {data} data is {measured.accuracy:.1%} (95% interval {low:.1%} to "
        f"{high:.1%}); guessing gives {guessing:.1%}, and always predicting the most frequent class "
        f"{measured.majority_share:.1%}. Check that inputs are scaled as in its training, and that labels match the "
        "inputs and the order of its classes; otherwise, train it first."
    )


def _degenerate(measured: Measurements, data: str) -> str | None:
    share, occurs = measured.most_predicted_share, measured.most_predicted_label_share
    if share <= DEGENERATE_SHARE or share - occurs <= DEGENERATE_EXCESS:
        return None
    return (
        f"Degenerate: it predicts class {measured.most_predicted} for {share:.1%} of the {data} data, of which only "
        f"{occurs:.1%} have that label. It has collapsed, or its inputs are not scaled as in its training."
    )


def _saturated(measured: Measurements, data: str) -> str | None:
    most = math.log(measured.num_classes)
    least = SATURATED_ENTROPY_SHARE * most
    now = measured.entropy[SATURATION_TEMPERATURE]  # even lower at T = 1: entropy grows with T
    if now >= least:
        return None
    warmer = next((t for t in TEMPERATURES if measured.entropy[t] >= least), None)
    advice = (
        f"Distill at a temperature of {warmer} or more ({measured.entropy[warmer]:.2g} nats there)"
        if warmer
        else f"Even T = {TEMPERATURES[-1]} does not soften it: divide its logits, or standardize them "
        "(losses.LogitStandardization)"
    )
    return (
        f"Saturated: on the {data} data the entropy of its outputs is {measured.entropy[1]:.2g} nats at T = 1 and "
        f"{now:.2g} at T = {SATURATION_TEMPERATURE}, out of at most {most:.3g}, so soft targets add little to the "
        f"labels. {advice}; or use losses on features, or a teacher from an earlier epoch."
    )


def _overfit(train: Measurements | None, validation: Measurements | None) -> str | None:
    if train is None or validation is None:
        return None
    gap = train.accuracy - validation.accuracy
    # interval of the difference: Newcombe, "Interval estimation for the difference between proportions", 1998
    noise = math.hypot(
        train.accuracy - train.accuracy_interval[0], validation.accuracy_interval[1] - validation.accuracy
    )
    if gap <= max(OVERFIT_GAP, noise):
        return None
    return (
        f"Overfit: the accuracy is {train.accuracy:.1%} on the training data and {validation.accuracy:.1%} on the "
        f"validation data, {100 * gap:.1f} points less. On memorized examples, its outputs repeat the labels: distill "
        "on augmented, held-out or unlabeled data, or regularize its training."
    )


def _badly_calibrated(
    measured: Measurements, data: str, best_temperature: float | None, calibrated_error: float | None
) -> str | None:
    error = measured.calibration_error
    # the measured error of a small sample is above 0 even for a calibrated teacher
    if error <= BAD_CALIBRATION_ERROR + chance_calibration_error(measured.bins):
        return None
    word = "over" if measured.mean_confidence > measured.accuracy else "under"
    advice = "Pass validation data to also find the temperature that calibrates it."
    if best_temperature is not None:
        advice = f"Dividing its logits by {best_temperature:.3g} gives an error of {calibrated_error:.3f}."
    return (
        f"Badly calibrated: on the {data} data its mean confidence is {measured.mean_confidence:.1%} and its accuracy "
        f"{measured.accuracy:.1%} ({word}confident; expected calibration error {error:.3f}). {advice}"
    )
