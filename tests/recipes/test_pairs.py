"""A teacher that sees other inputs than the student: each model is trained, measured and exported on its own side."""

import base64
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.datasets import load_digits

from keras_kd import data, recipes
from keras_kd.data.pipeline_inputs import PipelineInputs, inputs_of
from keras_kd.errors import RecipeError
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.plan import plan
from keras_kd.recipes.reading.names import check_names
from keras_kd.recipes.reading.schema import Data
from keras_kd.recipes.reading.sides import TeacherData, settings_of_student, settings_of_teacher
from keras_kd.recipes.speed import steps_per_execution
from keras_kd.recipes.stages.training_teacher import predict

pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
PARTS = {"train": slice(240), "val": slice(240, 320), "test": slice(320, 400)}
SHORT = ("teacher.epochs=1", "student.epochs=2", "teacher.batch_size=48", "student.batch_size=48")
TAUGHT = (Role.TEACHER, Role.CACHE, Role.DISTILLED)
PAD = "augment=[{name: pad_and_crop, pixels: 1}]"


def digits():
    """The first 400 digits in 256 shades, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return (images[:400] * 15).astype("uint8").reshape(-1, 8, 8, 1), classes[:400]


def enlarged(images):
    return images.repeat(2, axis=-3).repeat(2, axis=-2)


def quarter(images):
    return np.rot90(images, axes=(-3, -2))


def scaled(images):
    return images.astype("float32") / 255


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """Writes the digits, or what a function makes of them, to an `.npz` file; returns it as a source."""
    folder = tmp_path_factory.mktemp("pairs")

    def write(name, change=lambda x: x, *, named=True, **replaced):
        x, y = digits()
        arrays = {}
        for part, rows in PARTS.items():
            arrays |= {f"x_{part}": change(x[rows]), f"y_{part}": y[rows]}
            arrays |= {f"names_{part}": np.arange(400)[rows]} if named else {}
        np.savez(folder / name, **(arrays | {key: value for key, value in replaced.items() if value is not None}))
        return f"npz:{folder / name}"

    return write


@pytest.fixture(scope="session")
def gray(write):
    return write("gray.npz")


@pytest.fixture(scope="session")
def large(write, gray):
    """The student sees 8x8 pixels, the teacher the same four times."""
    return f"data={{source: '{gray}', teacher: {{source: '{write('large.npz', enlarged)}'}}}}"


@pytest.fixture(scope="session")
def turned(write, gray):
    """The teacher sees images turned by a quarter, in the same shape."""
    return f"data={{source: '{gray}', teacher: {{source: '{write('turned.npz', quarter)}'}}}}"


@pytest.fixture
def batches(monkeypatch):
    """The batches of all trainings, by what they are: one side alone, or a kind of teacher."""
    found, epoch = {}, data.Pipeline.epoch

    def watched(pipeline, number):
        kind = pipeline.only_side or (type(pipeline.teacher).__name__ if pipeline.teacher else "pairs")
        for batch in epoch(pipeline, number):
            found.setdefault(kind, []).append((number, batch))
            yield batch

    monkeypatch.setattr(data.Pipeline, "epoch", watched)
    return found


def outputs(file, x):
    model = keras.models.load_model(file, compile=False)
    return keras.ops.convert_to_numpy(model(x, training=False))


def accuracy(file, x, y):
    return float((outputs(file, x).argmax(-1) == y).mean())


# What each model sees.


def assert_taught(found, teacher, x):
    """The stored outputs in these batches are those of this file for these inputs, and belong to the right rows."""
    expected, rows = outputs(teacher, x), set()
    assert found
    for _, (inputs, _) in found:
        assert isinstance(inputs, PipelineInputs)
        np.testing.assert_array_equal(inputs.x["teacher"], x[inputs.ids])
        (stored,) = inputs.teacher_outputs.values()
        np.testing.assert_allclose(stored, expected[inputs.ids], rtol=2e-3, atol=5e-3)  # float16 in a cache
        rows |= set(inputs.ids.tolist())
    assert rows == set(range(240))


MORE = ("few_labels={num_labels: 40}", "compress=[{name: pruning, sparsity: 0.5, epochs: 1}]")
NUM_LABELS = {(): 2 * 240, ("cache={}",): 2 * 240, MORE: 2 * 240 + 2 * 40 + 240}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("more", NUM_LABELS)
def test_the_teacher_teaches_what_it_sees(start_recipe, tmp_path, large, batches, more):
    """With outputs in memory and on disk; few labels and compression included."""
    start_recipe(tmp_path / "run", large, *SHORT, *more).run(*MODELS if more == MORE else TAUGHT)
    small, y = digits()[0][:240], digits()[1][:240]
    kind = "CachedTeacher" if "cache={}" in more else "StoredLogits"
    assert set(batches) == {"teacher", kind} | ({"student"} if more == MORE else set())
    assert_taught(batches[kind], tmp_path / "run" / "teacher.keras", scaled(enlarged(small)))
    for _, (inputs, labels) in batches[kind]:
        np.testing.assert_array_equal(inputs.x["student"], scaled(small)[inputs.ids])
        assert set(labels[labels >= 0] - y[inputs.ids][labels >= 0]) <= {0}
    assert sum(sum(labels >= 0) for _, (_, labels) in batches[kind]) == NUM_LABELS[more]
    if more != MORE:
        return
    for side, shape in (("teacher", (16, 16, 1)), ("student", (8, 8, 1))):
        assert {x.shape[1:] for _, (x, _) in batches[side]} == {shape}


@pytest.mark.usefixtures("eager")
def test_all_trainings_share_the_views(start_recipe, tmp_path, large, batches):
    """Both sides of an example move together, by whole pixels of the smaller, alone as in pairs."""
    start_recipe(tmp_path / "run", large, PAD, *SHORT).run()
    sources = set()
    for _, (inputs, _) in batches["pairs"]:
        x = inputs_of(inputs)
        np.testing.assert_array_equal(x["teacher"], enlarged(x["student"]))
        sources |= {bytes(image) for image in x["student"]}
    assert len(sources) > 240  # several views of many examples
    alone = {side: np.concatenate([x for _, (x, _) in batches[side]]) for side in ("teacher", "student")}
    together = [inputs_of(inputs) for _, (inputs, _) in batches["pairs"]]
    np.testing.assert_array_equal(alone["student"], np.concatenate([x["student"] for x in together]))
    np.testing.assert_array_equal(alone["teacher"], np.concatenate([x["teacher"] for x in together])[:240])


@pytest.mark.usefixtures("eager")
def test_an_augmentation_of_one_side(start_recipe, tmp_path, large, batches):
    only = "augment=[{name: only, sides: [student], augmentation: {name: gaussian_noise, stddev: 0.1}}]"
    start_recipe(tmp_path / "run", large, only, *SHORT).run(*TAUGHT)
    clean = {bytes(image) for image in scaled(enlarged(digits()[0][:240]))}
    for _, (inputs, _) in batches["pairs"]:
        x = inputs_of(inputs)
        assert {bytes(image) for image in x["teacher"]} <= clean
        assert np.abs(enlarged(x["student"]) - x["teacher"]).mean() > 0.05


@pytest.mark.usefixtures("eager")
def test_without_a_teacher_s_weight_distilling_is_training_alone(start_recipe, tmp_path, large):
    start_recipe(tmp_path / "run", large, PAD, *SHORT, "distillation.alpha=0").run()
    one, other = (
        keras.models.load_model(tmp_path / "run" / file) for file in ("student.keras", ".state/scratch.keras")
    )
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_report_is_about_each_model_on_its_side(run_recipe, tmp_path, turned):
    """Turned images have the shape of the others, so a mistake would be visible in the numbers alone."""
    folder, long = tmp_path / "run", ("teacher.epochs=25", "student.epochs=25", "export.formats=[float32]")
    report, _ = run_recipe(folder, turned, *SHORT, *long)
    images, classes = digits()
    x, y = scaled(images[PARTS["test"]]), classes[PARTS["test"]]
    measured = {row.id: row.values["accuracy"] for row in report.rows}
    teacher, student = folder / "teacher.keras", folder / "student.keras"
    assert measured["teacher"] == pytest.approx(accuracy(teacher, quarter(x), y))
    assert accuracy(teacher, quarter(x), y) > 0.7 > accuracy(teacher, x, y) + 0.2
    assert measured["distilled"] == pytest.approx(accuracy(student, x, y)) and measured["distilled"] > 0.6
    assert measured["scratch"] == pytest.approx(accuracy(folder / ".state" / "scratch.keras", x, y))
    assert measured["export_float32"] == pytest.approx(measured["distilled"], abs=0.013)
    assert report.rows[0].latency_p50_ms > 0 and "the same test examples with inputs of its own" in report.rows[0].note
    assert "the same test examples with inputs of its own" in (folder / "report.html").read_text()

    logits = outputs(teacher, quarter(x))
    for shown in report.soft_targets["examples"]:  # as the teacher sees them
        (row,) = np.flatnonzero(np.abs(logits - np.array(shown["logits"])).max(axis=-1) < 1e-3)
        image = (quarter(x)[row, ..., 0] - x[row].min()) / np.ptp(x[row])
        np.testing.assert_allclose(np.array(shown["image"])[..., 0], image, atol=1e-3)
    one, other = logits.argmax(-1), outputs(student, x).argmax(-1)
    assert report.disagreements.examples
    for shown in report.disagreements.examples:  # as the student sees them
        assert (shown.teacher, shown.file) == (one[shown.index], other[shown.index])
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.image))).convert("L"))
        np.testing.assert_allclose(pixels, images[PARTS["test"]][shown.index, ..., 0], atol=1)
    diagnosis = json.loads((folder / "teacher_diagnosis.json").read_text())
    found = diagnosis["validation"]["accuracy"]
    validation = scaled(images[PARTS["val"]])
    assert found == pytest.approx(accuracy(teacher, quarter(validation), classes[PARTS["val"]]), abs=1e-3)


@pytest.mark.usefixtures("eager")
def test_an_ensemble_sees_the_teacher_s_side(start_recipe, tmp_path, turned, batches):
    files, x = [tmp_path / f"{number}.keras" for number in range(2)], scaled(quarter(digits()[0][:240]))
    for number, file in enumerate(files):
        keras.utils.set_random_seed(number)
        keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save(file)
    given = f"teacher={{model: '{files[0]}', ensemble_with: ['{files[1]}'], combine: logits}}"
    started = start_recipe(tmp_path / "run", turned, *SHORT, given)
    started.run(*TAUGHT)
    assert set(batches) == {"pairs"}  # live, in the training step
    expected = (outputs(files[0], x) + outputs(files[1], x)) / 2
    measured = predict(started.context.teacher, started.plan.checked.sides.teacher.train)
    np.testing.assert_allclose(measured, expected, atol=1e-4)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("use", ["ensemble", "route"])
def test_snapshots_see_the_teacher_s_side(use, start_recipe, tmp_path, large, batches):
    snapshots = ("teacher.epochs=2", f"teacher.snapshots={{number: 2, use: {use}}}")
    made = start_recipe(tmp_path / "run", large, *SHORT, *snapshots).run(Role.SNAPSHOTS, *TAUGHT)
    files = sorted((tmp_path / "run" / ".state").glob("snapshots-*/*.keras"))
    assert [keras.models.load_model(file).input_shape for file in files] == [(None, 16, 16, 1)] * 2
    assert "pairs" in batches and np.isfinite(made["distilled"].record["history"]["loss"]).all()
    assert keras.models.load_model(tmp_path / "run" / "student.keras").input_shape == (None, 8, 8, 1)


@pytest.mark.usefixtures("eager")
def test_a_function_sees_the_teacher_s_side(start_recipe, tmp_path, large, batches):
    started = start_recipe(tmp_path / "run", large, *SHORT, "teacher={model: 'example_models:sixteen_pixels'}")
    started.run(*TAUGHT)
    x = scaled(enlarged(digits()[0][:240]))
    for _, (inputs, _) in batches["FunctionTeacher"]:
        (taught,) = inputs.teacher_outputs.values()
        np.testing.assert_allclose(taught, x[inputs.ids][:, 5, :10, 0])


@pytest.mark.usefixtures("eager")
def test_the_teacher_orders_the_examples_by_what_it_sees(start_recipe, tmp_path, turned, batches):
    curriculum = "data.curriculum={name: teacher_confidence, start: 0.25, full_after: 1000}"
    start_recipe(tmp_path / "run", turned, curriculum, *SHORT, "teacher.epochs=5").run(*TAUGHT)
    seen = np.concatenate([inputs.ids for _, (inputs, _) in batches["StoredLogits"]])
    for change, is_order in ((quarter, True), (lambda x: x, False)):
        logits = outputs(tmp_path / "run" / "teacher.keras", scaled(change(digits()[0][:240])))
        easiest = np.argsort(-softmax(logits, axis=-1).max(axis=-1), kind="stable")[:64]
        assert (set(seen) <= set(easiest)) is is_order


@pytest.mark.parametrize(
    ("stage", "file", "more"),
    [("distilled", "student.keras", ()), ("distilled", "student.keras", ("cache={views: 2}",))]
    + [("teacher", "teacher.keras", ())],
)
def test_an_interrupted_training_resumes(assert_resumes, large, stage, file, more):
    small = ("teacher.epochs=2", "student.epochs=2", "teacher.batch_size=20", "student.batch_size=20")
    roles = TAUGHT if stage == "distilled" else (Role.TEACHER,)
    assert_resumes(stage, file, large, PAD, *small, *more, roles=roles)


def test_files_are_compared_and_timed_on_the_side_of_their_model(start_recipe, tmp_path, large):
    started = start_recipe(tmp_path / "run", large, "export.calibration_samples=30")
    context = started.context
    assert context.calibration.shape == (30, 8, 8, 1)
    np.testing.assert_array_equal(context.teacher_samples, enlarged(context.calibration))
    samples, first = started.plan["measurements"]._samples(context), scaled(digits()[0][PARTS["test"]][:1])
    assert set(samples) == {"export_teacher", "export_float32", "export_int8"}
    for id, sample in samples.items():
        np.testing.assert_array_equal(sample, enlarged(first) if id == "export_teacher" else first)


def test_the_larger_side_counts_for_the_steps_of_an_execution():
    x, y = (
        {"teacher": np.zeros((64, 128, 128, 1), "float32"), "student": np.zeros((64, 8, 8, 1), "float32")},
        np.zeros(64),
    )
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    pairs, alone = (data.Pipeline((one, y), batch_size=2) for one in (x, x["student"]))
    assert steps_per_execution(model, alone) == 32
    weights, positions = 650, 2 * 128 * 128
    assert steps_per_execution(model, pairs) == min(32, 2**31 // (weights * positions))
    deep = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(500)])
    assert steps_per_execution(deep, pairs) == 2**31 // (65 * 500 * positions) < 32


# The same files twice.


@pytest.fixture
def folder(tmp_path):
    """Photos of 8x8 pixels in two classes."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype("uint8")
    for number, pixels in enumerate(noise):
        file = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return f"data.source=folder:{tmp_path / 'photos'}"


