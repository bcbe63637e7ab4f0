"""Whole runs of small recipes, in this process."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from keras_kd import data, evaluation, export, recipes
from keras_kd.chain.fitting import check_weights
from keras_kd.errors import ExportError, Notice, RecipeError, TrainingError
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.litert import float_operators
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.stages import training
from keras_kd.recipes.stages.few_labels import few_label_splits
from keras_kd.teachers import FrozenTeacher

TEACHER, SCRATCH, DISTILLED = "teacher", "scratch", "distilled"
FEW_SCRATCH, FEW_DISTILLED = "few_scratch", "few_distilled"
FEW = "few_labels={num_labels: 50}"
FLOAT32 = "export.formats=[float32]"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def copy(finished, folder):
    """A copy of the finished run's folder."""
    return shutil.copytree(finished[0], folder)


@pytest.fixture
def start(start_recipe):
    """Creates a run in a folder whose stages can be run individually; `said()` returns its output."""
    return start_recipe


@pytest.fixture
def asked(monkeypatch):
    """Replaces training and records the ids of the requested trainings."""
    ids = []

    def watched(stage, context):
        ids.append(stage.id)
        return dataclasses.replace(stage.makes, is_complete=False)

    monkeypatch.setattr(training.Training, "run", watched)
    return ids


@pytest.fixture(scope="module")
def teacher_file(example_models, tmp_path_factory):
    """A digits teacher trained outside of the run."""
    file = tmp_path_factory.mktemp("teacher") / "mine.keras"
    keras.utils.set_random_seed(7)
    model = example_models.teacher((8, 8, 1), 10)
    model.compile(keras.optimizers.Adam(0.01), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data.open_source("digits").train.arrays(), epochs=3, verbose=0)
    model.save(file)
    return file


