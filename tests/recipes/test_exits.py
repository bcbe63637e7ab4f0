"""The student that keeps its early exits in a recipe: the model, its files, and what the exits bring."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from scipy.special import softmax

from keras_kd import data, recipes
from keras_kd.errors import RecipeError
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.export import read_metadata
from keras_kd.recipes.checks.recipe import check_recipe

EXITS = "distillation={method: self, exits: [stem, hidden], alpha: 0.3}"
KEPT = EXITS.replace("alpha", "keep_exits: true, alpha")
STUDENT = "student.model=example_models:residual_student"
SETTINGS = (STUDENT, "teacher=null", "student.batch_size=256")
OUTPUTS = ["exit_1", "exit_2", "output"]
FORMATS = "export.formats=[float32, int8]"
LONGER = ("student.epochs=8", "student.batch_size=32", "student.learning_rate=0.02")


def load_model(folder, name="student.keras"):
    return keras.models.load_model(folder / name, compile=False)


@pytest.fixture(scope="module")
def kept(run_recipe, tmp_path_factory):
    """The folder of a finished run, its report, and its console output."""
    folder = tmp_path_factory.mktemp("exits") / "run"
    return folder, *run_recipe(folder, *SETTINGS, KEPT, FORMATS, *LONGER)


@pytest.fixture(scope="module")
def test_data():
    return data.open_source("digits").test.arrays()


def test_the_curve_of_the_report_is_that_of_the_saved_model(kept, test_data):
    """Computed again with NumPy, but for the multiply-adds, which are counted by hand."""
    folder, report, _ = kept
    x, y = test_data
    z = load_model(folder, "student_exits.keras").predict(x, verbose=0)
    p = np.stack([softmax(z[name].astype("float64"), axis=-1) for name in OUTPUTS])
    own = {"stem": 64 * 9 * 6, "other": 64 * 6, "dense": 64 * 36, "block": 64 * 9 * 36, "deep": 16 * 9 * 36, "head": 60}
    an_exit = 64 * 6 + 16 * 4 + 16 * 6 + 60  # to 1 of 6 channels, by a kernel of 2 x 2 to 4 x 4, to 6; the classifier
    before = own["stem"] + an_exit
    behind = before + own["block"] + own["other"] + own["dense"] + an_exit
    costs = np.array([before, behind, behind + own["block"] + own["deep"] + own["head"]])
    whole = costs[2] - 2 * an_exit
    stored = json.loads((folder / "report.json").read_text())["exits"]["points"]
    assert [point["threshold"] for point in stored] == sorted(point["threshold"] for point in stored)
    for point in stored:
        sure = (p.max(-1) >= point["threshold"]) & (point["threshold"] < 1)
        at = np.where(sure[0], 0, np.where(sure[1], 1, 2))
        assert point["accuracy"] == pytest.approx((p[at, range(len(y))].argmax(-1) == y).mean(), abs=1e-12)
        assert point["operations"] == pytest.approx(costs[at].mean() / whole, rel=1e-9)
        assert list(point["leaving"].values()) == pytest.approx(np.bincount(at, minlength=3) / len(y), abs=1e-12)
        assert list(point["leaving"]) == OUTPUTS
    assert any(0 < point["leaving"]["exit_1"] < 1 for point in stored)
    row = next(row for row in report.rows if row.id == "distilled")
    assert stored[-1]["accuracy"] == pytest.approx(row["accuracy"], abs=1e-12)


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_file_has_the_outputs_of_the_model(kept, test_data, form):
    folder, x = kept[0], test_data[0][:64]
    expected = load_model(folder, "student_exits.keras").predict(x, verbose=0)
    path = folder / f"student_exits_{form}.tflite"
    assert sorted(read_metadata(path).outputs) == OUTPUTS
    labels = {tuple(one.labels) for one in read_metadata(path).outputs.values()}
    assert labels == {tuple(map(str, range(10)))}
    found = outputs_of(path, x)
    for name in OUTPUTS:
        if form == "float32":
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
        else:
            assert (found[name].argmax(-1) == expected[name].argmax(-1)).mean() > 0.9
    assert "exit_1" in path.with_suffix(".md").read_text()


def outputs_of(path, x):
    """The outputs of a file by name, of one example after the other, in real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner()
    (taken,) = runner.get_input_details().values()
    found = {name: [] for name in runner.get_output_details()}
    for example in x:
        made = runner(**{next(iter(runner.get_input_details())): as_stored(example[None], taken)})
        for name, details in runner.get_output_details().items():
            scale, zero = details["quantization"]
            found[name].append(made[name] if not scale else (made[name].astype("float64") - zero) * scale)
    return {name: np.concatenate(values) for name, values in found.items()}


def as_stored(x, details):
    scale, zero = details["quantization"]
    return x if not scale else np.clip(np.round(x / scale) + zero, -128, 127).astype("int8")


def test_the_page_shows_the_curve(kept):
    folder, report, _ = kept
    page = (folder / "report.html").read_text()
    section = re.search(r'<section class="card" id="exits">.*?</section>', page, re.DOTALL).group()
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>(.*?)</tr>', section)
    assert len(rows) == len(report.exits.points)
    for (threshold, cells), point in zip(rows, report.exits.points, strict=True):
        shares = [f"{100 * share:.1f}" for share in point.leaving.values()]
        texts = [f"{100 * point.accuracy:.1f}", f"{point.operations:.3f}", *shares]
        assert threshold == f"{point.threshold:g}" and re.findall("<td>([^<]*)</td>", cells) == texts
    assert "<svg" in section and "Choose the threshold on validation images" in section
    assert Report.from_dict(json.loads((folder / "report.json").read_text())) == report