def test_one_folder_at_two_resolutions_and_ranges(make_recipe, tmp_path, folder):
    teacher = "data.teacher={image_size: [16, 16], value_range: [-1, 1]}"
    sides = check_recipe(make_recipe(tmp_path / "run", folder, "data.image_size=[4, 4]", teacher)).sides
    for part in ("train", "validation", "test"):
        large, small = getattr(sides.teacher, part), getattr(sides.student, part)
        np.testing.assert_array_equal(large.records.names, small.records.names)
        np.testing.assert_array_equal(large.labels(), small.labels())
        x = large.arrays()[0]
        assert x.shape[1:] == (16, 16, 3) and x.min() < -0.5 and small.arrays()[0].min() >= 0
    kept = check_recipe(
        make_recipe(tmp_path / "run", folder, "data.image_size=[4, 4]", "data.teacher.image_size=[8, 8]")
    )
    photos = [
        np.asarray(Image.open(tmp_path / "photos" / f"{name}.png")) for name in kept.sides.student.test.records.names
    ]
    np.testing.assert_allclose(kept.sides.teacher.test.arrays()[0], scaled(np.stack(photos)), atol=1e-6)


def test_what_is_left_out_is_that_of_the_student_s_data(gray, large, folder, tmp_path, make_recipe):
    """But another source keeps its size."""
    source = folder.partition("=")[2]
    other = make_recipe(tmp_path / "run", f"data={{source: '{source}', image_size: [4, 4], value_range: [-1, 1]}}")
    data_ = other.data.model_copy(update={"teacher": TeacherData(source="folder:else")})
    assert settings_of_teacher(data_) == settings_of_student(other.data) | {"source": "folder:else", "image_size": None}
    data_ = other.data.model_copy(update={"teacher": TeacherData(value_range=(0.0, 1.0))})
    assert settings_of_teacher(data_) == settings_of_student(other.data) | {"value_range": (0.0, 1.0)}
    data_ = Data(source="tfds:a", data_dir="d", train="x", teacher=TeacherData(source="tfds:b"))
    assert settings_of_teacher(data_) == settings_of_student(data_) | {"source": "tfds:b"}
    data_ = Data(source="tfds:a", data_dir="d", teacher=TeacherData(source="digits"))
    assert settings_of_teacher(data_)["data_dir"] is None


