import ast
import base64
import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import softmax

from keras_kd.compression import LayerCosts, SensitivityTable
from keras_kd.errors import ConfigurationError
from keras_kd.evaluation import plots
from keras_kd.evaluation.comparison import ClassChange
from keras_kd.features.exit_curve import ExitCurve, ExitPoint
from keras_kd.tasks import get
from keras_kd.teachers.calibration import ReliabilityBins

HISTORIES = {
    "teacher": {"loss": [2.0, 1.0, 0.5], "accuracy": [0.3, 0.6, 0.9], "val_accuracy": [0.2, 0.5, 0.8]},
    "student": {"loss": [2.0, float("nan")], "sparse_categorical_accuracy": [0.3, None]},
    "one epoch": {"loss": [1.0], "val_loss": [0.0], "accuracy": [0.5]},
}
NAMES = ["cat", "<script>alert(1)</script>", "$x^2$ & co"]
LOGITS = [[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]]


MODELS = [
    plots.Point("t", "teacher", 1_700_000, 0.98),
    plots.Point("n", "no file", None, 0.97),
    plots.Point("s", "small", 16_000, 0.96),
    plots.Point("b", "beaten", 20_000, 0.95),
]
TIMES = [point._replace(cost=point.cost and point.cost / 1e6) for point in MODELS]
CHANGES = [ClassChange(1, 40, 0.9, 0.8, 0.7), ClassChange(2, 1, 1.0, 1.0, 1.0), ClassChange(0, 20, 0.5, 0.5, 0.55)]
BINS = {
    "teacher": ReliabilityBins((0.2, None, 0.9), (0.5, None, 1.0), (1, 0, 3)),
    "int8 & <co>": ReliabilityBins((0.25, 0.5, None), (0.0, 0.25, None), (2, 8, 0)),
}
EXITS = ExitCurve(
    tuple(
        ExitPoint(threshold, accuracy, cost, {"exit_1": early, "output": 1 - early})
        for threshold, accuracy, cost, early in [
            (0.0, 0.75, 0.25, 1.0),
            (0.5, 0.75, 0.25, 1.0),
            (0.9, 0.875, 0.5, 0.75),
            (1.0, 0.9375, 1.125, 0.0),
        ]
    )
)
IMAGES = [np.arange(64.0).reshape(8, 8).tolist(), np.zeros((8, 8, 1))]
SENSITIVITY = SensitivityTable(
    "accuracy",
    "points",
    0.92,
    100,
    (
        LayerCosts("stem/conv", "Conv2D", 144, {0.5: 2.25, 0.9: 64.0}, {8: -0.25, 2: 16.0}),
        LayerCosts("head & <more>", "Dense", 640, {0.5: 0.0, 0.9: 4.0}, {8: 0.0, 2: 1.0}),
    ),
)
PICTURES = {
    "training_curves": lambda: plots.training_curves(HISTORIES),
    "confusion_matrix": lambda: plots.confusion_matrix([[5, 1, 0], [0, 4, 2], [0, 0, 6]], NAMES),
    "confusion_bars": lambda: plots.confusion_matrix(_many(30), [f"class {i}" for i in range(30)]),
    "soft_targets": lambda: plots.soft_targets(IMAGES, LOGITS, [1, 4, 20], NAMES, labels=[0, 1]),
    "sensitivity_map": lambda: plots.sensitivity_map(SENSITIVITY),
    "size_accuracy": lambda: plots.size_accuracy(MODELS, intervals={"s": (0.94, 0.98)}),
    "latency_accuracy": lambda: plots.latency_accuracy(TIMES, intervals={"s": (0.94, 0.98)}),
    "class_changes": lambda: plots.class_changes(CHANGES, NAMES, file="int8 <file>", student="student"),
    "reliability_curves": lambda: plots.reliability_curves(BINS),
    "exit_curve": lambda: plots.exit_curve(EXITS),
}


def _many(size):
    matrix = np.diag(np.full(size, 50))
    matrix[3, 4], matrix[7, 8] = 9, 5
    return matrix


def _texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(params=PICTURES)
def draw(request):
    return PICTURES[request.param]


def test_same_input_gives_the_same_text(draw):
    assert draw() == draw()


def test_the_picture_is_well_formed_and_named_for_screen_readers(draw):
    root = ElementTree.fromstring(draw())
    title = root[0]
    assert root.get("role") == "img"
    assert title.tag.endswith("title") and len(title.text) > 20
    assert root.get("aria-labelledby") == title.get("id")