def files(folder):
    """The files of a folder except its lock: modification time and content by name."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def weights_of(file):
    return keras.models.load_model(file, compile=False).get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# The first run.


CARDS = {"student_float32.md", "student_int8.md"}


def test_the_files_of_a_run(finished):
    folder, _, _ = finished
    state = {".state/scratch.keras", ".state/few_scratch.keras", ".state/few_distilled.keras"}
    state |= {".state/teacher_float32.tflite", ".state/recipe.json", ".state/rows.json"}
    trained = (TEACHER, SCRATCH, DISTILLED, FEW_SCRATCH, FEW_DISTILLED)
    others = ("diagnosis", "measurements", "export_teacher", "export_float32", "export_int8")
    stamps = {f".state/{id}.json" for id in (*trained, *others)}
    results = {"teacher.keras", "student.keras", "student_float32.tflite", "student_int8.tflite"}
    results |= {
        "student_float32.md",
        "student_int8.md",
        "labels.txt",
        "history.json",
        "report.json",
        "report.html",
        "teacher_diagnosis.json",
    }
    assert set(files(folder)) == state | stamps | results
    assert (folder / "labels.txt").read_text() == "".join(f"{digit}\n" for digit in range(10))
    page = (folder / "report.html").read_text()
    assert "<html" in page and "The graph of student_int8.tflite" in page
    assert export.inspect_tflite(folder / "student_int8.tflite").svg() in page


def test_the_exported_files_say_what_an_app_needs(finished):
    folder, _, _ = finished
    teacher, keys = FrozenTeacher(keras.models.load_model(folder / "teacher.keras")), set()
    for name in ("student_float32.tflite", "student_int8.tflite"):
        found = export.read_metadata(folder / name)
        (image,), (scores,) = found.inputs.values(), found.outputs.values()
        assert (image.mean, image.std, image.is_image) == ((0.0,), (16.0,), False)  # the digits have values of 0 to 16
        assert scores.labels == tuple("0123456789") and scores.description == "logits"
        assert found.provenance["teacher"] == teacher.fingerprint
        assert found.provenance["recipe"]["name"] == found.name and str(folder) not in str(found)
        keys.add(found.provenance["recipe"]["key"])
    assert len(keys) == 2


def test_the_report_is_about_the_files(finished, digits):
    """Accuracies are recomputed on the test split from the files in the folder."""
    folder, report, _ = finished
    x, y = data.open_source("digits").test.arrays()
    rows = {row.id: row for row in report.rows}
    keras_files = {TEACHER: "teacher.keras", SCRATCH: ".state/scratch.keras", DISTILLED: "student.keras"}
    keras_files |= {
        FEW_SCRATCH: ".state/few_scratch.keras",
        FEW_DISTILLED: ".state/few_distilled.keras",
    }
    lite_files = {f"export_{kind}": f"student_{kind}.tflite" for kind in ("float32", "int8")}
    assert list(rows) == [*keras_files, *lite_files]
    predicted = {n: keras.models.load_model(folder / f).predict(x, verbose=0).argmax(1) for n, f in keras_files.items()}
    predicted |= {n: evaluation.TFLiteRunner(folder / f).predict(x).argmax(1) for n, f in lite_files.items()}
    for name, classes in predicted.items():
        assert rows[name]["accuracy"] == pytest.approx((classes == y).mean())
    assert rows[TEACHER]["accuracy"] > 0.8 and report.test_size == 360
    for name, file in lite_files.items():
        assert rows[name].num_bytes == (folder / file).stat().st_size
        assert rows[name].agreement == pytest.approx((predicted[name] == predicted[DISTILLED]).mean())
        assert rows[name].latency_p50_ms > 0
    assert rows[TEACHER].num_bytes == (folder / ".state/teacher_float32.tflite").stat().st_size
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (y, predicted["export_int8"]), 1)
    assert (report.confusion_of, report.confusion) == ("export_int8", matrix.tolist())


def test_the_report_on_disk_is_the_one_that_was_returned(finished, make_recipe):
    folder, report, _ = finished
    stored = Report.from_dict(json.loads((folder / "report.json").read_text()))
    assert stored.rows == report.rows and stored.summary == report.summary
    assert stored.settings == make_recipe(folder, FEW).model_dump(mode="json")
    assert {"keras", "tensorflow", "date", "cpus"} <= set(stored.environment)


def test_the_histories(finished):
    folder, report, _ = finished
    histories = json.loads((folder / "history.json").read_text())
    assert histories == report.histories
    students = (SCRATCH, DISTILLED, FEW_SCRATCH, FEW_DISTILLED)
    lengths = {name: {len(values) for values in history.values()} for name, history in histories.items()}
    assert lengths == {TEACHER: {3}, **dict.fromkeys(students, {2})}
    assert set(histories[SCRATCH]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {"student_loss", "distillation_loss", "alpha", "val_accuracy"} <= set(histories[DISTILLED])


def test_the_soft_targets_are_of_test_images_of_different_classes(finished):
    examples = finished[1].soft_targets["examples"]
    assert len({example["label"] for example in examples}) == 4
    assert all(len(example["logits"]) == 10 for example in examples)
    assert np.shape(examples[0]["image"]) == (8, 8, 1)


def test_the_messages_of_a_run(finished):
    _, _, said = finished
    students = ("student from scratch", "student distilled", "scratch, 50 labels", "distilled, 50 labels")
    for stage in ("teacher", *students, "export distilled, int8 TFLite", "measure"):
        assert f"\n{stage}: " in f"\n{said}"
    assert "loaded" not in said


# Later runs.


def test_a_second_run_trains_and_exports_nothing(finished, copy, run_recipe):
    (copy / "student_notes.md").write_text("of the user")
    (copy / "student_dynamic.md").write_text("the card of a file that was removed")
    before = files(copy)
    report, said = run_recipe(copy, FEW)
    after = files(copy)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {*CARDS, "labels.txt", "history.json", "report.json", "report.html"}
    assert before.keys() - after.keys() == {"student_dynamic.md"}
    assert after["history.json"][1] == before["history.json"][1]
    accuracies = [[(row.id, row["accuracy"], row.num_bytes) for row in r.rows] for r in (report, finished[1])]
    assert accuracies[0] == accuracies[1]
    assert f"teacher: loaded {copy / 'teacher.keras'}, trained before with these settings." in said
    assert said.count("trained before with these settings") == 5


def test_other_epochs_of_the_student_keep_the_teacher(copy, run_recipe, eager):
    before = files(copy)
    report, said = run_recipe(copy, "student.epochs=1")
    after = files(copy)
    kept = {"teacher.keras", ".state/teacher.json", ".state/teacher_float32.tflite"}
    assert all(after[name] == before[name] for name in kept)
    for name in ("student.keras", ".state/scratch.keras", "student_float32.tflite", "student_int8.tflite"):
        assert after[name][1] != before[name][1]
    assert said.count("trained before with these settings") == 1
    assert [row.id for row in report.rows[:3]] == [TEACHER, SCRATCH, DISTILLED] and len(report.rows) == 5
    assert {name: len(history["loss"]) for name, history in report.histories.items()} == {
        TEACHER: 3,
        SCRATCH: 1,
        DISTILLED: 1,
    }


STUDENTS = [SCRATCH, DISTILLED, FEW_SCRATCH, FEW_DISTILLED]
TAUGHT = [DISTILLED, FEW_DISTILLED]


@pytest.mark.parametrize(
    ("override", "trained"),
    [
        ("distillation.alpha=0.7", [DISTILLED]),
        ("distillation.temperature={name: linear, start: 4, end: 1}", [DISTILLED]),
        ("few_labels.num_labels=60", STUDENTS[2:]),
        ("few_labels.alpha=0.7", [STUDENTS[3]]),
        ("student.batch_size=32", STUDENTS),
        ("student.model=example_models:other_student", STUDENTS),
        ("teacher.learning_rate=0.02", [TEACHER, *TAUGHT]),
        ("teacher.model=example_models:student", [TEACHER, *TAUGHT]),
        ("teacher.dtype=bfloat16", TAUGHT),
        ("cache={}", TAUGHT),
        ("seed=1", [TEACHER, *STUDENTS]),
        ("data.value_range=[-1, 1]", [TEACHER, *STUDENTS]),
        ("export.num_threads=2", []),
    ],
)
def test_only_stages_that_depend_on_a_change_are_trained_again(override, trained, copy, start, asked):
    start(copy, FEW, override).run()
    assert asked == trained


def test_a_function_that_was_edited_is_noticed(copy, start, asked, example_models, monkeypatch):
    before = example_models.student

    def edited(input_shape, num_classes):
        model = before(input_shape, num_classes)
        model.layers[1].activation = keras.activations.tanh
        return model

    monkeypatch.setattr(example_models, "student", edited)
    start(copy, FEW).run()
    assert asked == STUDENTS


def test_a_damaged_student_is_trained_again(copy, start, asked):
    (copy / "student.keras").write_bytes(b"half a file")
    start(copy, FEW).run()
    assert asked == [DISTILLED]


def test_another_format_is_exported_alone(copy, run_recipe):
    before = files(copy)
    report, _ = run_recipe(copy, FEW, "export.formats=[float32, int8, dynamic]")
    after = files(copy)
    assert all(after[name] == before[name] for name in before if name.endswith((".tflite", ".keras")))
    assert "student_dynamic.tflite" in after
    assert report.rows[-1].id == report.confusion_of == "export_dynamic"


def test_a_mixed_file_follows_its_rules(copy, run_recipe):
    report, _ = run_recipe(copy, FEW, "export.mixed={FULLY_CONNECTED: float32}")
    assert report.rows[-1].id == "export_mixed" and "student_mixed.md" in files(copy)
    assert float_operators((copy / "student_mixed.tflite").read_bytes()) == ("FULLY_CONNECTED",)
    run_recipe(copy, FEW, 'export.mixed={"*": float32, FULLY_CONNECTED: int8}')  # other rules, another file
    assert "FULLY_CONNECTED" not in float_operators((copy / "student_mixed.tflite").read_bytes())


def test_a_guarded_file_is_exported_and_measured(copy, run_recipe):
    report, _ = run_recipe(copy, FEW, "export.max_accuracy_drop=2")
    row = report.rows[-1]
    student = next(one for one in report.rows if one.id == DISTILLED)
    assert row.id == "export_guarded"
    assert row["accuracy"] >= student["accuracy"] - 0.05  # of the test split
    found = export.read_metadata(copy / "student_guarded.tflite")
    assert "student_guarded.md" in files(copy) and found.provenance["recipe"]["name"]
    assert row.num_bytes == (copy / "student_guarded.tflite").stat().st_size


def test_a_failed_export_keeps_what_was_trained(finished, folder, make_recipe, monkeypatch):
    shutil.copytree(finished[0], folder, ignore=shutil.ignore_patterns("*.tflite", "export*", "report.*"))
    before = files(folder)

    def refuse(*args, **settings):
        raise ExportError("The converter refused.")

    with monkeypatch.context() as patch:
        patch.setattr(export, "export_tflite", refuse)
        with pytest.raises(ExportError, match="refused"):
            recipes.run(make_recipe(folder, FEW))
    assert files(folder) == before


def test_a_teacher_that_cannot_be_exported_costs_its_size_and_latency_only(finished, folder, run_recipe, monkeypatch):
    shutil.copytree(finished[0], folder, ignore=shutil.ignore_patterns("teacher_float32.tflite"))
    original = export.export_tflite

    def refuse(model, path, **settings):
        if "teacher" in str(path):
            raise ExportError("The converter refused.")
        return original(model, path, **settings)

    monkeypatch.setattr(export, "export_tflite", refuse)
    report, said = run_recipe(folder, FEW)
    assert "teacher cannot be compared as a TFLite file. The converter refused." in " ".join(said.split())
    teacher = report.rows[0]
    assert (teacher.id, teacher.num_bytes, teacher.latency_p50_ms, teacher.note) == (TEACHER, None, None, "")
    assert report.rows[-1].num_bytes > 0 and teacher["accuracy"] == finished[1].rows[0]["accuracy"]


# Teachers from elsewhere.


def test_a_teacher_in_the_folder_is_used_unchanged(start, asked, folder, teacher_file):
    folder.mkdir()
    shutil.copy(teacher_file, folder / "teacher.keras")
    before = files(folder)
    run = start(folder)
    artifacts = run.run(Role.TEACHER)
    assert artifacts[TEACHER].record == {} and asked == []
    assert same(run.context.teacher.model.get_weights(), weights_of(teacher_file))
    assert files(folder) == before
    assert f"teacher: loaded {folder / 'teacher.keras'}, which was in the run folder." in run.said()


def test_a_teacher_that_replaced_the_trained_one_is_used(copy, start, asked, teacher_file):
    shutil.copy(teacher_file, copy / "teacher.keras")
    run = start(copy, FEW)
    assert run.run()[TEACHER].record == {}
    assert "which was in the run folder" in run.said()
    assert (copy / "teacher.keras").read_bytes() == teacher_file.read_bytes()
    assert asked == TAUGHT


def test_a_teacher_file_is_copied_and_not_trained(start, asked, folder, teacher_file):
    run = start(folder, f"teacher={{model: {teacher_file}}}")
    assert run.run(Role.TEACHER)[TEACHER].record == {} and asked == []
    assert same(weights_of(folder / "teacher.keras"), weights_of(teacher_file))
    assert f"teacher: loaded {teacher_file}." in run.said()
    before = files(folder)
    start(folder, f"teacher={{model: {teacher_file}}}").run(Role.TEACHER)
    assert files(folder) == before


def test_from_a_teacher_file_back_to_a_trained_one(start, asked, folder, teacher_file):
    """The copy in the folder is the run's own and is not taken for a file that the user placed there."""
    start(folder, f"teacher={{model: {teacher_file}}}").run(Role.TEACHER)
    start(folder).run(Role.TEACHER)
    assert asked == [TEACHER]