# Stamps.


def test_a_stage_depends_on_the_side_that_it_reads(start_recipe, tmp_path, write, gray, large, turned):
    def keys(*overrides):
        stages = start_recipe(tmp_path / "run", "few_labels={num_labels: 20}", *overrides).plan.stages
        return {stage.id: stage.key() for stage in stages}

    def changed(before, after):
        return {id for id in {*before, *after} if before.get(id) != after.get(id)}

    alone = f"data={{source: '{gray}'}}"
    plain, pairs, other = keys(alone), keys(large), keys(turned)
    assert plain == keys(alone, "data.teacher=null")
    taught = {"distilled", "few_distilled", "export_float32", "export_int8", "measurements", "report"}
    of_teacher = {"teacher", "diagnosis", "export_teacher"}
    assert changed(plain, pairs) == changed(pairs, other) == taught | of_teacher
    assert changed(keys(alone, PAD), keys(large, PAD)) == taught | of_teacher  # the student's grid is its own
    tiny = write("tiny.npz", lambda x: x[:, ::2, ::2])
    smaller = f"data={{source: '{gray}', teacher: {{source: '{tiny}'}}}}"
    alone_as_well = {"scratch", "few_scratch"}  # positions are drawn on the grid of the teacher
    assert changed(keys(alone, PAD), keys(smaller, PAD)) == taught | of_teacher | alone_as_well
    assert changed(pairs, keys(smaller)) == taught | of_teacher
    assert "cache_teacher" in changed(keys(large, "cache={}"), keys(turned, "cache={}"))
    ranged = keys(large, "data.value_range=[-1, 1]", "data.teacher.value_range=[0, 1]")
    assert changed(pairs, ranged) == taught | alone_as_well  # the teacher's side is as before
    keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Dense(1), keras.layers.Flatten(), keras.layers.Dense(10)]
    ).save(tmp_path / "given.keras")
    given = f"teacher={{model: '{tmp_path / 'given.keras'}'}}"
    assert changed(keys(turned, given), keys(turned, given, "data.teacher.value_range=[-1, 1]")) == taught | {
        "diagnosis"
    }


