import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from keras_kd.diagnosis import Diagnosis
from keras_kd.diagnosis.labeled_logits import LabeledLogits
from keras_kd.diagnosis.measurements import measure
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import expected_calibration_error, plots, reliability


def _answers(seed=0, size=400):
    generator = np.random.default_rng(seed)
    return LabeledLogits(3 * generator.normal(size=(size, 4)), generator.integers(0, 4, size))


def _diagnosis(train=None, validation=None):
    train, validation = (part and measure([part])[0] for part in (train, validation))
    return Diagnosis(4, train, validation, None, None, ())


@pytest.fixture(scope="module")
def diagnosis():
    return _diagnosis(_answers(), _answers(1, 250))


def _texts(svg):
    return " ".join(element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


def test_the_bars_are_those_of_scikit_learn(diagnosis):
    answers = _answers()
    p = np.exp(answers.logits) / np.exp(answers.logits).sum(axis=1, keepdims=True)
    right = p.argmax(axis=1) == answers.labels
    share, sure = calibration_curve(right, p.max(axis=1), n_bins=15)
    bins = diagnosis.train.bins
    np.testing.assert_allclose([value for value in bins.confidence if value is not None], sure)
    np.testing.assert_allclose([value for value in bins.accuracy if value is not None], share)
    title = ElementTree.fromstring(reliability(diagnosis, data="train"))[0].text
    listed = re.findall(r"([\d,]+) at ([\d.]+)%: ([\d.]+)% right", title)
    assert [float(row[1]) for row in listed] == pytest.approx(100 * sure, abs=0.051)
    assert [float(row[2]) for row in listed] == pytest.approx(100 * share, abs=0.051)
    assert sum(int(row[0]) for row in listed) == 400


def test_a_bar_is_as_high_as_the_accuracy_of_its_bin():
    """Two bins: 90% confident and always right, 60% confident and half right."""
    logits = np.log([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 4)
    svg = reliability(_diagnosis(LabeledLogits(logits, np.array([0, 0, 0, 0, 0, 0, 1, 1]))))
    bars = []
    for points in re.findall(
        r'<path d="M ([^"]*?)L ([^"]*?)L ([^"]*?)L ([^"]*?)z[^>]*fill: var\(--kd-series-1', svg, re.S
    ):
        heights = [float(point.split()[1]) for point in points]
        bars.append(max(heights) - min(heights))
    assert "ECE 0.100" in _texts(svg)  # (4 * 0.1 + 4 * 0.1) / 8
    assert 0.5 in [pytest.approx(low / high, abs=1e-3) for low in bars for high in bars if low < high]


def test_the_figure_tells_of_the_validation_data_where_there_are_some(diagnosis):
    assert "250 examples of the validation data" in _texts(reliability(diagnosis))
    assert "400 examples of the training data" in _texts(reliability(diagnosis, data="train"))
    assert "400 examples of the training data" in _texts(reliability(_diagnosis(train=_answers())))


def test_the_error_is_the_one_of_the_evaluation(diagnosis):
    error = expected_calibration_error(*_answers(1, 250), from_logits=True)
    assert f"ECE {error:.3f}" in _texts(reliability(diagnosis))


def test_empty_bins_are_no_bars():
    sure = LabeledLogits(np.array([[50.0, 0.0]]), np.array([0]))
    title = ElementTree.fromstring(reliability(_diagnosis(validation=sure)))[0].text
    assert title.endswith("ECE 0.000. 1 at 100.0%: 100.0% right.")


def test_is_a_picture_like_the_others(diagnosis):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        svg = reliability(diagnosis)
        assert dict(matplotlib.rcParams) == before
    assert svg == reliability(diagnosis) == plots.reliability(diagnosis)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and root.get("aria-labelledby") == root[0].get("id")
    styles = " ".join(re.findall(r'style="[^"]*"', svg))
    assert "var(--kd-" in styles and not re.search(r"(?<!, )#[0-9a-f]{6}", styles)
    assert "<metadata" not in svg and "<!DOCTYPE" not in svg


def test_ids_of_both_pictures_never_meet(diagnosis):
    ids = [set(re.findall(r' id="([^"]*)"', reliability(diagnosis, data=data))) for data in ("train", "validation")]
    assert not ids[0] & ids[1] and all(ids)


def test_what_was_not_measured_is_not_drawn():
    with pytest.raises(ConfigurationError, match="does not cover the validation data.*data='validation'.*diagnose"):
        reliability(_diagnosis(train=_answers()), data="validation")
    with pytest.raises(ConfigurationError, match="'test'.*one of 'validation', 'train'"):
        reliability(_diagnosis(train=_answers()), data="test")