# What the two students share.


def test_without_a_teacher_s_weight_distilling_is_training_alone(start, folder, teacher_file, eager):
    """At alpha 0, only different initial weights, batch order or dropout could make a difference."""
    run = start(folder, f"teacher={{model: {teacher_file}}}", "distillation.alpha=0", "student.batch_size=128")
    artifacts = run.run()
    history, other = (artifacts[id].record["history"] for id in (SCRATCH, DISTILLED))
    for one, two in zip(*(weights_of(run.context.file(id)) for id in (SCRATCH, DISTILLED)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    np.testing.assert_allclose(history["val_loss"], other["val_loss"], rtol=1e-5)
    np.testing.assert_allclose(history["loss"], other["student_loss"], rtol=1e-5)


def test_few_labels_and_many_images(make_recipe, folder):
    checked = check_recipe(make_recipe(folder, FEW))
    labeled, partly = few_label_splits(checked)
    whole = checked.source.train
    assert labeled.num_examples == partly.num_examples == whole.num_examples
    known = partly.labels() != data.UNLABELED
    assert known.sum() == 50
    np.testing.assert_array_equal(partly.labels()[known], whole.labels()[known])
    images = {image.tobytes() for image in labeled.arrays()[0]}
    assert images == {image.tobytes() for image in whole.arrays()[0][known]}
    assert set(np.unique(labeled.labels())) == set(range(10))


# Other models and other data.


def test_models_that_end_in_softmax(run_recipe, folder, eager):
    models = ["teacher.model=example_models:softmax_student", "student.model=example_models:softmax_student"]
    few_steps = [f"{role}.{setting}" for role in ("teacher", "student") for setting in ("batch_size=256", "epochs=5")]
    few_steps += ["teacher.learning_rate=0.03", "student.learning_rate=0.03"]
    with pytest.warns(Notice, match="the student's 'output' ends in softmax"):
        report, _ = run_recipe(folder, *models, *few_steps, FLOAT32, "distillation.alpha=0.9")
    accuracies = {row.id: row["accuracy"] for row in report.rows}
    assert accuracies[DISTILLED] > 0.3 and accuracies[SCRATCH] > 0.3
    x, _ = data.open_source("digits").test.arrays()
    outputs = evaluation.TFLiteRunner(folder / "student_float32.tflite").predict(x)
    np.testing.assert_allclose(outputs.sum(1), 1.0, atol=1e-5)
    logits = np.array([example["logits"] for example in report.soft_targets["examples"]])
    assert (logits <= 0).all()  # log-probabilities


@pytest.fixture(scope="module")
def digit_images():
    digits = load_digits()
    return (digits.images * 15).astype("uint8")[:600], digits.target[:600]


NAMES = tuple(f"digit {number}" for number in range(10))


def write_npz(place, images, labels):
    np.savez(place / "digits.npz", x=images, y=labels, class_names=np.array(NAMES))
    return [f"data.source=npz:{place / 'digits.npz'}", "data.test=0.2"]


def write_folder(place, images, labels):
    for number, (image, label) in enumerate(zip(images[:300], labels[:300], strict=True)):
        file = place / "images" / NAMES[label] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return [f"data.source=folder:{place / 'images'}", "data.test=0.2", "data.image_size=[8, 8]"]


def write_tfds(place, images, labels):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    arrays = {"image": images[..., None], "label": labels}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="own_digits",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(8, 8, 1)), "label": tfds.features.ClassLabel(names=NAMES)}
        ),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(arrays)},
        data_dir=place,
    )
    expressions = ("data.train=train[:60%]", "data.validation=train[60%:80%]", "data.test=train[80%:]")
    return ["data.source=tfds:own_digits", f"data.data_dir={place}", *expressions]


