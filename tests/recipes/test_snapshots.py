"""The teacher at several times of its training as the teacher in a recipe: an ensemble, or a route."""

import math
import re
import shutil

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from keras_kd import data, recipes
from keras_kd.errors import Notice, RecipeError
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.methods.snapshots import SnapshotsTraining
from keras_kd.recipes.stages import training
from keras_kd.teachers import Ensemble, FrozenTeacher, Route
from keras_kd.teachers.base import Batch

SHORT = ("teacher.epochs=4", "teacher.batch_size=256", "student.batch_size=256")
ENSEMBLE = "teacher.snapshots={number: 2, use: ensemble}"
ROUTE = "teacher.snapshots={number: 2, use: route}"
TAUGHT = (Role.SNAPSHOTS, Role.TEACHER, Role.DISTILLED)
FLOAT32 = "export.formats=[float32]"
STEPS = 5  # per epoch: 1,078 examples in batches of 256


def load_model(file):
    return keras.models.load_model(file, compile=False)


def snapshots_in(folder):
    return sorted((folder / ".state").glob("snapshots-*/epoch-*.keras"))


@pytest.fixture
def taught(monkeypatch):
    """The teachers of the trainings by distillation, in their order."""
    made, make = [], training.make_distiller
    monkeypatch.setattr(
        training, "make_distiller", lambda *args, **options: [made.append(args[0]), make(*args, **options)][1]
    )
    return made


def recorded(monkeypatch, stage, record):
    """Calls `record(model)` at the end of each epoch of these trainings; returns what it returned."""
    found, callbacks = [], stage.callbacks

    def with_recorder(self, context):
        recorder = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: found.append(record(recorder.model)))
        return [*callbacks(self, context), recorder]

    monkeypatch.setattr(stage, "callbacks", with_recorder)
    return found


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("use", [ENSEMBLE, ROUTE], ids=["ensemble", "route"])
def test_the_snapshots_are_those_of_their_epochs(use, start_recipe, tmp_path, monkeypatch):
    state = lambda model: (model.get_weights(), float(model.optimizer.learning_rate))  # noqa: E731
    epochs = recorded(monkeypatch, SnapshotsTraining, state)
    start_recipe(tmp_path / "run", *SHORT, use).run(Role.SNAPSHOTS, Role.TEACHER)
    files = snapshots_in(tmp_path / "run")
    assert [file.name for file in files] == ["epoch-0002.keras", "epoch-0004.keras"]
    finished = load_model(tmp_path / "run" / "teacher.keras").get_weights()
    for file, (weights, _) in zip(files, epochs[1::2], strict=True):
        for one, other in zip(load_model(file).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(finished, epochs[3][0], strict=True):
        np.testing.assert_array_equal(one, other)
    cycle = 2 * STEPS if use is ENSEMBLE else 4 * STEPS  # it starts again after each member of an ensemble
    steps = [STEPS * epoch % cycle for epoch in (1, 2, 3)]
    expected = [0.01 * (1 + math.cos(math.pi * step / cycle)) / 2 for step in steps]
    assert [rate for _, rate in epochs[:3]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("settings", "combine"),
    [
        ((), lambda z: logsumexp(log_softmax(z, -1), 0) - math.log(2)),
        (("teacher.weights=[3, 1]", "teacher.combine=logits"), lambda z: 0.75 * z[0] + 0.25 * z[1]),
    ],
    ids=["equal", "weighted"],
)
def test_the_ensemble_is_the_mean_of_the_snapshots(settings, combine, start_recipe, tmp_path, taught):
    start_recipe(tmp_path / "run", *SHORT, ENSEMBLE, *settings).run(*TAUGHT)
    x = data.open_source("digits").test.arrays()[0][:100]
    z = np.stack([load_model(file).predict(x, verbose=0) for file in snapshots_in(tmp_path / "run")]).astype("float64")
    (teacher,) = taught
    assert isinstance(teacher, Ensemble)
    (found,) = teacher(Batch(keras.ops.convert_to_tensor(x))).outputs.values()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), combine(z), rtol=1e-4, atol=1e-4)
    assert np.abs(combine(z) - z[1]).max() > 0.01


