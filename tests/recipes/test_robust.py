"""Robust students in a recipe: the adversary of the distillation, and the measured robustness."""

import json
import shutil

import keras
import numpy as np
import pytest

from keras_kd import data, evaluation, recipes
from keras_kd.adversaries import FGSM, PGD
from keras_kd.distillers import AdversarialTraining
from keras_kd.errors import RecipeError
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.making import make_adversary
from keras_kd.recipes.reading.robust import fraction
from keras_kd.teachers import FrozenTeacher

pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
ARD = "distillation.adversary={name: pgd, epsilon: 2/16, steps: 2}"
MEASURED = "measure.robustness={epsilon: 0.125}"
FLOAT32 = "export.formats=[float32]"


@pytest.fixture(scope="module")
def robust(run_recipe, tmp_path_factory):
    """The folder of a finished run, its report, and its console output."""
    folder = tmp_path_factory.mktemp("robust") / "run"
    return folder, *run_recipe(folder, ARD, MEASURED, FLOAT32)


def test_the_report_has_the_accuracy_of_each_model_under_attack(robust):
    folder, report, _ = robust
    assert list(report.robustness) == ["teacher", "scratch", "distilled"]
    x, y = data.open_source("digits").test.arrays()
    for id, file in (("teacher", "teacher.keras"), ("distilled", "student.keras")):
        expected = evaluation.robustness(keras.models.load_model(folder / file), x, y, 0.125, show_progress=False)
        assert report.robustness[id].accuracies == expected.accuracies
        row = next(row for row in report.rows if row.id == id)
        assert report.robustness[id].accuracies["clean"] == pytest.approx(row["accuracy"], abs=1e-12)
    assert report.robustness["distilled"].num_examples == 360 and report.robustness["distilled"].epsilon == 0.125
    written = json.loads((folder / "report.json").read_text())
    assert Report.from_dict(written).robustness == report.robustness


def test_the_page_shows_them(robust):
    folder, report, said = robust
    page = (folder / "report.html").read_text()
    section = page[page.index('id="robustness"') :]
    section = section[: section.index("</section>")]
    for id in ("teacher", "scratch", "distilled"):
        for value in report.robustness[id].accuracies.values():
            assert f"<td>{100 * value:.1f}</td>" in section
    assert "360 test images" in section and "Not attacked: distilled, float32 TFLite" in section
    assert "Accuracy under PGD-20 (linf epsilon 0.125), at most: teacher" in page
    assert "learning_rate_decay, weight_decay, adversary." in page


def test_the_adversary_makes_the_student_more_robust(robust, start_recipe, tmp_path):
    """More than the same student distilled without it, trained from the same start."""
    folder, report, _ = robust
    started = start_recipe(shutil.copytree(folder, tmp_path / "run"), FLOAT32)
    started.run(Role.TEACHER, Role.SCRATCH, Role.DISTILLED)
    assert "student.keras: distillation.adversary.name" in started.said() and "trained again" in started.said()
    clean = keras.models.load_model(tmp_path / "run" / "student.keras")
    found = evaluation.robustness(clean, *data.open_source("digits").test.arrays(), 0.125, show_progress=False)
    assert report.robustness["distilled"].accuracies["PGD-20"] > found.accuracies["PGD-20"] + 0.05


def test_a_change_repeats_what_depends_on_it_and_nothing_else(robust, run_recipe, tmp_path):
    folder = shutil.copytree(robust[0], tmp_path / "run")
    _, said = run_recipe(folder, ARD, MEASURED, FLOAT32)
    assert "robustness: none of the models has changed." in said
    report, said = run_recipe(folder, ARD, "measure.robustness={epsilon: 0.25, norm: l2, examples: 50}", FLOAT32)
    assert said.count("trained before with these settings") == 3 and "measurements: none" in said
    found = report.robustness["distilled"]
    assert (found.num_examples, found.epsilon, found.norm) == (50, 0.25, "l2")
    report, _ = run_recipe(folder, ARD, FLOAT32)
    assert report.robustness == {} and "Robustness" not in (folder / "report.html").read_text()