@pytest.mark.parametrize(
    ("write", "test_size"), [(write_npz, 120), (write_folder, 60), (write_tfds, 120)], ids=["npz", "folder", "tfds"]
)
def test_other_sources(write, test_size, digit_images, run_recipe, folder, tmp_path, teacher_file, eager):
    settings = write(tmp_path, *digit_images)
    report, _ = run_recipe(folder, *settings, f"teacher={{model: {teacher_file}}}", "student.epochs=1", FLOAT32)
    assert report.test_size == test_size
    assert (folder / "labels.txt").read_text().splitlines() == list(NAMES) == report.class_names
    rows = {row.id: row["accuracy"] for row in report.rows}
    assert rows[TEACHER] > 0.8  # images and labels match the digits that it was trained on
    assert report.settings["data"]["source"] == settings[0].removeprefix("data.source=")


def test_a_student_file_is_trained_further(start, folder, teacher_file, tmp_path, eager):
    file, started = tmp_path / "started.keras", keras.models.load_model(teacher_file, compile=False)
    started.set_weights([0.9 * weight for weight in started.get_weights()])
    started.save(file)
    run = start(folder, f"teacher={{model: {teacher_file}}}", f"student.model={file}", "student.epochs=1")
    artifacts = run.run(Role.TEACHER, Role.SCRATCH)
    assert artifacts[SCRATCH].record["history"]["accuracy"][0] > 0.8
    assert not same(weights_of(run.context.file(SCRATCH)), weights_of(file))
    assert same(started.get_weights(), weights_of(file))


