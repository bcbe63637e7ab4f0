"""Accuracy by confidence: the reliability diagram of a teacher, and the curves of several models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_kd.diagnosis import Diagnosis
from keras_kd.errors import ConfigurationError, check_choice, explain
from keras_kd.evaluation.plots.drawing import as_svg, decorate, in_style, new_figure
from keras_kd.svg import BLUE, MUTED, ORANGE, SERIES
from keras_kd.teachers.calibration import ReliabilityBins, calibration_error

MAX_CURVES = len(SERIES)

_NAMES = {"validation": "validation data", "train": "training data"}


def reliability(diagnosis: Diagnosis, *, data: str | None = None) -> str:
    """Accuracy by confidence, and below it the histogram of the confidence, as an SVG string.

    A bar that ends on the diagonal means that accuracy equals confidence; otherwise an orange line joins the bar to the
    mean confidence. The bars are the bins of the expected calibration error.

    Source: DeGroot and Fienberg, "The Comparison and Evaluation of Forecasters", 1983; as drawn in Guo et al., "On
    Calibration of Modern Neural Networks", 2017.

    Args:
        diagnosis: from `diagnosis.diagnose`.
        data: `"validation"` or `"train"`; None uses the validation data if there are any.

    Raises:
        ConfigurationError: the diagnosis does not cover these data.
    """
    if data is None:
        data = "train" if diagnosis.validation is None else "validation"
    findings = getattr(diagnosis, check_choice("data", data, _NAMES))
    if findings is None:
        problem, fix = f"The diagnosis does not cover the {_NAMES[data]}.", "Pass them to `diagnose`."
        raise ConfigurationError(explain(problem, received=f"data={data!r}", fix=fix))
    title = (
        f"{findings.num_examples:,} examples of the {_NAMES[data]}: accuracy {findings.accuracy:.1%}, "
        f"mean confidence {findings.mean_confidence:.1%}, ECE {findings.calibration_error:.3f}"
    )
    with in_style():
        figure = new_figure(5.0)
        accuracy, share = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _draw_accuracy(accuracy, findings.bins)
        _draw_share(share, findings.bins)
        decorate(accuracy, share)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9.5, handlelength=1.4)
        figure.suptitle(title.replace(": ", "\n"), x=0.02, ha="left", fontsize=10.5)
        return as_svg(figure, f"reliability-{data}", f"Accuracy by confidence, {title}. {_listing(findings.bins)}")


def reliability_curves(bins: Mapping[str, ReliabilityBins]) -> str:
    """Accuracy by confidence of several models, and below it the share of examples at each, as an SVG string.

    Each dot is a bin at its mean confidence; its area grows with the share of examples in it, since the accuracy of a
    few examples says little. Dots below the diagonal are overconfident.

    Args:
        bins: by the title of the model; the first `MAX_CURVES` are drawn.
    """
    shown = dict(list(bins.items())[:MAX_CURVES])
    with in_style():
        figure = new_figure(5.2 + 0.2 * len(shown))
        accuracy, share = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        for color, (title, one) in zip(SERIES, shown.items(), strict=False):
            _draw_curve(accuracy, share, one, color, f"{title} (ECE {calibration_error(one):.3f})")
        accuracy.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="accuracy = confidence")
        accuracy.set(ylabel="accuracy", ylim=(-0.03, 1.05), xlim=(0, 1.02))
        accuracy.yaxis.set_major_formatter(_percent)
        _label_share(share)
        decorate(accuracy, share)
        figure.legend(loc="outside lower left", fontsize=9.5, handlelength=1.4)
        listing = " ".join(f"{title}: {_listing(one)}" for title, one in shown.items())
        return as_svg(figure, "reliability-curves", f"Accuracy by confidence on the test data. {listing}")


def _draw_curve(accuracy: Any, share: Any, bins: ReliabilityBins, color: str, label: str) -> None:
    filled = np.array(bins.count) > 0
    sure, right = (np.array(values, np.float64)[filled] for values in (bins.confidence, bins.accuracy))
    shares = np.array(bins.count) / sum(bins.count)
    accuracy.plot(sure, right, color=color, linewidth=1.1, alpha=0.75, label=label)
    accuracy.scatter(sure, right, s=8 + 150 * shares[filled], color=color, alpha=0.75, linewidths=0, zorder=3)
    share.stairs(shares, np.linspace(0, 1, len(shares) + 1), color=color, linewidth=1.3, baseline=None)


def _draw_accuracy(axes: Any, bins: ReliabilityBins) -> None:
    edges, width = _edges(bins)
    filled = np.array(bins.count) > 0
    edges = edges[filled]
    confidence, accuracy = (np.array(values, np.float64)[filled] for values in (bins.confidence, bins.accuracy))
    axes.bar(edges, accuracy, width, align="edge", color=BLUE, alpha=0.75, label="accuracy")
    axes.hlines(confidence, edges, edges + width, color=ORANGE, linewidth=2.4, label="confidence, and the gap to it")
    axes.vlines(edges + width / 2, accuracy, confidence, color=ORANGE, linewidth=1.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)), label="accuracy = confidence")
    axes.set(ylabel="accuracy", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(_percent)


def _draw_share(axes: Any, bins: ReliabilityBins) -> None:
    edges, width = _edges(bins)
    axes.bar(edges, np.array(bins.count) / sum(bins.count), width, align="edge", color=BLUE, alpha=0.75)
    axes.set(xlim=(0, 1))
    _label_share(axes)


def _label_share(axes: Any) -> None:
    axes.set(xlabel="confidence: the probability of the predicted class", ylabel="examples")
    axes.xaxis.set_major_formatter(_percent)
    axes.yaxis.set_major_formatter(_percent)
    axes.tick_params(axis="x", pad=8)


def _edges(bins: ReliabilityBins) -> tuple[np.ndarray, float]:
    """The left edges of the bars, and their width, slightly less than that of the bins."""
    num_bins = len(bins.count)
    return (np.arange(num_bins) + 0.04) / num_bins, 0.92 / num_bins


def _percent(value: float, _: Any) -> str:
    return f"{100 * value:g}%"


def _listing(bins: ReliabilityBins) -> str:
    rows = [row for row in zip(*bins, strict=True) if row[-1]]
    return "; ".join(f"{count:,} at {sure:.1%}: {right:.1%} right" for sure, right, count in rows) + "."