def test_settings_without_an_adversary_are_those_of_before(start_recipe, tmp_path):
    """A finished run of an earlier version is not trained again."""
    settings = start_recipe(tmp_path / "run").plan["distilled"].settings["distillation"]
    assert list(settings) == ["alpha", "temperature", "losses"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("{name: pgd, epsilon: 8/255}", PGD(8 / 255, seed=3, value_range=(-1.0, 1.0))),
        ("{name: fgsm, epsilon: 1, norm: l2}", FGSM(1.0, norm="l2", value_range=(-1.0, 1.0))),
        (
            "{name: pgd, epsilon: 0.5, steps: 3, step_size: 1/4, random_start: 0.001, objective: kl}",
            PGD(0.5, steps=3, step_size=0.25, random_start=0.001, objective="kl", seed=3, value_range=(-1.0, 1.0)),
        ),
    ],
)
def test_the_adversary_has_the_range_of_the_data_and_the_seed_of_the_recipe(override, expected):
    recipe = recipes.load(None, [f"distillation.adversary={override}", "data.value_range=[-1, 1]", "seed=3"])
    assert make_adversary(recipe.distillation, recipe) == expected
    assert recipe.few_labels.adversary == recipe.distillation.adversary  # inherited


def test_few_labels_may_have_another_adversary():
    recipe = recipes.load(None, [ARD, "few_labels.adversary={name: fgsm, epsilon: 1/4}"])
    assert make_adversary(recipe.few_labels, recipe) == FGSM(0.25)
    assert make_adversary(recipe.distillation, recipe) == PGD(0.125, steps=2)


RSLAD = (
    "distillation.adversary={name: pgd, epsilon: 0.1, steps: 1, objective: kl, random_start: 0.001}",
    "distillation.losses=[{name: soft_targets, student: adversarial, weight: 0.8}, {name: soft_targets, weight: 0.2}]",
    "distillation.alpha=1",
)
ADAAD = (
    "distillation.adversary={name: pgd, epsilon: 0.1, steps: 1, objective: adaptive_kl}",
    "distillation.losses=[{name: soft_targets, teacher: adversarial, student: adversarial}]",
)


@pytest.mark.parametrize(
    "overrides",
    [
        RSLAD,
        ADAAD,
        ("distillation.adversary={name: fgsm, epsilon: 0.1, objective: adaptive_kl}",),
        (ARD, "distillation.supervise=adversarial", "augment=[{name: pad_and_crop, pixels: 1}, mixup]", "cache={}"),
        (ARD, "teacher.dtype=bfloat16", "compress=[{name: quantization_aware, epochs: 1}]"),
        (ARD, "few_labels={num_labels: 20}"),
    ],
    ids=["RSLAD", "AdaAD", "adaptive", "cache", "compressed", "few labels"],
)
@pytest.mark.usefixtures("eager")
def test_methods_and_combinations(start_recipe, tmp_path, overrides):
    short = ("teacher.epochs=1", "student.epochs=1", "student.batch_size=256", "teacher.batch_size=256")
    artifacts = start_recipe(tmp_path / "run", *short, *overrides).run()
    history = artifacts["distilled"].record["history"]
    assert history["outside_value_range"] == [0.0] and np.isfinite(history["loss"]).all()
    conditions = [artifacts[name].record["conditions"]["adversary"] for name in ("scratch", "distilled")]
    assert conditions[0] == conditions[1] and "epsilon" in conditions[0]


@pytest.mark.usefixtures("eager")
def test_the_student_alone_is_trained_adversarially(start_recipe, tmp_path):
    """By the attack on its own cross-entropy, whatever the objective of the distilled student's is."""
    started = start_recipe(tmp_path / "run", ARD.replace("}", ", objective: kl}"))
    stage, context = started.plan["scratch"], started.context
    made = stage._build(context, stage.split(context))
    assert isinstance(made, AdversarialTraining) and made.beta is None
    assert made.adversary.get_config() == PGD(2 / 16, steps=2, seed=0).get_config()
    record = started.run(Role.SCRATCH)["scratch"].record
    assert record["history"]["outside_value_range"] == [0.0, 0.0] and "student_loss" in record["history"]
    plain = start_recipe(tmp_path / "run").plan["scratch"]
    assert plain.key() != stage.key() and "adversary" not in plain.settings


@pytest.mark.usefixtures("eager")
def test_the_teacher_that_the_attack_follows_is_not_replaced_by_stored_outputs(start_recipe, tmp_path):
    started = start_recipe(
        tmp_path / "run", "distillation.adversary={name: fgsm, epsilon: 0.1, objective: adaptive_kl}"
    )
    started.run(Role.TEACHER)
    stage, context = started.plan["distilled"], started.context
    assert isinstance(stage._build(context, stage.split(context)).teacher, FrozenTeacher)