def test_tables_are_trained_and_reported_too(run_recipe, folder, tmp_path, eager):
    """Examples that are rows of numbers get a complete report, with the pictures that apply to them."""
    rng = np.random.default_rng(0)
    centers, y = rng.normal(size=(3, 20)), np.arange(300) % 3
    np.savez(tmp_path / "table.npz", x=(centers[y] + rng.normal(size=(300, 20))).astype("float32"), y=y)
    few_steps = [f"{role}.{setting}" for role in ("teacher", "student") for setting in ("batch_size=60", "epochs=15")]
    report, _ = run_recipe(folder, f"data.source=npz:{tmp_path}/table.npz", *few_steps, FLOAT32, "data.test=0.2")
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 8 and "could not be drawn" not in page and "60 test examples" in page
    assert {row.id: row["accuracy"] for row in report.rows}[DISTILLED] > 0.6
    assert len(report.soft_targets["examples"]) == 3
    assert np.shape(report.soft_targets["examples"][0]["image"]) == (20,)


# Runs that cannot succeed.


def test_a_training_that_diverges_ends_the_run(make_recipe, folder, eager):
    recipe = make_recipe(folder, "teacher.optimizer=sgd", "teacher.learning_rate=1000", "teacher.weight_decay=1000")
    with pytest.raises(
        TrainingError, match=r"teacher, epoch 1: the training diverged. Received: loss nan.*learning_rate"
    ):
        recipes.run(recipe)
    assert set(files(folder)) == {".state/recipe.json"}


