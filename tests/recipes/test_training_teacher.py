"""Recipes with other teachers: cached, several, faster, in another format, or with assistants in between."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from keras_kd import data, export, recipes
from keras_kd.errors import RecipeError, TeacherError
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.teachers import CachedTeacher, FrozenTeacher

TEACHER, DISTILLED = "teacher", "distilled"
QUICK = ["few_labels=null", "export.formats=[float32]"]
AUGMENT = "augment=[{name: pad_and_crop, pixels: 1}]"

NEIGHBORS = """
from sklearn.neighbors import KNeighborsClassifier
import keras_kd as kd

def teacher(num_classes):
    x, y = kd.data.open_source("digits").train.arrays()
    model = KNeighborsClassifier(5, weights="distance").fit(x.reshape(len(x), -1), y)
    return kd.teachers.FunctionTeacher(
        lambda x: model.predict_proba(x.reshape(len(x), -1)), outputs="probabilities", num_classes=num_classes,
        fingerprint="5 neighbors")
"""


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory, example_models):
    """A teacher after a short training."""
    keras.utils.set_random_seed(3)
    model = example_models.teacher((8, 8, 1), 10)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data.open_source("digits").train.arrays()
    model.fit(x, y, epochs=2, verbose=0)
    file = tmp_path_factory.mktemp("teacher") / "t.keras"
    model.save(file)
    return file


def test_a_cached_run_with_an_assistant(tmp_path, run_recipe):
    """The stages run in order, each teaching model has a cache, and nothing is done twice."""
    overrides = [
        *QUICK,
        AUGMENT,
        "cache={views: 2, top_k: 6}",
        "assistants=[{model: 'example_models:student', epochs: 2}]",
    ]
    report, said = run_recipe(tmp_path / "run", *overrides)
    assert [row.id for row in report.rows][:3] == [TEACHER, "assistant_1", "scratch"]
    caches = sorted((tmp_path / "run" / "teacher_cache").iterdir())
    assert [folder.name.rsplit("-", 1)[0] for folder in caches] == ["assistant_1", "teacher"]
    assistant = tmp_path / "run" / ".state" / "assistant_1.keras"
    assert CachedTeacher.open(caches[0], teacher=assistant).views == 2
    cached = CachedTeacher.open(caches[1], teacher=tmp_path / "run" / "teacher.keras")
    assert cached.describe()["outputs"]["output"]["k"] == 6
    _, again = run_recipe(tmp_path / "run", *overrides)
    assert again.count("trained before with these settings") == 4


def test_a_cached_run_is_the_live_one(tmp_path, run_recipe):
    """With as many views as epochs, in full precision, the students agree up to float16."""
    weights = []
    for name, more in (("live", []), ("cached", ["cache={views: 2}"])):
        run_recipe(tmp_path / name, *QUICK, AUGMENT, "export.formats=[float32]", *more)
        weights.append(keras.models.load_model(tmp_path / name / "student.keras", compile=False).get_weights())
    for live, cached in zip(*weights, strict=True):
        np.testing.assert_allclose(live, cached, atol=2e-3)


def test_a_cache_contains_the_layers_that_the_losses_read(tmp_path, make_recipe):
    overrides = ["teacher.model=digits_teacher", "teacher.epochs=1", "student.model=digits_student", "cache={}"]
    loss = "distillation.losses=[soft_targets, {name: hint, teacher: block_3_out, student: block_4_relu}]"
    path = recipes.build_cache(make_recipe(tmp_path / "run", *QUICK, *overrides, loss))
    assert list(CachedTeacher.open(path).describe()["taps"]) == ["block_3_out"]


def test_shares_of_a_cache(tmp_path, make_recipe):
    recipe = make_recipe(tmp_path / "run", *QUICK, "cache={}")
    path = recipes.build_cache(recipe, shard=1, num_shards=2)
    with pytest.raises(TeacherError, match="is incomplete"):
        CachedTeacher.open(path)
    recipes.build_cache(recipe, shard=0, num_shards=2)
    assert CachedTeacher.open(path).describe()["shards"] == 2
    with pytest.raises(RecipeError, match="the recipe has no such section"):
        recipes.build_cache(make_recipe(tmp_path / "run", *QUICK))


def test_a_given_teacher_has_a_cache_for_each_augmentation(tmp_path, start_recipe, teacher_file, monkeypatch):
    """Also in a run folder that is named relative to the working one."""
    monkeypatch.chdir(tmp_path)
    settings = (*QUICK, f"teacher.model={teacher_file}", "cache={}", "student.epochs=1")
    moved = "augment=[{name: pad_and_crop, pixels: 1}]"
    read = []
    for augment in ("augment=[]", moved, "augment=[]"):
        artifacts = start_recipe("run", *settings, augment).run()
        read.append(artifacts["cache_teacher"].file)
        assert CachedTeacher.open(Path("run") / read[-1].parent).describe()["shards"] > 0
        assert np.isfinite(artifacts["distilled"].record["history"]["loss"]).all()
    assert read[0] == read[2] != read[1]


def test_an_ensemble_in_half_precision(tmp_path, run_recipe, teacher_file):
    overrides = [f"teacher.ensemble_with=[{teacher_file}]", "teacher.weights=[1, 3]", "teacher.dtype=bfloat16"]
    report, _ = run_recipe(tmp_path / "run", *QUICK, *overrides)
    teacher = next(row for row in report.rows if row.id == TEACHER)
    assert teacher.parameters == 2 * keras.models.load_model(teacher_file).count_params()
    assert teacher.num_bytes is None and teacher["accuracy"] > 0.5


def test_a_tflite_teacher(tmp_path, run_recipe, teacher_file):
    model = keras.models.load_model(teacher_file, compile=False)
    file = tmp_path / "t.tflite"
    export.export_tflite(model, file, isolate=False)
    report, said = run_recipe(tmp_path / "run", *QUICK, f"teacher.model={file}", "cache={}")
    rows = {row.id: row for row in report.rows}
    x, y = data.open_source("digits").test.arrays()
    assert rows[TEACHER]["accuracy"] == pytest.approx((model.predict(x, verbose=0).argmax(-1) == y).mean())
    assert rows[DISTILLED]["accuracy"] > 0.3 and f"teacher: loaded {file}." in said
    assert not (tmp_path / "run" / "teacher.keras").exists()


def test_mixed_images_have_mixed_labels(tmp_path, run_recipe, teacher_file):
    """Training losses use class shares; validation losses still use the labels."""
    overrides = [f"teacher.model={teacher_file}", "augment=[{name: cut_mix, alpha: 0.5}, mixup]", "cache={views: 2}"]
    report, _ = run_recipe(tmp_path / "run", *overrides, "few_labels={num_labels: 100}", "export.formats=[float32]")
    rows = {row.id: row for row in report.rows}
    assert rows[DISTILLED]["accuracy"] > 0.3 and rows["few_distilled"]["accuracy"] > 0.3
    x, y = data.open_source("digits").validation.arrays()
    student = keras.models.load_model(tmp_path / "run" / "student.keras", compile=False)
    log_p = log_softmax(student.predict(x, verbose=0).astype("float64"), axis=-1)
    expected = -log_p[np.arange(len(y)), y].mean()
    assert report.histories[DISTILLED]["val_loss"][-1] == pytest.approx(expected, rel=1e-5)
    for history in report.histories.values():
        assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]


def test_stored_logits(tmp_path, run_recipe, make_recipe, teacher_file):
    """The student equals that of the live teacher; a teacher that only covers the training images has no row."""
    model, source = keras.models.load_model(teacher_file, compile=False), data.open_source("digits")
    np.savez(tmp_path / "logits.npz", logits=model.predict(source.train.arrays()[0], verbose=0))
    file = tmp_path / "logits.npz"
    report, _ = run_recipe(tmp_path / "stored", *QUICK, f"teacher.model={file}")
    run_recipe(tmp_path / "live", *QUICK, f"teacher.model={teacher_file}")
    stored, live = (
        keras.models.load_model(tmp_path / name / "student.keras", compile=False) for name in ("stored", "live")
    )
    for one, other in zip(stored.get_weights(), live.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert TEACHER not in [row.id for row in report.rows] and not report.soft_targets
    assert (
        recipes.diagnose_teacher(make_recipe(tmp_path / "stored", *QUICK, f"teacher.model={file}")).train.accuracy > 0.5
    )
    with pytest.raises(RecipeError, match="teacher: The pipeline augments its examples"):
        check_recipe(make_recipe(tmp_path / "other", *QUICK, f"teacher.model={file}", AUGMENT))


@pytest.mark.filterwarnings("ignore:Distillation uses logits")
def test_a_function_as_the_teacher(tmp_path, run_recipe, make_recipe, monkeypatch):
    """scikit-learn's nearest neighbors teach; a function's result is not trained unless it is a Keras model."""
    (tmp_path / "neighbors.py").write_text(NEIGHBORS)
    monkeypatch.syspath_prepend(tmp_path)
    report, said = run_recipe(tmp_path / "run", *QUICK, "teacher.model=neighbors:teacher", "cache={top_k: 3}", AUGMENT)
    rows = {row.id: row for row in report.rows}
    assert rows[TEACHER]["accuracy"] > 0.95 and rows[DISTILLED]["accuracy"] > 0.3
    assert "teacher: loaded neighbors:teacher." in said and TEACHER not in report.histories
    with pytest.raises(RecipeError, match="teacher: Only Keras models support a 'dtype'"):
        check_recipe(make_recipe(tmp_path / "x", *QUICK, "teacher.model=neighbors:teacher", "teacher.dtype=float32"))
    with pytest.raises(RecipeError, match="teacher.epochs: this key is missing"):
        check_recipe(make_recipe(tmp_path / "x", *QUICK, "teacher={model: 'example_models:teacher'}"))


@pytest.mark.parametrize("cache", ["null", "{}"])
def test_all_models_before_guide_the_student(cache, tmp_path, run_recipe, make_recipe, teacher_file):
    assistant = "{model: 'example_models:student', epochs: 1}"
    overrides = [f"teacher.model={teacher_file}", f"assistants=[{assistant}, {assistant}]", "guidance=all", "drop=0.25"]
    report, _ = run_recipe(tmp_path / "run", *QUICK, *overrides, f"cache={cache}")
    history = report.histories[DISTILLED]
    terms = sorted(name for name in history if name.startswith("soft_targets_"))
    assert terms == [f"soft_targets_{name}" for name in ("assistant_1", "assistant_2", "teacher")]
    np.testing.assert_allclose(sum(np.array(history[name]) for name in terms), history["distillation_loss"], rtol=1e-5)
    with pytest.raises(RecipeError, match="guidance: several teachers support soft targets only"):
        check_recipe(make_recipe(tmp_path / "other", *QUICK, *overrides, "distillation.losses=[soft_targets]"))


def test_the_diagnosis(tmp_path, make_recipe, teacher_file):
    recipe = make_recipe(tmp_path / "run", *QUICK, f"teacher.model={teacher_file}")
    found = recipes.diagnose_teacher(recipe)
    x, y = data.open_source("digits").validation.arrays()
    logits = FrozenTeacher(teacher_file).model.predict(x, verbose=0)
    assert found.validation.accuracy == pytest.approx((logits.argmax(-1) == y).mean())
    kept = json.loads((tmp_path / "run" / "teacher_diagnosis.json").read_text())
    assert kept["validation"]["accuracy"] == pytest.approx(found.validation.accuracy)
    assert (tmp_path / "run" / "teacher_reliability.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment=[flop]", "augment: Unknown augmentation.*Did you mean 'flip'"),
        ("augment=[{name: pad_and_crop, pixels: -1}]", "augment: .*pixels"),
        ("teacher.ensemble_with=[nowhere.keras]", "teacher.ensemble_with: file not found.*nowhere.keras"),
        ("assistants=[{model: nobody, epochs: 1}]", "assistant 1.model: unknown model.*nobody"),
        ("cache={views: 0}", "cache.views"),
        ("cache={top_q: 3}", "cache.top_q: unknown key"),
        ("teacher.dtype=int8", "teacher.dtype"),
        ("drop=0.25", "drop: a single teacher cannot be dropped"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_written(tmp_path, make_recipe, override, message):
    with pytest.raises(RecipeError, match=message):
        check_recipe(make_recipe(tmp_path / "run", *QUICK, override))
    assert not (tmp_path / "run").exists()
