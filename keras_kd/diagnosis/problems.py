"""Where a teacher is unfit to teach, in sentences that say what to do about it."""

from __future__ import annotations

import math

from keras_kd.diagnosis.measurements import TEMPERATURES, Measurements
from keras_kd.teachers.calibration import chance_calibration_error

# Distillation is mostly done at T = 4. Below a twentieth of the highest entropy there (0.12 nats for 10 classes), about
# 2% of the mass is off the top class: gradients of soft targets and of labels are then nearly the same.
SATURATION_TEMPERATURE = 4
SATURATED_ENTROPY_SHARE = 0.05
# A student sees the training data's answers: 10 points more accurate there than elsewhere, the teacher recites labels.
OVERFIT_GAP = 0.1
# Before temperature scaling most networks lie at 0.01 to 0.1, some on CIFAR-100 at 0.17 (Guo et al., 2017, table 1);
# above 0.1 the probabilities rank the classes but are no chances, and a student takes them over.
BAD_CALIBRATION_ERROR = 0.1
# A class that is answered 19 times of 20, and more often than it occurs by as much again as is left to all others.
DEGENERATE_SHARE = 0.95
DEGENERATE_EXCESS = 0.05


def find_problems(
    train: Measurements | None,
    validation: Measurements | None,
    *,
    best_temperature: float | None = None,
    calibrated_error: float | None = None,
) -> tuple[str, ...]:
    """One sentence or a few per reason; none for a teacher without a fault that numbers show.

    Accuracy and calibration are judged on validation data where there are some, how soft the answers are on the
    training data, which are what a student learns from.
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
        f"Not finite: {measured.num_not_finite:,} of {total:,} answers to the {data} data hold NaN or infinity, and "
        "these examples are in no number here. One of them in a batch makes the student's loss NaN."
    )


def _near_random(measured: Measurements, data: str) -> str | None:
    low, high = measured.accuracy_interval
    guessing = 1 / measured.num_classes
    if low > max(guessing, measured.majority_share):
        return None
    return (
        f"Near-random: {measured.accuracy:.1%} of the {data} data are right (95% interval {low:.1%} to {high:.1%}), "
        f"guessing gives {guessing:.1%}, and always answering the most frequent class "
        f"{measured.majority_share:.1%}. Check that inputs are scaled as in its training, that labels belong to the "
        "inputs and are numbered as its outputs are; else train it first."
    )


def _degenerate(measured: Measurements, data: str) -> str | None:
    share, occurs = measured.most_predicted_share, measured.most_predicted_label_share
    if share <= DEGENERATE_SHARE or share - occurs <= DEGENERATE_EXCESS:
        return None
    return (
        f"Degenerate: class {measured.most_predicted} is its answer to {share:.1%} of the {data} data, of which "
        f"{occurs:.1%} are of that class. It has collapsed, or its inputs are not scaled as in its training."
    )


def _saturated(measured: Measurements, data: str) -> str | None:
    most = math.log(measured.num_classes)
    least = SATURATED_ENTROPY_SHARE * most
    now = measured.entropy[SATURATION_TEMPERATURE]  # at T = 1 it is lower still: entropy grows with T
    if now >= least:
        return None
    warmer = next((t for t in TEMPERATURES if measured.entropy[t] >= least), None)
    advice = (
        f"Distil at a temperature of {warmer} or more ({measured.entropy[warmer]:.2g} nats there)"
        if warmer
        else f"Even T = {TEMPERATURES[-1]} does not soften it: divide its logits, or standardize them "
        "(losses.LogitStandardization)"
    )
    return (
        f"Saturated: on the {data} data the entropy of its answers is {measured.entropy[1]:.2g} nats at T = 1 and "
        f"{now:.2g} at T = {SATURATION_TEMPERATURE}, of {most:.3g} at most, so soft targets say little "
        f"more than labels. {advice}; or take losses on features, or a teacher whose training stopped earlier."
    )


def _overfit(train: Measurements | None, validation: Measurements | None) -> str | None:
    if train is None or validation is None:
        return None
    gap = train.accuracy - validation.accuracy
    # of the difference of two shares: Newcombe, "Interval estimation for the difference between proportions", 1998
    noise = math.hypot(
        train.accuracy - train.accuracy_interval[0], validation.accuracy_interval[1] - validation.accuracy
    )
    if gap <= max(OVERFIT_GAP, noise):
        return None
    return (
        f"Overfit: {train.accuracy:.1%} of the training data are right and {validation.accuracy:.1%} of the validation "
        f"data, {100 * gap:.1f} points less. On what it knows by heart it repeats the labels: let it teach on "
        "augmented, held-out or unlabelled data, or regularize its training."
    )


def _badly_calibrated(
    measured: Measurements, data: str, best_temperature: float | None, calibrated_error: float | None
) -> str | None:
    error = measured.calibration_error
    # few examples show an error even where there is none
    if error <= BAD_CALIBRATION_ERROR + chance_calibration_error(measured.bins):
        return None
    word = "over" if measured.mean_confidence > measured.accuracy else "under"
    advice = "Measure on validation data, which also gives the temperature that calibrates it."
    if best_temperature is not None:
        advice = f"Its logits divided by {best_temperature:.3g} have an error of {calibrated_error:.3f}."
    return (
        f"Badly calibrated: on the {data} data its mean confidence is {measured.mean_confidence:.1%} and its accuracy "
        f"{measured.accuracy:.1%} ({word}confident; expected calibration error {error:.3f}). {advice}"
    )