def test_every_color_follows_the_page_and_none_is_missed(draw):
    styles = " ".join(re.findall(r'style="[^"]*"', draw()))
    assert "var(--kd-" in styles
    assert not re.search(r"(?<!, )#[0-9a-f]{6}", styles)


def test_nothing_is_loaded_and_no_date_is_written(draw):
    svg = draw()
    links = re.findall(r'href="([^"]*)"|url\(([^)]*)\)', svg)
    assert all(link.startswith(("#", "data:image/png;base64,")) for pair in links for link in pair if link)
    assert "<metadata" not in svg and "<!DOCTYPE" not in svg and "<script" not in svg


def test_ids_of_two_pictures_never_meet():
    ids = [set(re.findall(r' id="([^"]*)"', draw())) for name, draw in PICTURES.items() if name != "confusion_bars"]
    assert len(set.union(*ids)) == sum(map(len, ids)) > 0
    svg = PICTURES["size_accuracy"]()
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
    assert {one or other for one, other in used} <= set(re.findall(r' id="([^"]*)"', svg))


def test_the_settings_of_matplotlib_stay_as_they_were(draw):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        draw()
        assert dict(matplotlib.rcParams) == before


def test_matplotlib_is_imported_inside_functions_and_pyplot_never():
    # Checked in the source: Keras itself imports matplotlib, so `sys.modules` proves nothing.
    files = sorted(Path(plots.__file__).parent.glob("*.py"))
    assert len(files) > 8
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        at_the_top = " ".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
        assert at_the_top.count("import") >= 1
        assert "matplotlib" not in at_the_top and "pyplot" not in ast.unparse(tree)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12),
    st.floats(0.05, 100),
)
def test_softened_is_the_softmax_of_scipy(logits, temperature):
    expected = softmax(np.array(logits, np.float64) / temperature)
    np.testing.assert_allclose(plots.softened(logits, temperature), expected, rtol=1e-10, atol=1e-300)


def test_softened_by_hand():
    # exp(0.5) / (exp(0.5) + 1) for a difference of 2 at temperature 4
    np.testing.assert_allclose(plots.softened([[2.0, 0.0]], 4), [[0.6224593312, 0.3775406688]], atol=1e-10)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), "4"])
def test_softened_refuses_a_temperature(temperature):
    with pytest.raises(ConfigurationError, match="temperature.*Received"):
        plots.softened([1.0], temperature)


def test_the_bars_say_the_probabilities_and_the_names():
    texts = _texts(plots.soft_targets(IMAGES[:1], LOGITS[:1], [1, 20], NAMES, labels=[0]))
    # softmax of (3, 1, 0) and of (0.15, 0.05, 0), in percent
    assert {"84.4", "11.4", "4.2", "36.2", "32.7", "31.1"} <= set(texts)
    assert {"T = 1", "T = 20", "cat", "$x^2$ & co"} <= set(texts)


def test_of_many_classes_and_images_only_the_first_are_drawn():
    texts = _texts(plots.soft_targets([IMAGES[0]] * 9, np.tile(np.arange(50.0), (9, 1)), [4], range(50)))
    likeliest = [str(49 - index) for index in range(plots.MAX_BARS)]
    assert [text for text in texts if text.isdigit()] == likeliest * plots.MAX_EXAMPLES


def _png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_an_image_may_be_a_list_an_array_or_a_png():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    as_png = plots.soft_targets([_png(pixels)], LOGITS[:1], [1], NAMES)
    as_url = plots.soft_targets(["data:image/png;base64," + _png(pixels)], LOGITS[:1], [1], NAMES)
    as_list = plots.soft_targets([(pixels / 255).tolist()], LOGITS[:1], [1], NAMES)
    assert as_png == as_url == as_list


def test_logits_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match="2 class names.*Expected"):
        plots.soft_targets(IMAGES, LOGITS, [1], NAMES[:2])


def test_a_class_name_is_text_and_no_markup_or_formula():
    svg = PICTURES["confusion_matrix"]()
    assert "<script" not in svg
    assert "$x^2$ & co" in _texts(svg)


def test_the_grid_counts_every_cell_and_its_errors():
    svg = PICTURES["confusion_matrix"]()
    assert [text for text in _texts(svg) if text.isdigit()] == ["5", "1", "4", "2", "6"]
    assert "3 of 18 are wrong" in svg


def test_many_classes_become_a_list_of_confusions_that_says_so():
    svg = PICTURES["confusion_bars"]()
    assert "The 2 most frequent of 2 kinds of confusion (30 classes are too many for a grid; 14 of 1514 wrong)" in svg
    assert {"class 3 as class 4", "class 7 as class 8", "9", "5"} <= set(_texts(svg))
    assert len(_texts(svg)) < 40