@pytest.mark.usefixtures("eager")
def test_other_inputs_of_a_given_teacher_get_another_cache(start_recipe, tmp_path, turned, gray):
    """Of the same teacher and encoding."""
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]).save(
        tmp_path / "t.keras"
    )
    settings = (*SHORT, "cache={}", f"teacher={{model: '{tmp_path / 't.keras'}'}}")
    ranged = f"data={{source: '{gray}', teacher: {{value_range: [-1, 1]}}}}"
    for sides in (turned, ranged):
        made = start_recipe(tmp_path / "run", sides, *settings).run(*TAUGHT)
        assert made["cache_teacher"].is_complete
    assert len(list((tmp_path / "run" / "teacher_cache").iterdir())) == 2


# What is refused.


def test_rows_of_other_examples_are_refused(make_recipe, tmp_path, write, gray):
    def refuse(message, name, *, student=gray, change=enlarged, **replaced):
        sides = f"data={{source: '{student}', teacher: {{source: '{write(name, change, **replaced)}'}}}}"
        with pytest.raises(RecipeError, match=f"^data.teacher: {message}"):
            check_recipe(make_recipe(tmp_path / "run", sides))

    names, y = np.arange(400), digits()[1]
    refuse("test split: .*different orders.*Sort both", "a.npz", names_test=names[PARTS["test"]][::-1])
    refuse("train split: .*different examples", "b.npz", names_train=names[:240] + 1000)
    other = y[PARTS["val"]].copy()
    other[3] = (other[3] + 1) % 10
    refuse("validation split: .*different labels.*1 rows, such as row 3", "c.npz", named=False, y_val=other)
    x = enlarged(digits()[0][:239])
    refuse("train split: .*different lengths", "d.npz", named=False, x_train=x, y_train=y[:239])
    letters, reversed_ = (np.array(list(text)) for text in ("abcdefghij", "jihgfedcba"))
    lettered = write("e.npz", class_names=letters)
    refuse("The sources have different classes.*j, i, h", "f.npz", student=lettered, class_names=reversed_)
    floats = write("i.npz", scaled)
    with pytest.raises(RecipeError, match="^data.teacher: Teacher and student would see the same.*not scaled"):
        check_recipe(make_recipe(tmp_path / "run", f"data={{source: '{floats}', teacher: {{value_range: [-1, 1]}}}}"))
    named = f"data={{source: '{gray}', teacher: {{source: '{write('g.npz', enlarged, class_names=letters)}'}}}}"
    assert check_recipe(make_recipe(tmp_path / "run", named)).sides.teacher.class_names == tuple("0123456789")


