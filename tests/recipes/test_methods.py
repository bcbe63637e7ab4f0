"""The methods of distillation other than by a teacher: what is refused, what is trained, and from what."""

import base64
import html
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.special import softmax

from keras_kd import data, recipes
from keras_kd.errors import ConfigurationError, RecipeError
from keras_kd.evaluation.comparison import SynthesizedImage, SynthesizedImages
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.methods.self_taught import own_history
from keras_kd.recipes.reading.names import check_names
from keras_kd.regimes import DataFreeDistiller
from keras_kd.synthesis import DeepInversion
from keras_kd.teachers.frozen import fingerprint

NO_TEACHER = "teacher=null"
FEW_STEPS = "student.batch_size=256"  # they run eagerly
EXITS = "distillation={method: self, exits: [hidden], alpha: 0.3}"
NAMED = "student.model=example_models:named_student"
ZSKT = "distillation={method: data_free, synthesizer: {name: zskt, images: 30, steps_per_epoch: 3, student_steps: 2}}"
DAFL = "distillation={method: data_free, synthesizer: {name: dafl, images: 30, steps_per_epoch: 3}}"
INVERSION = (
    "distillation={method: data_free, synthesizer: "
    "{name: deep_inversion, images: 30, steps: 2, batch_size: 12, batch_norm: 0}}"
)


def refused(*overrides):
    with pytest.raises(RecipeError) as caught:
        recipes.load(None, ["few_labels=null", *overrides])
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distillation={method: sefl}"], "distillation.method: invalid value. Received: 'sefl'. Expected: one of "),
        (["distillation.method=null"], "distillation.method: invalid value."),
        (["distillation=3"], "distillation: invalid value. Received: 3."),
        (["distillation={method: self}"], "distillation: invalid value. .*Expected: exits: .layers., or teacher: ema"),
        (["distillation={method: self, exits: [a], teacher: ema}"], "distillation: invalid value. .*not both"),
        (["distillation={method: self, exits: []}"], "distillation.exits: invalid value. .*at least one layer"),
        (["distillation={method: self, exits: [a, a]}"], "distillation.exits: invalid value. .*different layers"),
        (["distillation={method: self, exits: stem}"], "distillation.exits: .* Expected: a list"),
        (["distillation={method: self, teacher: ema, dekay: 1}"], "distillation.dekay: unknown key.*mean 'decay'"),
        (["distillation={method: self, teacher: ema, self: 1}"], "distillation.self: unknown key"),
        (["distillation={method: self, teacher: ema, decay: 1.5}"], "distillation.decay: .*less than or equal to 1"),
        (["distillation={method: self, teacher: ema, correct: 0.5}"], "distillation.correct: .*label_smoothing alone"),
        (["distillation={method: self, exits: [a], decay: 0.5}"], "distillation.decay: .*teacher: ema alone"),
        (["distillation={method: self, teacher: ema, losses: [hint]}"], "distillation.losses: .* Expected: null"),
        (["distillation={method: self, teacher: ema, steps_per_epoch: 3}"], "distillation.steps_per_epoch: unknown"),
        (["distillation={method: mutual, peers: 0}"], "distillation.peers: .*1 to 100 peers"),
        (["distillation={method: mutual, peers: []}"], "distillation.peers: .*1 to 100 peers"),
        (["distillation={method: mutual, peers: true}"], "distillation.peers: .*a whole number or a list"),
        (["distillation={method: mutual, mode: one}"], "distillation: .*also at, the last layer"),
        (["distillation={method: mutual, mode: one, at: a, peers: [b]}"], "distillation.peers: .*branches"),
        (["distillation={method: mutual, at: a}"], "distillation.at: .*mode: one alone"),
        (["distillation={method: mutual, rule: best}"], "distillation.rule: .*mode: kdcl alone"),
        (["distillation={method: mutual}", "student.model=a.keras"], "distillation.peers: copies of a trained file"),
        (["distillation={method: data_free}"], "distillation.synthesizer: this key is missing"),
        (["distillation={method: data_free, synthesizer: dalf}"], "distillation.synthesizer.name: .*'dalf'"),
        (
            ["distillation={method: data_free, synthesizer: {name: dafl, steps: 3}}"],
            "distillation.synthesizer.steps: u",
        ),
        (["distillation={method: data_free, synthesizer: dafl, alpha: 0.5}"], "distillation: .*no alpha with dafl"),
        (["distillation={method: data_free, synthesizer: zskt, alpha: 0.5}"], "distillation: .*no alpha with zskt"),
        (
            ["distillation={method: data_free, synthesizer: {name: zskt, attention: [[a, b, c]]}}"],
            "distillation.synthesizer.attention",
        ),
        ([EXITS.replace("}", ", adversary: {name: fgsm, epsilon: 0.1}}")], "distillation.adversary: .*Expected: null"),
        ([NO_TEACHER, "distillation={method: data_free, synthesizer: dafl}"], "teacher: this key is missing"),
        ([NO_TEACHER], "teacher: this key is missing"),
        (
            [EXITS, "data.curriculum={name: teacher_confidence, start: 0.3, full_after: 9}"],
            "data.curriculum: .*method: self. Expected: data.curriculum: null",
        ),
        ([EXITS, "cache={}"], "cache: .*method: self. Expected: cache: null"),
        ([EXITS, "assistants=[{model: mlp, epochs: 1}]"], r"assistants: .* Expected: assistants: \[\]\.$"),
        ([EXITS, "guidance=all", "drop=0.5"], "guidance: .*\ndrop: "),
        ([EXITS, "few_labels={}"], "few_labels: .* Expected: few_labels: null"),
        ([EXITS, "student.epochs=null", "student.model=a.keras"], "student.epochs: .* Expected: a number of epochs"),
        ([DAFL, "teacher.ensemble_with=[b.keras]"], "teacher.ensemble_with: "),
        ([DAFL, "augment=[flip]", "teacher.model=a.keras", "teacher.epochs=null"], "augment: "),
        (["few_labels={method: self}"], "few_labels.method: unknown key"),
    ],
)
def test_settings_that_a_method_does_not_have_are_refused(overrides, message):
    assert re.match(message, refused(*overrides), re.DOTALL)