def test_the_rows_are_those_of_the_student_alone(kept):
    folder, report, _ = kept
    assert [row.id for row in report.rows] == ["scratch", "distilled", "export_float32", "export_int8"]
    assert report.conditions["distilled"] == report.conditions["scratch"]
    assert "exit_1_accuracy" in report.histories["distilled"]
    student = load_model(folder)
    assert (
        len(student.outputs) == 1 and student.count_params() < load_model(folder, "student_exits.keras").count_params()
    )


@pytest.mark.usefixtures("eager")
def test_the_student_is_the_one_that_drops_its_exits(start_recipe, tmp_path):
    """And layers that are frozen at the end are frozen in both files."""
    frozen = "student.unfreeze={0: stem}"
    dropped = start_recipe(tmp_path / "dropped", *SETTINGS, EXITS, frozen).run(Role.DISTILLED)["distilled"]
    run = start_recipe(tmp_path / "kept", *SETTINGS, KEPT, frozen)
    kept = run.run(Role.EXITS, Role.DISTILLED)["distilled"]
    assert kept.record == dropped.record
    one, other = load_model(tmp_path / "dropped"), load_model(tmp_path / "kept")
    assert type(one) is type(other) and [type(layer) for layer in one.layers] == [type(layer) for layer in other.layers]
    assert [w.trainable for w in one.weights] == [w.trainable for w in other.weights]
    assert not other.get_layer("stem").trainable
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = data.open_source("digits").test.arrays()[0][:50]
    with_exits = load_model(tmp_path / "kept", "student_exits.keras")
    np.testing.assert_array_equal(with_exits.predict(x, verbose=0)["output"], other.predict(x, verbose=0))


def test_a_finished_run_repeats_nothing_but_what_is_missing(kept, run_recipe, tmp_path):
    folder = shutil.copytree(kept[0], tmp_path / "run")
    (folder / "student_exits_float32.tflite").unlink()
    report, said = run_recipe(folder, *SETTINGS, FORMATS, *LONGER, KEPT)
    assert "self_taught.keras, trained before" in said and "early exits: the student has not changed." in said
    assert "export student with exits, float32" in said and "export student with exits, int8" not in said
    assert "measurements: none" in said and report.exits == kept[1].exits
    (folder / "student.keras").unlink()
    report, said = run_recipe(folder, *SETTINGS, "export.formats=[float32]", *LONGER, KEPT)
    assert "self_taught.keras, trained before" in said and report.exits == kept[1].exits
    assert not (folder / "student_exits_int8.tflite").exists()  # made with an earlier file of the student
    assert (folder / "student_exits_float32.md").exists()


@pytest.mark.usefixtures("eager")
def test_the_model_with_exits_is_removed_with_its_student(kept, start_recipe, tmp_path):
    folder = shutil.copytree(kept[0], tmp_path / "run")
    run = start_recipe(folder, *SETTINGS, EXITS)
    run.run(Role.SCRATCH, Role.DISTILLED)
    assert "student_exits.keras: removed because it was made from an earlier model." in run.said()
    assert not list(folder.glob("student_exits*.keras")) and not list(folder.glob("student_exits*.tflite"))


def test_an_interrupted_training_resumes(assert_resumes):
    settings = ("student.model=example_models:named_student", "teacher=null", "student.batch_size=64")
    method = "distillation={method: self, exits: [hidden], keep_exits: true}"
    assert_resumes("self_taught", ".state/self_taught.keras", *settings, method, roles=(Role.EXITS, Role.DISTILLED))


def test_settings_without_it_are_those_of_before(start_recipe, tmp_path):
    """A finished run of an earlier version is not trained again."""
    settings = start_recipe(tmp_path / "run", *SETTINGS, EXITS).plan["distilled"].settings["distillation"]
    assert "keep_exits" not in settings and "exits" in settings
    same = start_recipe(tmp_path / "run", *SETTINGS, EXITS.replace("alpha", "keep_exits: false, alpha"))
    assert "student_exits" not in same.plan and same.plan["distilled"].settings["distillation"] == settings


@pytest.mark.parametrize(
    ("distillation", "message"),
    [
        ("{method: self, teacher: ema, keep_exits: true}", "distillation.keep_exits: .*a setting of exits alone"),
        ("{method: self, exits: [stem], keep_exits: 1}", "distillation.keep_exits: .*true or false"),
        ("{method: mutual, keep_exits: true}", "distillation.keep_exits: unknown key"),
        ("{keep_exits: true}", "distillation.keep_exits: unknown key"),
    ],
)
def test_wrong_settings_are_refused(distillation, message):
    with pytest.raises(RecipeError, match=f"^{message}"):
        recipes.load(None, ["few_labels=null", f"distillation={distillation}"])


def test_only_classifiers_leave_early(make_recipe, tmp_path):
    rows = np.random.default_rng(0).random((60, 5), "float32")
    np.savez(tmp_path / "rows.npz", x=rows, y=rows.sum(1))
    recipe = make_recipe(
        tmp_path / "run",
        f"data={{source: 'npz:{tmp_path / 'rows.npz'}'}}",
        "teacher=null",
        "student.model=example_models:named_student",
        "distillation={method: self, exits: [hidden], keep_exits: true}",
    )
    with pytest.raises(RecipeError, match=r"^distillation.keep_exits: An example leaves .* 'regression'"):
        check_recipe(recipe)