def test_an_interrupted_training_resumes_with_the_same_attacks(assert_resumes):
    assert_resumes("distilled", "student.keras", ARD, "teacher.epochs=1")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distillation.adversary={name: pgd, epsilon: 8}"], "distillation.adversary.epsilon: larger than the range"),
        (["distillation.adversary={name: pgd, epsilon: 8/0}"], "adversary.epsilon: invalid value. Received: '8/0'"),
        (
            ["distillation.adversary={name: pgd, epsilon: 0}"],
            "adversary.epsilon: invalid value. Received: 0.",
        ),
        (["distillation.adversary={name: pgd}"], "distillation.adversary.epsilon: this key is missing."),
        (["distillation.adversary={epsilon: 1}"], "distillation.adversary.name: this key is missing."),
        (["distillation.adversary=pgd"], "distillation.adversary: invalid value. Received: 'pgd'"),
        (["distillation.adversary={name: pdg, epsilon: 1}"], "adversary.name: invalid value.*'pdg'.*'pgd', 'fgsm'"),
        (["distillation.adversary={name: fgsm, epsilon: 1, steps: 2}"], "distillation.adversary.steps: unknown key"),
        (["distillation.adversary={name: pgd, epsilon: 1, pgd: 2}"], "distillation.adversary.pgd: unknown key"),
        (
            ["distillation.adversary={name: pgd, epsilon: 1, random_start: x}"],
            "adversary.random_start: invalid value. Received: 'x'. Expected: true or false or a number",
        ),
        (
            ["distillation.adversary={name: pgd, epsilon: 1, random_start: 0}"],
            "random_start: invalid value. Received: 0",
        ),
        (
            ["distillation.supervise=adversarial"],
            "distillation.supervise: there are no adversarial examples without an adversary",
        ),
        ([ARD, "distillation.losses=[soft_targets]"], "distillation.adversary: it has no effect"),
        ([ARD, "assistants=[{model: digits_student, epochs: 1}]"], "distillation.adversary: only the student is att"),
        ([*ADAAD, "cache={}"], "distillation.adversary: a cache has no outputs for perturbed inputs"),
        (["measure.robustness={epsilon: 256}", "data.value_range=[0, 255]"], "measure.robustness.epsilon: larger than"),
        (["measure.robustness={epsilon: 1, restart: 2}"], "measure.robustness.restart: unknown key.*Did you mean"),
        (["measure.robustnes={epsilon: 1}"], "measure.robustnes: unknown key.*Did you mean 'robustness'"),
    ],
)
def test_refused_when_read(overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        recipes.load(None, overrides)
    assert str(caught.value).count("\n") == 0  # one line, although few_labels takes these settings over
    assert "pydantic" not in str(caught.value) and "function" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([ARD, "augment=[{name: gaussian_noise, stddev: 0.5}]"], "distillation.adversary: The inputs lie outside"),
        ([MEASURED, "measure.robustness.examples=361"], "measure.robustness: 'examples' is larger than the test split"),
    ],
)
def test_refused_before_anything_is_trained(make_recipe, tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        check_recipe(make_recipe(tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("section", [ARD, MEASURED])
def test_other_tasks_and_ranges_are_refused(make_recipe, tmp_path, section):
    generator = np.random.default_rng(0)
    x, targets = generator.uniform(0, 1, (60, 8, 8, 1)).astype("float32"), generator.normal(size=(60, 10))
    np.savez(tmp_path / "numbers.npz", x=x, y=targets.astype("float32"))
    with pytest.raises(RecipeError, match="exclusive classes. Received: the task 'regression'"):
        check_recipe(make_recipe(tmp_path / "run", f"data.source=npz:{tmp_path}/numbers.npz", section))
    np.savez(tmp_path / "outside.npz", x=2 * x - 1, y=np.arange(60) % 10)
    source = f"data.source=npz:{tmp_path}/outside.npz"
    with pytest.raises(RecipeError, match="The inputs lie outside the adversary's value range"):
        check_recipe(make_recipe(tmp_path / "run", source, section))
    check_recipe(make_recipe(tmp_path / "run", source, section, "data.value_range=[-1, 1]"))


def test_a_teacher_without_gradients_is_left_out(run_recipe, tmp_path):
    x, _ = data.open_source("digits").train.arrays()
    np.savez(tmp_path / "stored.npz", logits=np.random.default_rng(0).normal(size=(len(x), 10)).astype("float32"))
    stored = (f"teacher.model={tmp_path}/stored.npz", "teacher.epochs=null", "student.epochs=1")
    report, _ = run_recipe(tmp_path / "run", *stored, "measure.robustness={epsilon: 0.1, examples: 20}", FLOAT32)
    assert list(report.robustness) == ["scratch", "distilled"]


@pytest.mark.parametrize(
    ("text", "value"), [(" 8 / 255 ", 8 / 255), ("2.5/5", 0.5), (3, 3), ("x", "x"), ("1/2/3", "1/2/3")]
)
def test_a_fraction_is_a_number(text, value):
    assert fraction(text) == value