def test_weights_that_are_not_finite_end_the_run(example_models):
    model = example_models.teacher((8, 8, 1), 10)
    check_weights(model, "teacher")
    model.layers[-1].bias.assign(np.full(10, np.inf))
    with pytest.raises(TrainingError, match="teacher: the training diverged. Received: NaN or infinity in .*bias"):
        check_weights(model, "teacher")


def test_a_changed_setting_reports_what_it_replaces(copy, start, asked):
    run = start(copy, FEW, "teacher.epochs=1", "distillation.alpha=0.7")
    run.run()
    assert "teacher.keras: epochs 3 -> 1, trained again." in run.said()
    assert "student.keras: distillation.alpha 0.5 -> 0.7, trained again." in run.said()
    assert "few_distilled.keras: the teacher changed, trained again." in run.said()


@pytest.mark.parametrize("override", ["student.model=example_models:other_student", "teacher.model=digits_teacher"])
def test_the_folder_of_another_recipe_is_refused(override, copy, make_recipe, asked):
    before = files(copy)
    for work in (recipes.run, recipes.diagnose_teacher):
        with pytest.raises(RecipeError, match="contains the results of another recipe.*->.*--overwrite"):
            work(make_recipe(copy, FEW, override))
    assert files(copy) == before and asked == []


def test_a_file_of_an_earlier_student_does_not_stay_beside_a_new_one(copy, start):
    """int8 is no longer requested, and the student has changed."""
    run = start(copy, FEW, FLOAT32)
    run.run(*MODELS, Role.EXPORTED)
    assert (copy / "student_int8.tflite").exists()  # it belongs to this student
    run = start(copy, FEW, FLOAT32, "distillation.alpha=0.7")
    run.run(*MODELS)
    assert not (copy / "student_int8.tflite").exists() and (copy / "student_float32.tflite").exists()
    assert "student_int8.tflite: removed because it was made from an earlier model." in run.said()