@pytest.mark.usefixtures("eager")
def test_the_snapshots_of_a_route_teach_one_after_the_other(start_recipe, tmp_path, taught, monkeypatch):
    """And the finished teacher teaches the compressed copies of the student."""
    x = data.open_source("digits").test.arrays()[0][:20]

    def outputs(model):
        teacher = getattr(model, "teacher", None)
        if not isinstance(teacher, Route):
            return None
        (found,) = teacher(Batch(keras.ops.convert_to_tensor(x))).outputs.values()
        return keras.ops.convert_to_numpy(found)

    epochs = recorded(monkeypatch, training.Training, outputs)
    compress = "compress=[{name: pruning, sparsity: 0.5, epochs: 1}]"
    run = start_recipe(tmp_path / "run", *SHORT, ROUTE, "student.epochs=5", compress)
    run.run(*TAUGHT, Role.MODEL)
    z = [load_model(file).predict(x, verbose=0) for file in snapshots_in(tmp_path / "run")]
    by_route = [found for found in epochs if found is not None]
    assert len(by_route) == 5
    for epoch, found in enumerate(by_route):
        np.testing.assert_allclose(found, z[min(epoch // 2, 1)], rtol=1e-4, atol=1e-5)
    assert not np.allclose(z[0], z[1], atol=0.01)
    assert [type(teacher) for teacher in taught[:1]] == [Route] and not isinstance(taught[1], Route)
    assert run.plan["compressed_1"].inputs[0] is run.plan["teacher"]


def test_a_whole_run(run_recipe, tmp_path, monkeypatch):
    """With a cache of the ensemble and an assistant; the row of the teacher is that of the finished one."""
    folder = tmp_path / "run"
    assistants = "assistants=[{model: 'example_models:other_student', epochs: 1}]"
    settings = (*SHORT, ENSEMBLE, "cache={}", assistants, FLOAT32, "few_labels={num_labels: 50}")
    report, said = run_recipe(folder, *settings)
    x, y = data.open_source("digits").test.arrays()
    accuracy = (load_model(folder / "teacher.keras").predict(x, verbose=0).argmax(1) == y).mean()
    assert report.rows[0].id == "teacher" and report.rows[0]["accuracy"] == pytest.approx(accuracy, abs=1e-12)
    assert len(report.histories["teacher"]["loss"]) == 4 and "snapshots" not in report.histories
    assert "snapshots, cache: 1,078 examples x 1 view." in said
    again, said = run_recipe(folder, *settings)
    assert again.rows == report.rows and "loaded 2 snapshots in" in said and "measurements: none" in said
    snapshots_in(folder)[0].write_bytes(b"something else")
    trained = start_over(run_recipe, folder, settings, monkeypatch)
    assert trained[0] == "snapshots" and all(load_model(file).built for file in snapshots_in(folder))


def start_over(run_recipe, folder, settings, monkeypatch):
    """The ids of the stages that are trained in another run."""
    trained, train = [], training.Training.train
    monkeypatch.setattr(
        training.Training, "train", lambda self, context: [trained.append(self.id), train(self, context)][1]
    )
    run_recipe(folder, *settings)
    return trained


@pytest.mark.usefixtures("eager")
def test_another_number_or_use_is_trained_again(start_recipe, tmp_path):
    folder = tmp_path / "run"
    start_recipe(folder, *SHORT).run(Role.TEACHER)
    run = start_recipe(folder, *SHORT, ENSEMBLE)
    run.run(Role.SNAPSHOTS, Role.TEACHER)
    assert "teacher.keras: " in run.said() and "replaced by the last snapshot." in run.said()
    first = snapshots_in(folder)
    start_recipe(folder, *SHORT, ENSEMBLE.replace("2", "4")).run(Role.SNAPSHOTS, Role.TEACHER)
    assert len(snapshots_in(folder)) == 4 and not set(first) & set(snapshots_in(folder))
    keys = [start_recipe(folder, *SHORT, use).plan["snapshots"].key() for use in (ENSEMBLE, ROUTE)]
    assert keys[0] != keys[1]  # the learning rate differs
    run = start_recipe(folder, *SHORT)
    run.run(Role.TEACHER)
    assert "teacher.keras: " in run.said() and "trained again." in run.said()


def test_the_keys_of_what_reads_them(start_recipe, tmp_path):
    def keys(*overrides):
        return {stage.id: stage.key() for stage in start_recipe(tmp_path / "run", *overrides).plan.stages}

    assert keys() == keys("teacher.snapshots=null") and "snapshots" not in keys()
    with_four, weighted = keys(*SHORT, ENSEMBLE), keys(*SHORT, ENSEMBLE, "teacher.combine=logits")
    changed = {id for id in with_four if with_four[id] != weighted[id]}
    assert {"distilled", "export_float32"} <= changed and not {"snapshots", "teacher", "scratch"} & changed


def test_an_interrupted_training_resumes(assert_resumes, start_recipe, tmp_path):
    settings = ("teacher.epochs=2", ENSEMBLE)
    folder = f".state/snapshots-{start_recipe(tmp_path / 'key', *settings).plan['snapshots'].key()}"
    assert_resumes("snapshots", f"{folder}/epoch-0002.keras", *settings, roles=(Role.SNAPSHOTS, Role.TEACHER))
    for file in (f"{folder}/epoch-0001.keras", "teacher.keras"):
        whole, broken = (load_model(tmp_path / run / file).get_weights() for run in ("whole", "broken"))
        for one, other in zip(whole, broken, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_interrupted_student_resumes_its_route(assert_resumes):
    assert_resumes("distilled", "student.keras", "teacher.epochs=2", "teacher.batch_size=256", ROUTE, roles=TAUGHT)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("removed", ["folder", "file"])
def test_a_state_without_its_snapshots_starts_over(removed, start_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    settings = (*SHORT, ENSEMBLE)

    def stop(model):
        if int(model.optimizer.iterations) == 3 * STEPS:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        recorded(patch, SnapshotsTraining, stop)
        start_recipe(tmp_path / "run", *settings).run(Role.SNAPSHOTS)
    (file,) = snapshots_in(tmp_path / "run")
    if removed == "folder":
        shutil.rmtree(file.parent)
        run = start_recipe(tmp_path / "run", *settings)
        run.run(Role.SNAPSHOTS, Role.TEACHER)
        assert "resuming" not in run.said()
    else:
        file.unlink()
        with pytest.warns(Notice, match="lacks the snapshots"):
            start_recipe(tmp_path / "run", *settings).run(Role.SNAPSHOTS, Role.TEACHER)
    start_recipe(tmp_path / "whole", *settings).run(Role.SNAPSHOTS, Role.TEACHER)
    for file, other in zip(*(snapshots_in(tmp_path / run) for run in ("run", "whole")), strict=True):
        for one, two in zip(load_model(file).get_weights(), load_model(other).get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)


NAMED = "{number: 4, use: %s}"


@pytest.mark.parametrize(
    ("use", "overrides", "message"),
    [
        ("ensemble", ["teacher.model=a.keras"], "teacher.snapshots: this teacher is not trained here. .*a.keras"),
        ("ensemble", ["teacher.model=a.tflite", "teacher.epochs=null"], "teacher.snapshots: this teacher is not"),
        ("ensemble", ["teacher.epochs=30"], "teacher.snapshots: they divide .*a multiple of 4 epochs"),
        ("ensemble", ["teacher.ensemble_with=[b.keras]"], "teacher.snapshots: the teacher is in one ensemble"),
        (
            "ensemble",
            ["few_labels=null", "distillation={method: self, teacher: ema}"],
            "teacher.snapshots: the student of this method",
        ),
        ("ensemble", ["few_labels=null", "distillation={method: data_free, synthesizer: dafl}"], "teacher.snapshots: "),
        ("route", ["cache={}"], "teacher.snapshots: the teacher changes .* and a cache"),
        ("route", ["assistants=[{model: mlp, epochs: 1}]"], "teacher.snapshots: assistants would be trained"),
        ("route", ["teacher.dtype=float32"], "teacher.snapshots: a route has no dtype"),
        ("route", ["teacher.combine=logits"], "teacher.snapshots: a route has no combine"),
        ("route", ["student.epochs=3"], "teacher.snapshots: each snapshot teaches for at least an epoch"),
        (
            "route",
            ["student.epochs=null", "student.model=s.keras", "few_labels=null"],
            "teacher.snapshots: a student that is not trained",
        ),
        ("route", ["distillation.adversary={name: fgsm, epsilon: 0.1}"], "teacher.snapshots: adversaries"),
        (
            "route",
            ["data.curriculum={name: teacher_confidence, start: 0.3, full_after: 9}"],
            "teacher.snapshots: the teacher changes .* teacher_confidence",
        ),
        ("rout", [], "teacher.snapshots.use: .*'ensemble' or 'route'"),
        ("route, last: 2", [], "teacher.snapshots.last: unknown key"),
        ("route, number: 1", [], "teacher.snapshots.number: .*greater than or equal to 2"),
    ],
)
def test_what_makes_no_sense_is_refused(use, overrides, message):
    with pytest.raises(RecipeError) as caught:
        recipes.load(
            None,
            [
                f"teacher.snapshots={NAMED % use}".replace("number: 4, use: route, number", "use: route, number"),
                *overrides,
            ],
        )
    assert re.match(message, str(caught.value), re.DOTALL)


def test_what_does_not_fit_the_data_or_the_models_is_refused(make_recipe, start_recipe, tmp_path, example_models):
    rows = np.random.default_rng(0).random((60, 5), "float32")
    np.savez(tmp_path / "rows.npz", x=rows, y=rows.sum(1))
    source = f"data={{source: 'npz:{tmp_path / 'rows.npz'}'}}"
    models = ["teacher.model=example_models:named_teacher", "student.model=example_models:named_student", *SHORT]
    with pytest.raises(RecipeError, match="^teacher.snapshots: The outputs of this task .*combine: logits"):
        check_recipe(make_recipe(tmp_path / "run", source, *models, ENSEMBLE))
    check_recipe(make_recipe(tmp_path / "run", source, *models, ENSEMBLE, "teacher.combine=logits"))
    with pytest.raises(RecipeError, match=r"^teacher.snapshots: 'weights' needs one value per member"):
        check_recipe(make_recipe(tmp_path / "run", *SHORT, ENSEMBLE, "teacher.weights=[1, 2, 3]"))
    with pytest.raises(RecipeError, match=r"^distillation.losses: .*hidden"):
        losses = "distillation.losses=[{name: hint, teacher: hidden, student: hidden}]"
        check_recipe(make_recipe(tmp_path / "run", *models, ENSEMBLE, losses))
    losses = "distillation.losses=[{name: hint, teacher: 1/hidden, student: hidden}]"
    check_recipe(make_recipe(tmp_path / "run", *models, ENSEMBLE, losses))
    (tmp_path / "run").mkdir()
    example_models.named_teacher((8, 8, 1), 10).save(tmp_path / "run" / "teacher.keras")
    with pytest.raises(
        RecipeError, match=r"^teacher.snapshots: this teacher was not trained here. .*which no run wrote"
    ):
        start_recipe(tmp_path / "run", *SHORT, ENSEMBLE)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("members", ["snapshots", "files"])
def test_labels_that_do_not_exclude_each_other_are_averaged_one_by_one(
    members, start_recipe, tmp_path, taught, example_models
):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=(x[:, :3] > 0).astype("int64"))
    settings = [f"data={{source: 'npz:{tmp_path / 'rows.npz'}', task: multi_label}}"]
    settings += ["student.model=example_models:named_student", *SHORT]
    if members == "files":
        files = [tmp_path / f"{number}.keras" for number in range(2)]
        for file in files:
            example_models.named_teacher((5,), 3).save(file)
        given = f"{{model: '{files[0]}', ensemble_with: ['{files[1]}']}}"
        started = start_recipe(tmp_path / "run", *settings, f"teacher={given}")
        assert started.plan.checked.teacher_settings["activation"] == "sigmoid"
        started.run(Role.TEACHER, Role.DISTILLED)
    else:
        settings += ["teacher.model=example_models:named_teacher", ENSEMBLE]
        start_recipe(tmp_path / "run", *settings).run(*TAUGHT)
        files = snapshots_in(tmp_path / "run")
    z = np.stack([load_model(file).predict(x, verbose=0) for file in files]).astype("float64")
    p = (1 / (1 + np.exp(-z))).mean(0)
    (found,) = taught[0](Batch(keras.ops.convert_to_tensor(x))).outputs.values()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)


def test_numbers_are_averaged_as_they_are(start_recipe, tmp_path, example_models):
    x = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    np.savez(tmp_path / "rows.npz", x=x, y=x[:, :2])
    files = [tmp_path / f"{number}.keras" for number in range(2)]
    for file in files:
        example_models.named_teacher((5,), 2).save(file)
    source = f"data={{source: 'npz:{tmp_path / 'rows.npz'}', task: regression}}"
    student = "student.model=example_models:named_student"
    given = f"model: '{files[0]}', ensemble_with: ['{files[1]}']"
    with pytest.raises(RecipeError, match=r"^teacher: The outputs of this task are not probabilities.*combine: logits"):
        start_recipe(tmp_path / "run", source, student, f"teacher={{{given}}}")
    started = start_recipe(tmp_path / "run", source, student, f"teacher={{{given}, combine: logits}}")
    started.run(Role.TEACHER)
    expected = np.mean([load_model(file).predict(x, verbose=0) for file in files], axis=0)
    (found,) = started.context.teacher(Batch(keras.ops.convert_to_tensor(x))).outputs.values()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_a_function_that_returns_a_teacher_has_no_snapshots(make_recipe, tmp_path, example_models, monkeypatch):
    made = lambda input_shape, num_classes: FrozenTeacher(example_models.named_teacher(input_shape, num_classes))  # noqa: E731
    monkeypatch.setattr(example_models, "finished", made, raising=False)
    with pytest.raises(RecipeError, match=r"^teacher.snapshots: This teacher is not trained here"):
        check_recipe(make_recipe(tmp_path / "run", *SHORT, ENSEMBLE, "teacher.model=example_models:finished"))


def test_the_cache_is_built_alone(make_recipe, tmp_path):
    recipe = make_recipe(tmp_path / "run", *SHORT, ENSEMBLE, "cache={}")
    whole = recipes.build_cache(recipe)
    assert whole.name.startswith("snapshots-")
    for shard in (0, 1):  # the teacher is finished
        assert recipes.build_cache(recipe, shard=shard, num_shards=2) == whole