def test_many_classes_without_a_mistake_are_drawn_too():
    svg = plots.confusion_matrix(np.eye(40, dtype=int), range(40))
    assert "0 of 40 wrong" in svg


@pytest.mark.parametrize("matrix", [[[1, 2]], [1, 2, 3], np.zeros((2, 2))])
def test_a_matrix_of_other_classes_is_refused(matrix):
    with pytest.raises(ConfigurationError, match="Received: shape .* for 3 class names"):
        plots.confusion_matrix(matrix, NAMES)


def test_long_names_keep_both_ends():
    svg = plots.confusion_matrix(np.eye(2), ["a very long class name 1", "a very long class name 2"])
    assert [text[-2:] for text in _texts(svg) if "…" in text] == [" 1", " 2"] * 2


@pytest.mark.parametrize("name", ["size_accuracy", "latency_accuracy"])
def test_models_without_a_cost_are_left_out_and_the_front_is_named(name):
    svg = PICTURES[name]()
    assert {"teacher", "small", "beaten"} <= set(_texts(svg)) and "no file" not in svg
    bold = re.findall(r'<text style="[^"]*font(?:-weight)?: 700[^>]*>([^<]*)<', svg)
    assert bold == ["teacher", "small"]
    assert "Pareto front: small; teacher." in ElementTree.fromstring(svg)[0].text


NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"


def _dots(svg):
    return [tuple(map(float, pair)) for pair in re.findall(rf'<use xlink:href="#[^"]*" x="{NUMBER}" y="{NUMBER}"', svg)]


def _paths(svg, style):
    """The corners of each path whose style contains a text."""
    found = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg)
    return [
        [tuple(map(float, pair)) for pair in re.findall(rf"[ML] {NUMBER} {NUMBER}", path)]
        for path, drawn in found
        if style in drawn
    ]


def test_the_line_of_the_front_joins_its_members_in_steps():
    svg = PICTURES["latency_accuracy"]()
    teacher, small, _ = _dots(svg)
    assert _paths(svg, "stroke-opacity: 0.35") == [[small, (teacher[0], small[1]), teacher]]


def test_a_name_covers_no_line_of_the_front():
    svg = PICTURES["size_accuracy"]()
    level = _dots(svg)[1][1]
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    (baseline,) = [float(element.get("y")) for element in texts if element.text == "small"]
    assert not level < baseline < level + 11  # the letters are above the baseline


@pytest.mark.parametrize("costs", [[3.0], [0.0051, 0.0052, 0.0053], [1e-5, 9e3], [0.0, 5.0]])
def test_a_few_ticks_at_round_times(costs):
    svg = plots.latency_accuracy([plots.Point(str(c), f"model {c}", c, 0.5) for c in costs])
    ticks = [text for text in _texts(svg) if text.endswith(" ms")]
    assert 1 <= len(ticks) <= 6
    assert all(re.fullmatch(r"[\d.e+-]+ ms", tick) for tick in ticks)


def test_a_measure_of_which_less_is_better_turns_the_axis_and_the_front():
    error = get("regression").headline
    points = [plots.Point("a", "a", 10, 0.5), plots.Point("b", "b", 20, 0.4), plots.Point("c", "c", 30, 0.45)]
    assert [point.id for point in plots.front(points, error)] == ["a", "b"]
    svg = plots.size_accuracy(points, measure=error)
    worst, best, middle = (y for _, y in _dots(svg))
    assert best < middle < worst  # up is better; SVG counts from the top


def test_the_names_of_close_models_do_not_cover_each_other():
    close = [plots.Point(str(index), f"a model of long name {index}", 20_000, 0.9) for index in range(4)]
    svg = plots.size_accuracy([*close, plots.Point("far", "far", 900_000, 0.8)])
    heights = [
        float(element.get("y"))
        for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
        if "long name" in element.text
    ]
    assert min(np.diff(sorted(heights))) >= 11


def test_the_bars_of_classes_are_the_changes_of_the_file_in_the_given_order():
    svg = PICTURES["class_changes"]()
    names = [text for text in _texts(svg) if re.search(r" \(\d+\)$", text)]
    assert [name[-5:] for name in names] == [" (40)", "o (1)", " (20)"]  # with the number of examples
    bars = [path for color in (2, 1) for path in _paths(svg, f"fill: var(--kd-series-{color},") if len(path) == 4]
    (zero, _), *_ = _paths(svg, "stroke: var(--kd-muted")[0]
    ends = [max((x - zero for x, _ in bar), key=abs) for bar in bars[:1] + bars[2:4]]
    assert ends == pytest.approx([ends[0], 0, -ends[0] / 4], abs=1e-3) and ends[0] < 0
    title = ElementTree.fromstring(svg)[0].text
    assert title.endswith("<script>alert(1)</script> -20.0, -10.0; $x^2$ & co +0.0, +0.0; cat +5.0, +0.0.")