def test_a_misspelled_peer_is_refused():
    recipe = recipes.load(None, ["few_labels=null", "distillation={method: mutual, peers: [resnet8, resnet21]}"])
    with pytest.raises(RecipeError, match=r"^distillation.peers: .*resnet21"):
        check_names(recipe)


def test_nothing_heavy_is_loaded_before_a_refusal():
    code = (
        "import sys, keras_kd.recipes as r\n"
        "try: r.load(None, ['few_labels=null', 'distillation={method: self, teacher: ema, correct: 1}'])\n"
        "except Exception: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([NO_TEACHER, "distillation={method: self, exits: [hiden]}"], "distillation: .*hiden"),
        ([NO_TEACHER, "distillation={method: mutual, mode: one, at: nowhere}"], "distillation: .*nowhere"),
        ([NO_TEACHER, "distillation={method: mutual, peers: ['example_models:teacher']}"], None),
        (
            [NO_TEACHER, "distillation={method: mutual, peers: ['example_models:with_another_class_count']}"],
            "peer 2.model: ",
        ),
        ([INVERSION.replace("batch_norm: 0", "flip: true")], "distillation: .*no batch normalization"),
        (["teacher.model=example_models:failing", EXITS], "teacher.model: "),
        ([DAFL, "student.batch_size=1"], "distillation: .*batch of one image"),
        ([NO_TEACHER, EXITS, "augment=[wobble]"], "augment: "),
    ],
)
def test_models_that_do_not_fit_are_refused(make_recipe, tmp_path, overrides, message):
    recipe = make_recipe(tmp_path / "run", NAMED, *overrides)
    if message is None:
        assert set(check_recipe(recipe).models) == {"peer_2", "student"}
        return
    with pytest.raises(RecipeError, match=f"^{message}"):
        check_recipe(recipe)
    assert not (tmp_path / "run").exists()


def test_peers_with_the_same_weights_are_refused(make_recipe, tmp_path, example_models, monkeypatch):
    def seeded(input_shape, num_classes):
        kernel = keras.initializers.GlorotUniform(seed=1)
        hidden = [keras.layers.Flatten(), keras.layers.Dense(num_classes, kernel_initializer=kernel)]
        return keras.Sequential([keras.Input(input_shape), *hidden])

    monkeypatch.setattr(example_models, "seeded", seeded, raising=False)
    settings = ["student.model=example_models:seeded", NO_TEACHER, "distillation={method: mutual}"]
    with pytest.raises(RecipeError, match=r"^distillation: Peers with the same initial weights .* 2 peers, 1 of"):
        check_recipe(make_recipe(tmp_path / "run", *settings))