def test_the_labels_are_those_of_the_student(make_recipe, tmp_path, write):
    """Missing ones may differ in one direction."""
    numbers = {f"y_{part}": digits()[1][rows] / 7 for part, rows in PARTS.items()}
    partly = numbers | {"y_train": np.where(np.arange(240) < 5, np.nan, numbers["y_train"])}
    whole, part = (write(f"{name}.npz", **labels) for name, labels in (("whole", numbers), ("part", partly)))
    large = {
        name: write(f"large_{name}.npz", enlarged, **labels) for name, labels in (("whole", numbers), ("part", partly))
    }
    with pytest.raises(RecipeError, match="^data.teacher: train split: The source has labels that data.source.*5 more"):
        check_recipe(
            make_recipe(tmp_path / "run", f"data={{source: '{part}', teacher: {{source: '{large['whole']}'}}}}")
        )
    for of_teacher in large.values():
        sides = f"data={{source: '{whole}', teacher: {{source: '{of_teacher}'}}}}"
        found = check_recipe(make_recipe(tmp_path / "run", sides)).sides
        assert found.teacher.task.name == "regression"
        np.testing.assert_array_equal(found.teacher.train.labels(), found.student.train.labels())


def test_parts_that_do_not_fit_the_sides_are_refused(make_recipe, tmp_path, large, gray, write, example_models):
    def refuse(message, *overrides):
        with pytest.raises(RecipeError, match=message):
            check_recipe(make_recipe(tmp_path / "run", *overrides))

    example_models.student((8, 8, 1), 10).save(tmp_path / "small.keras")
    refuse("^teacher.model: The teacher's input does not fit.*16", large, f"teacher.model={tmp_path / 'small.keras'}")
    refuse("^data.teacher: .*not found", "data.teacher={source: 'npz:missing.npz'}")
    refuse("^data.teacher: The images of 'digits' cannot be resized", "data.teacher={image_size: [16, 16]}")
    refuse(
        "^data.teacher: The teacher takes no inputs.*StoredLogits", large, "teacher={model: 'example_models:stored'}"
    )
    uneven = f"data={{source: '{gray}', teacher: {{source: '{write('uneven.npz', lambda x: x[:, :5, :5])}'}}}}"
    refuse("^augment: PadAndCrop cannot change these inputs alike.*'teacher' of shape", uneven, PAD)
    (tmp_path / "run").mkdir()
    example_models.student((8, 8, 1), 10).save(tmp_path / "run" / "teacher.keras")
    recipe = make_recipe(tmp_path / "run", large)
    with pytest.raises(RecipeError, match="The teacher's input does not fit the data"):
        plan(check_recipe(recipe), RunFolder(recipe.folder))