def test_of_many_classes_the_first_thirty_are_drawn():
    changes = [ClassChange(index, 9, 0.5, 0.5, 0.4) for index in range(40)]
    svg = plots.class_changes(changes, [f"class {i}" for i in range(40)], file="f", student="s")
    names = [text for text in _texts(svg) if text.endswith("(9)")]
    assert names == [f"class {i} (9)" for i in range(30)]
    assert "the 30 worst of 40 classes" in svg


def test_the_dots_of_a_curve_are_the_bins_of_its_model():
    svg = PICTURES["reliability_curves"]()
    assert {"teacher (ECE 0.150)", "int8 & <co> (ECE 0.250)"} <= set(_texts(svg))  # (0.3 + 3 * 0.1) / 4, (0.5 + 2) / 10
    title = ElementTree.fromstring(svg)[0].text
    assert "teacher: 1 at 20.0%: 50.0% right; 3 at 90.0%: 100.0% right." in title
    (curve,) = _paths(svg, "stroke-opacity: 0.75; stroke-width: 1.1")[:1] or [[]]
    start, end = _paths(svg, "stroke-dasharray")[0]  # the diagonal, from 0 to 1
    found = [((x - start[0]) / (end[0] - start[0]), (start[1] - y) / (start[1] - end[1])) for x, y in curve]
    np.testing.assert_allclose(found, [(0.2, 0.5), (0.9, 1.0)], atol=1e-3)


def test_of_many_models_seven_curves_are_drawn():
    bins = {f"model {index}": BINS["teacher"] for index in range(9)}
    texts = [text for text in _texts(plots.reliability_curves(bins)) if text.startswith("model")]
    assert len(texts) == plots.MAX_CURVES == 7


def test_every_run_is_named_once_and_a_gap_breaks_nothing():
    texts = _texts(plots.training_curves(HISTORIES))
    assert [text for text in texts if text in HISTORIES] == list(HISTORIES)


def test_an_example_that_is_not_an_image_is_drawn_as_what_it_is():
    features, cube = np.linspace(0, 5, 20).tolist(), np.zeros((3, 3, 7)).tolist()
    svg = plots.soft_targets([features, [1.0], cube], [LOGITS[0]] * 3, [1], NAMES, labels=[0, 1, 2])
    assert "<image" not in svg
    texts = _texts(svg)
    assert texts.count("84.4") == 3 and {"cat", "$x^2$ & co"} <= set(texts)


def test_the_map_shows_each_drop_and_shades_by_its_root():
    text = plots.sensitivity_map(SENSITIVITY)
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter() if element.tag.endswith("text") and element.text]
    numbers = [word for word in words if re.fullmatch(r"-?\d+\.\d", word)]
    assert numbers == ["2.2", "64.0", "-0.2", "16.0", "0.0", "4.0", "0.0", "1.0"]
    assert {"stem/conv", "head & <more>"} <= set(words)
    assert {"50%", "zeros", "8", "bits"} <= set(" ".join(words).split())
    cells = re.findall(
        r'style="fill: (?:none; opacity: (0)|var\(--kd-series-2, #d55e00\)(?:; opacity: ([\d.]+))?)"', text
    )
    shades = [float(zero or shade or 1) for zero, shade in cells]
    expected = [math.sqrt(max(drop, 0) / 64) for row in SENSITIVITY.drops for drop in row]
    assert shades == pytest.approx(expected, abs=1e-5)
    assert "Drop of accuracy in points by layer and setting, from 0.92." in text


def test_the_dots_of_the_exits_are_the_points_of_the_curve():
    """Equal ones are one dot, which is named by the first and the last of their thresholds."""
    svg = plots.exit_curve(EXITS)
    x, y = np.unique(_dots(svg), axis=0).T
    assert np.diff(x) / np.diff(x).sum() == pytest.approx(np.array([0.25, 0.625]) / 0.875, abs=1e-4)
    assert np.diff(y) / np.diff(y).sum() == pytest.approx(np.array([0.125, 0.0625]) / 0.1875, abs=1e-4)
    assert y[0] > y[-1]  # up is better
    assert {"0 to 0.5", "0.9", "1"} <= set(_texts(svg))
    assert "threshold 0.9: 0.500, 87.5%" in svg