def test_images_are_synthesized_for_classifiers_of_images_alone(make_recipe, tmp_path):
    rows = np.random.default_rng(0).random((60, 5), "float32")
    np.savez(tmp_path / "rows.npz", x=rows, y=rows.sum(1))
    source = f"data={{source: 'npz:{tmp_path / 'rows.npz'}'}}"
    with pytest.raises(RecipeError, match=r"^distillation: Images are synthesized .* 'regression'"):
        check_recipe(make_recipe(tmp_path / "run", source, DAFL))
    np.savez(tmp_path / "rows.npz", x=rows, y=np.arange(60) % 3)
    with pytest.raises(RecipeError, match="^distillation: "):
        check_recipe(make_recipe(tmp_path / "run", source, DAFL))


def load_model(folder, name="student.keras"):
    return keras.models.load_model(folder / name, compile=False)


def test_a_student_with_exits_keeps_only_its_own_layers(start_recipe, tmp_path, eager):
    run = start_recipe(tmp_path / "run", FEW_STEPS, NAMED, NO_TEACHER, EXITS)
    made = run.run(Role.SCRATCH, Role.DISTILLED)
    student, alone = load_model(tmp_path / "run"), load_model(tmp_path / "run", ".state/scratch.keras")
    assert [w.shape for w in student.weights] == [w.shape for w in alone.weights]
    assert not np.array_equal(student.weights[0], alone.weights[0])
    assert made["distilled"].record["conditions"] == made["scratch"].record["conditions"]
    history = made["distilled"].record["history"]
    x, y = data.open_source("digits").validation.arrays()
    accuracy = (student.predict(x, verbose=0).argmax(1) == y).mean()
    assert history["val_accuracy"][-1] == pytest.approx(accuracy, abs=1e-6)
    assert {"exit_1_accuracy", "val_loss", "loss", "total_loss"} <= set(history)
    assert "teacher" not in run.plan and "diagnosis" not in run.plan


@pytest.mark.parametrize("teacher", ["ema, decay: 0.9", "previous_epoch", "label_smoothing, correct: 0.9"])
def test_a_student_teaches_itself(teacher, start_recipe, tmp_path, eager):
    settings = f"distillation={{method: self, teacher: {teacher}}}"
    made = start_recipe(tmp_path / "run", FEW_STEPS, NO_TEACHER, settings).run(Role.SCRATCH, Role.DISTILLED)
    one, other = (made[id].record for id in ("scratch", "distilled"))
    assert one["conditions"] == other["conditions"]
    assert one["history"]["loss"] != other["history"]["loss"]
    alpha = other["history"]["alpha"]
    assert alpha == ([0.0, 0.5] if teacher == "previous_epoch" else [0.5, 0.5])


def test_a_given_teacher_is_measured_and_does_not_teach(start_recipe, tmp_path, eager):
    self_taught = "distillation={method: self, teacher: ema}"
    alone = start_recipe(tmp_path / "alone", FEW_STEPS, NO_TEACHER, self_taught).run(Role.DISTILLED)
    run = start_recipe(tmp_path / "run", FEW_STEPS, "teacher.batch_size=512", self_taught)
    assert run.run(Role.TEACHER, Role.DISTILLED)["distilled"].record == alone["distilled"].record
    assert run.plan["teacher"] in run.plan["measurements"].inputs


@pytest.mark.parametrize(
    "settings",
    [
        "mode: dml, peers: 2",
        "mode: kdcl, rule: mean",
        "mode: one, at: hidden",
        "mode: okddip, peers: 2",
        "peers: ['{0}']",
    ],
)
def test_the_best_peer_is_the_student(settings, start_recipe, tmp_path, eager):
    other = "example_models:named_teacher"
    method = f"distillation={{method: mutual, {settings.format(other)}}}"
    made = start_recipe(tmp_path / "run", FEW_STEPS, NAMED, NO_TEACHER, method).run(Role.SCRATCH, Role.DISTILLED)
    record = made["distilled"].record
    (note,) = record["notes"]
    measured = {int(number): float(value) for number, value in re.findall(r"peer (\d) (0\.\d+)", note)}
    assert len(measured) == (3 if "peers: 2" in settings else 2)
    best = max(measured, key=measured.get)
    assert f"peer {best} is the best" in note
    x, y = data.open_source("digits").validation.arrays()
    student = load_model(tmp_path / "run")
    assert (student.predict(x, verbose=0).argmax(1) == y).mean() == pytest.approx(measured[best], abs=1e-4)
    assert record["history"]["val_accuracy"][-1] == pytest.approx(measured[best], abs=1e-4)
    same = record["conditions"] == made["scratch"].record["conditions"]
    assert same == (best == 1)
    assert record["conditions"].get("peer") == (None if best == 1 else f"peer {best}")