PAIR = "data.teacher={value_range: [-1, 1]}"
STUDENTS = ("few_labels=null",)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.teacher={}"], "would see the same. Received: an empty section"),
        (["data.teacher={source: digits, value_range: [0, 1]}"], "would see the same. Received: source, value_range"),
        ([PAIR, "teacher=null", "distillation={method: mutual, peers: 1}", *STUDENTS], "the recipe has no teacher"),
        ([PAIR, "distillation={method: self, teacher: ema}", *STUDENTS], "this method does not learn.*method: self"),
        ([PAIR, "distillation={method: data_free, synthesizer: {name: dafl}}", *STUDENTS], "method: data_free"),
        ([PAIR, "teacher={model: logits.npz}"], "stored logits.*teacher.model: logits.npz"),
        ([PAIR, "assistants=[{model: digits_student, epochs: 1}]"], "an assistant sees.*1 assistant"),
        ([PAIR, "distillation.adversary={name: fgsm, epsilon: 0.1}"], "Received: distillation.adversary, few_labels"),
        ([PAIR, "few_labels.adversary={name: fgsm, epsilon: 0.1}"], "Received: few_labels.adversary"),
        ([PAIR, "measure.robustness={epsilon: 0.1}"], "not comparable. Received: measure.robustness"),
        (["data.teacher={train: 0.5}"], "teacher.train: unknown key. Expected: one of data_dir, image_size, source"),
        (["data.teacher={image_size: 8}"], "teacher.image_size: invalid value"),
        (["data.teacher=large"], "teacher: invalid value. Received: 'large'. Expected: a section"),
    ],
)
def test_refused_when_read(overrides, message):
    with pytest.raises(
        RecipeError, match=f"data.{message}" if message.startswith("teacher") else f"data.teacher: .*{message}"
    ):
        recipes.load(None, overrides)


def test_a_misspelled_kind_of_source_is_found_without_keras():
    with pytest.raises(RecipeError, match="data.teacher.source: .*'nzp'"):
        check_names(recipes.load(None, ["data.teacher={source: 'nzp:a.npz'}"]))