def test_a_better_peer_goes_on(start_recipe, tmp_path, eager):
    """The student starts far from any solution; its peer of another architecture does not."""
    method = "distillation={method: mutual, alpha: 0.0, peers: ['example_models:named_teacher']}"
    student = "student.model=example_models:blind_student"
    made = start_recipe(tmp_path / "run", FEW_STEPS, student, NO_TEACHER, method).run(Role.DISTILLED)
    assert made["distilled"].record["conditions"]["peer"] == "peer 2"
    assert load_model(tmp_path / "run").get_layer("hidden").units == 24


@pytest.fixture
def without_data(example_models, tmp_path, start_recipe, eager):
    """Starts a recipe with a trained teacher and a training split whose images cannot be read."""
    keras.utils.set_random_seed(3)
    example_models.named_teacher((8, 8, 1), 10).save(tmp_path / "teacher.keras")

    def start(*overrides):
        given = [f"teacher.model={tmp_path / 'teacher.keras'}", "teacher.epochs=null"]
        run = start_recipe(tmp_path / "run", FEW_STEPS, *given, *overrides)

        class Unreadable:
            num_examples = run.plan.checked.source.train.num_examples
            labels = run.plan.checked.source.train.labels()  # their shape is that of the outputs

            def __getattr__(self, name):
                raise AssertionError(f"the training images were read: {name}")

        object.__setattr__(run.plan.checked.source.train, "records", Unreadable())
        return run

    return start


@pytest.mark.parametrize("method", [DAFL, ZSKT, INVERSION], ids=["dafl", "zskt", "deep_inversion"])
def test_no_training_image_is_read(method, without_data, tmp_path):
    run = without_data(method, "compress=[{name: pruning, sparsity: 0.5, epochs: 1}]", "augment=[]")
    made = run.run(Role.DIAGNOSIS, Role.SYNTHESIZED, Role.GENERATOR, *MODELS)
    assert "scratch" not in made
    with np.load(tmp_path / "run" / "synthesized.npz") as arrays:
        images, classes = arrays["images"], arrays["classes"]
    assert images.shape == (30, 8, 8, 1) and 0 <= images.min() < images.max() <= 1
    np.testing.assert_array_equal(np.unique(run.context.calibration, axis=0), np.unique(images, axis=0))
    assert made["compressed_1"].record["conditions"]["examples"] == "synthesized images"
    teacher = load_model(tmp_path / "run", "teacher.keras")
    if method is not INVERSION:
        np.testing.assert_array_equal(classes, teacher.predict(images, verbose=0).argmax(1))
        assert made["distilled"].record["conditions"]["steps"] == 2 * 3
    else:
        assert made["distilled"].record["conditions"]["examples"] == "synthesized images"
        assert sorted(classes) == sorted(np.arange(30) % 10)
        expected, labels = DeepInversion(
            teacher, steps=2, batch_size=12, batch_norm=0.0, value_range=(0.0, 1.0)
        ).images(30, progress=False)
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(classes, labels)


def test_the_student_of_a_generator_is_the_one_that_was_trained(without_data, tmp_path, monkeypatch):
    trained = []
    fit = DataFreeDistiller.fit
    monkeypatch.setattr(
        DataFreeDistiller, "fit", lambda self, *args, **kw: [fit(self, *args, **kw), trained.append(self)][0]
    )
    without_data(DAFL).run(Role.TEACHER, Role.GENERATOR, Role.DISTILLED)
    assert fingerprint(load_model(tmp_path / "run")) == fingerprint(trained[0].student)
    assert [type(layer).__name__ for layer in load_model(tmp_path / "run").layers][0] == "Flatten"


def test_a_synthesis_resumes_after_its_last_batch(without_data, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    optimized, calls = DeepInversion._optimized, []

    def counted(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        return optimized(self, *args)

    monkeypatch.setattr(DeepInversion, "_optimized", counted)
    with pytest.raises(Killed):
        without_data(INVERSION).run(Role.TEACHER, Role.SYNTHESIZED)
    run = without_data(INVERSION)
    run.run(Role.TEACHER, Role.SYNTHESIZED)
    assert len(calls) == 4 and "resuming after 2 of 3 batches" in run.said()
    assert not list((tmp_path / "run" / ".state").glob("synthesis-*"))
    with np.load(tmp_path / "run" / "synthesized.npz") as arrays:
        teacher = load_model(tmp_path / "run", "teacher.keras")
        settings = {"steps": 2, "batch_size": 12, "batch_norm": 0.0, "value_range": (0.0, 1.0)}
        expected, _ = DeepInversion(teacher, **settings).images(30, progress=False)
        np.testing.assert_array_equal(arrays["images"], expected)


def test_the_sheet_shows_the_images_and_the_predictions_of_the_teacher(run_recipe, tmp_path):
    folder = tmp_path / "run"
    report, _ = run_recipe(folder, DAFL, "export.formats=[int8]")
    teacher = load_model(folder, "teacher.keras")
    with np.load(folder / "synthesized.npz") as arrays:
        images = arrays["images"]
    shares = softmax(teacher.predict(images, verbose=0).astype("float64"), axis=1)
    page = (folder / "report.html").read_text()
    section = page[page.index('id="synthesized"') :].split("</section>")[0]
    pattern = r'<img src="data:image/png;base64,([^"]*)" alt="([^"]*)">\s*<figcaption>(.*?)</figcaption>'
    found = re.findall(pattern, section, re.DOTALL)
    kept = json.loads((folder / "report.json").read_text())["synthesized"]
    assert len(found) == len(kept["images"]) == 24 and kept["count"] == 30
    rows = [index * 29 // 23 for index in range(24)]  # evenly spaced, from the first to the last
    for row, (png, alt, caption), image in zip(rows, found, kept["images"], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
        np.testing.assert_array_equal(pixels, np.round(255 * images[row, ..., 0].astype("float64")))
        predicted = int(shares[row].argmax())
        assert (image["predicted"], round(image["confidence"], 6)) == (predicted, round(shares[row, predicted], 6))
        text = re.sub(r"<[^>]*>", "", html.unescape(caption)).strip()
        assert text == f"teacher: {predicted} ({100 * shares[row, predicted]:.0f}%)"
        assert alt.endswith(f"class {predicted} by the teacher")
    assert {row.id for row in report.rows} == {"teacher", "distilled", "export_int8"}
    assert type(report).from_dict(report.to_dict()) == report


@pytest.mark.parametrize("values", [{"predicted": -1}, {"confidence": 1.5}])
def test_invalid_images_are_refused(values):
    with pytest.raises(ConfigurationError):
        SynthesizedImage(**{"predicted": 0, "confidence": 0.5, "image": ""} | values)
    with pytest.raises(ConfigurationError):
        SynthesizedImages([], 3, [0.0, 1.0])


def test_the_history_of_one_output():
    history = {"loss": [3.0], "student_loss": [3.5], "val_loss": [4.0], "alpha": [0.5]}
    history |= {"peer_1_loss": [1.0], "val_peer_1_loss": [2.0], "peer_10_loss": [7.0]}
    assert own_history(history, "peer_1") == {
        "total_loss": [3.0],
        "total_student_loss": [3.5],
        "alpha": [0.5],
        "loss": [1.0],
        "val_loss": [2.0],
        "peer_10_loss": [7.0],
    }
    assert own_history({"loss": [1.0]}, "output") == {"loss": [1.0]}


# Kills.

METHODS = {
    "self": (NAMED, NO_TEACHER, EXITS),
    "mutual": (NO_TEACHER, "distillation={method: mutual, peers: 2}"),
    "dafl": (DAFL.replace("steps_per_epoch: 3", "steps_per_epoch: 12"),),
    "deep_inversion": (INVERSION,),
}


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_ends_like_an_uninterrupted_one(method, start, run_recipe, make_recipe, tmp_path):
    """SIGKILL in an epoch, or in a batch of the synthesis."""
    small = ("export.formats=[float32]", "student.epochs=4")
    run_recipe(tmp_path / "whole", *METHODS[method], *small)
    file = tmp_path / "recipe.yaml"
    recipe = make_recipe(tmp_path / "run", *METHODS[method], *small)
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    moment, stage = ("in_an_epoch", "data_free" if method == "dafl" else "distilled")
    if method == "deep_inversion":
        moment = "in_a_synthesis"
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    script = Path(__file__).with_name("moments.py")
    done = start(sys.executable, script, moment, stage, "run", file, env=environment).wait()
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "run" / "student.keras").exists()

    report, said = run_recipe(tmp_path / "run", *METHODS[method], *small)
    assert "resuming after" in said
    assert report.title == f"digits: from {'student' if NO_TEACHER in METHODS[method] else 'teacher'} to phone"
    one, other = (load_model(tmp_path / folder).get_weights() for folder in ("run", "whole"))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "run" / "history.json").read_text() == (tmp_path / "whole" / "history.json").read_text()
