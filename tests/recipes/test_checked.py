"""Errors that only the data and the models reveal: one readable message, and nothing written."""

import os
import re
import zipfile

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, Notice, RecipeError
from keras_kd.recipes.checks.models import check_apart
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.engine.folder import RunFolder
from keras_kd.recipes.engine.plan import plan
from keras_kd.recipes.making import make_distiller, make_optimizer, scheduled
from keras_kd.recipes.models import build, identity
from keras_kd.recipes.reading.schema import Training
from keras_kd.schedules import Cosine, Piecewise


@pytest.fixture(scope="module")
def outside(example_models, tmp_path_factory):
    """A folder with the files named in bad recipes."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "broken.keras").write_bytes(b"no model at all")
    with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
        archive.writestr("readme.txt", "a zip, but no model")
    (folder / "folder.keras").mkdir()
    example_models.with_another_class_count((8, 8, 1)).save(folder / "eleven.keras")
    fitting = example_models.teacher((8, 8, 1), 10)
    fitting.save(folder / "mine.keras")
    fitting.save(folder / "copy.keras")
    fitting.trainable = False
    fitting.save(folder / "frozen.keras")
    fitting.layers[-1].bias.assign(np.full(10, np.nan))
    fitting.save(folder / "nan.keras")
    whole = (folder / "eleven.keras").read_bytes()
    (folder / "half.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npz").write_text("no arrays")
    (folder / "classes" / "one").mkdir(parents=True)
    (folder / "broken_module.py").write_text("1 / 0")
    (folder / "unfinished_module.py").write_text("def student(:")
    return folder


def tree(folder):
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


BAD = [
    (
        "student.model=digits_studnet",
        "student.model: unknown model.",
        "digits_student",
        "module:function",
        "Did you mean",
    ),
    ("student.model=resnet", "student.model: unknown model. Received: 'resnet'."),
    ("teacher.model={here}/none.keras", "teacher.model: file not found.", "none.keras", "a .keras file"),
    ("student.model={here}/none.keras", "student.model: file not found."),
    ("teacher.model={here}/broken.keras", "teacher.model: the file cannot be loaded", "broken.keras"),
    ("teacher.model={here}/broken.keras", "not a .keras file, or a damaged one."),
    (
        "teacher.model={here}/nan.keras",
        "teacher.model: The teacher has weights that are not finite.",
        "NaN or infinity",
    ),
    ("student.model={here}/frozen.keras", "student.model: The student has no trainable weights.", "trainable = True"),
    (
        "student.model=example_models:the_same_each_time",
        "student.model: It returns the same layers on each call",
        "a new model on each call",
    ),
    (
        "student.model=example_models:another_each_time",
        "student.model: It returns different weights or layers on each call",
    ),
    ("cache={{top_k: 99}}", "cache.top_k: invalid value. Received: 99. Expected: 1 to 9", "10 classes", "null"),
    ("cache={{top_k: 10}}", "cache.top_k: invalid value."),
    ("cache={{folder: /proc/nope}}", "cache.folder: the folder is not writable. Received: /proc."),
    ("output_dir=/proc/nope", "output_dir: the folder is not writable. Received: /proc."),
    ("distillation.temperature=1e30", "distillation.temperature:", "temperature <= 1000"),
    ("teacher.model={here}/half.keras", "teacher.model: the file cannot be loaded", "half.keras"),
    ("teacher.model={here}/zip.keras", "teacher.model: the file cannot be loaded", "zip.keras", "model.save("),
    ("teacher.model={here}/folder.keras", "teacher.model: the file cannot be loaded", "folder.keras"),
    ("teacher.model={here}/eleven.keras", "teacher.model: The teacher's outputs do not fit", "11", "(None, 10)"),
    (
        "student.model={here}/eleven.keras",
        "student.model: The student's outputs do not fit",
        "(None, 10)",
        "'classification'",
    ),
    ("student.model=nowhere:student", "student.model: No module named 'nowhere'.", "nowhere:student", "importable"),
    ("student.model='example_models:'", "student.model:", "module:function"),
    ("student.model=:student", "student.model:", "module:function"),
    ("student.model=example_models:studnet", "student.model:", "no attribute 'studnet'", "module:function"),
    ("student.model=example_models:not_a_function", "student.model:", "not a callable", "module:function"),
    ("student.model=broken_module:student", "student.model: ZeroDivisionError", "broken_module:student"),
    ("student.model=unfinished_module:student", "student.model: SyntaxError", "unfinished_module"),
    (
        "student.model=example_models:no_model",
        "student.model: The function did not return a Keras model. Received: int.",
        "keras.Model",
    ),
    (
        "student.model=example_models:failing",
        "example_models:failing failed: KeyError: 'depth'",
        "example_models.py, line",
    ),
    (
        "student.model=example_models:asking_for_more",
        "'depth'",
        "requires no arguments other than input_shape, num_classes",
    ),
    (
        "student.model=example_models:with_another_class_count",
        "student.model: The student's outputs",
        "11",
        "(None, 10)",
    ),
    ("teacher.model=example_models:with_another_class_count", "teacher.model: The teacher's outputs"),
    (
        "student.model=example_models:with_two_outputs",
        "student.model: The student's outputs",
        "one output of shape (None, 10)",
    ),
    (
        "student.model=example_models:of_another_shape",
        "student.model: The student's input",
        "(None, 9, 8, 1)",
        "8, 8, 1",
    ),
    (
        "student.model=example_models:with_an_unknown_end",
        "student.model: Cannot tell whether the student ends in logits",
    ),
    ("teacher.model=example_models:with_an_unknown_end", "teacher.model: Cannot tell whether the teacher", "softmax"),
    ("student.optimizer=adamm", "student.optimizer:", "adamm"),
    ("teacher.optimizer=loss_scale_optimizer", "teacher.optimizer:"),
    ("distillation.alpha=1.5", "distillation.alpha:", "1.5", "0 <= alpha <= 1"),
    ("distillation.alpha=-0.1", "distillation.alpha:", "0 <= alpha <= 1"),
    ("distillation.temperature=0", "distillation.temperature:", "0.001 <= temperature"),
    ("few_labels={{num_labels: 50, alpha: 2}}", "few_labels.alpha:", "0 <= alpha <= 1"),
    ("distillation.alpha={{name: cosin, start: 1, end: 0}}", "distillation.alpha: Unknown schedule.", "'cosine'?"),
    ("distillation.alpha={{start: 1, end: 0}}", "distillation.alpha: Unsupported schedule.", "cosine"),
    ("distillation.alpha={{name: cosine, start: 1}}", "distillation.alpha:", "missing a required argument: 'end'"),
    ("distillation.alpha={{name: cosine, start: 1, end: 0, stops: 5}}", "distillation.alpha:", "'stops'"),
    ("distillation.alpha={{name: cosine, start: 1, end: x}}", "distillation.alpha:", "Invalid 'end'"),
    ("distillation.alpha={{name: cosine, start: 1, end: 0, steps: 0}}", "distillation.alpha:", "Invalid 'steps'"),
    ("distillation.alpha={{name: cosine, start: 2, end: 0}}", "distillation.alpha:", "Received: 2.0.", "alpha <= 1"),
    ("distillation.alpha={{name: linear, start: 1, end: -1}}", "distillation.alpha:", "0 <= alpha"),
    (
        "distillation.temperature={{name: linear, start: 4, end: 0, steps: 9}}",
        "distillation.temperature:",
        "0.001 <= temp",
    ),
    ("distillation.temperature={{name: exponential, start: 1, rate: 1e-9}}", "distillation.temperature:"),
    ("distillation.losses=[soft_target]", "distillation.losses: Unknown loss.", "'soft_targets'"),
    ("distillation.losses=[{{name: hint, teacher: relu, student: rellu}}]", "'relu'", "taps(model)"),
    ("distillation.losses=[{{name: soft_targets, temprature: 3}}]", "distillation.losses:", "temprature"),
    ("distillation.losses=[{{name: soft_targets, weight: -1}}]", "distillation.losses:", "0 <= weight"),
    ("distillation.losses=[soft_targets, soft_targets]", "distillation.losses:", "a unique name"),
    (
        "few_labels.num_labels=9",
        "few_labels.num_labels: invalid value.",
        "Received: 9",
        "10 (one per class) to 1078",
        "null",
    ),
    ("few_labels.num_labels=1079", "few_labels.num_labels: invalid value.", "to 1078 (the training images)"),
    ("output_dir={here}/text.npz", "output_dir: not a folder.", "text.npz"),
    ("output_dir={here}/text.npz/below", "output_dir: not a folder.", "text.npz."),
    ("data.source=digit", "data: Unknown data source.", "'digit'", '"npz:PATH"'),
    ("data.source=npz:{here}/none.npz", "data: .npz file not found.", "none.npz"),
    ("data.source=npz:{here}/text.npz", "data: The file is not a readable .npz", "text.npz"),
    ("data.source=folder:{here}/none", "data:", "none"),
    ("data.source=folder:{here}/classes", "data:", "classes"),
    (
        "data={{source: tfds:no_such_set, data_dir: {here}/none}}",
        "data: TensorFlow Datasets cannot open",
        "no_such_set",
    ),
    ("data.train=0.5", "data:", "train=0.5"),
    ("data.image_size=[16, 16]", "data:", "image_size"),
    ("data.value_range=[1, 0]", "data:", "'value_range'"),
]


@pytest.mark.parametrize(("override", "parts"), [(first, rest) for first, *rest in BAD], ids=[row[0] for row in BAD])
def test_what_does_not_fit_is_named_and_nothing_is_written(
    override, parts, make_recipe, outside, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(outside)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    recipe = make_recipe(tmp_path / "run", override.format(here=outside))
    before = tree(outside)
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe)
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert "\n" not in message and len(message) < 800  # it may list all losses
    assert tree(outside) == before and tree(tmp_path) == []


@pytest.mark.parametrize("student", ["mine", "copy"])
def test_a_student_that_is_the_teacher_is_refused(student, make_recipe, outside, tmp_path):
    models = f"teacher={{model: {outside}/mine.keras}}", f"student.model={outside}/{student}.keras"
    with pytest.raises(RecipeError, match="student.model: identical to the teacher, in layers and weights"):
        check_recipe(make_recipe(tmp_path / "run", *models))


def test_models_that_share_layers_are_refused(example_models):
    first, other = example_models.teacher((8, 8, 1), 10), example_models.student((8, 8, 1), 10)
    check_apart({"teacher": first, "student": other})
    shared = keras.Sequential([keras.Input((24,)), first.layers[-1]])
    with pytest.raises(ConfigurationError, match="teacher and student share layers.*2 shared weights"):
        check_apart({"teacher": first, "student": shared})


def test_another_backend_is_refused_before_anything_else(make_recipe, tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path / "run", "student.model=nowhere:student")
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(RecipeError, match="KERAS_BACKEND: .*'torch'.*'tensorflow' or 'jax'"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("export.num_threads=1000000", "export.num_threads: invalid value. Received: 1000000. Expected: .*256"),
        (f"student.batch_size={10**12}", "student.batch_size: invalid value. .*1000000"),
        (f"teacher.epochs={10**12}", "teacher.epochs: invalid value. .*1000000"),
        ("student.learning_rate=1e30", "student.learning_rate: invalid value. .*1000"),
        ("student.weight_decay=1e30", "student.weight_decay: invalid value. .*1000"),
        (f"cache={{views: {10**12}}}", "cache.views: invalid value. .*100000"),
        (f"export.calibration_samples={10**12}", "export.calibration_samples: invalid value. .*1000000"),
        (f"name={'a' * 101}", "name: invalid value. .*100 characters"),
        ("distillation.losses=[]", "distillation.losses: invalid value. .*at least one loss, or null"),
        ("few_labels={losses: []}", "few_labels.losses: invalid value. .*at least one loss, or null"),
        ("teacher={model: t.h5}", "teacher.model: invalid value. Received: 't.h5'. Expected: a .keras file"),
        ("student.model=weights.H5", "student.model: invalid value. .*a .keras file"),
        ("teacher.ensemble_with=[a.onnx]", "teacher.ensemble_with.0: invalid value. .*a .keras file"),
    ],
)
def test_invalid_settings_are_refused_by_the_schema(override, message, make_recipe, tmp_path):
    with pytest.raises(RecipeError, match=message) as caught:
        make_recipe(tmp_path / "run", override)
    assert "\n" not in str(caught.value)


def test_a_folder_of_somebody_else(make_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(RecipeError, match=f"output_dir: the folder is not writable.*{re.escape(str(tmp_path))}"):
        check_recipe(make_recipe(tmp_path / "run"))


def test_what_is_quick_is_checked_before_the_data_is_opened(make_recipe, tmp_path, monkeypatch):
    """A download may take an hour."""
    monkeypatch.setattr(kd.data, "open_source", lambda *args, **kwargs: pytest.fail("the data was opened"))
    for override in (
        "student.model=digits_studnet",
        "student.model=nowhere:student",
        "teacher.model=none.keras",
        "student.optimizer=adamm",
        "distillation.alpha=2",
        "distillation.alpha={name: cosin}",
    ):
        with pytest.raises(RecipeError, match=override.partition("=")[0]):
            check_recipe(make_recipe(tmp_path / "run", override))


def test_a_teacher_that_was_put_into_the_run_folder_has_to_fit(make_recipe, example_models, tmp_path):
    file = tmp_path / "run" / "teacher.keras"
    file.parent.mkdir()
    file.write_bytes(b"no model at all")
    before = tree(tmp_path)
    checked = check_recipe(make_recipe(tmp_path / "run"))
    with pytest.raises(RecipeError, match=f"{re.escape(str(file))}: the file cannot be loaded"):
        plan(checked, RunFolder(checked.recipe.folder))
    assert tree(tmp_path) == before
    example_models.with_another_class_count((8, 8, 1)).save(file)
    with pytest.raises(RecipeError, match=f"{re.escape(str(file))}: The teacher's outputs do not fit the task.*11"):
        plan(checked, RunFolder(checked.recipe.folder))


def test_a_schedule_is_checked_over_the_whole_training(make_recipe, tmp_path):
    """1,078 images in batches of 64 are 17 steps per epoch."""
    alpha = "distillation.alpha={name: piecewise, boundaries: [40], values: [0.5, 1.5]}"
    check_recipe(make_recipe(tmp_path / "run", alpha, "student.epochs=2"))
    with pytest.raises(RecipeError, match="distillation.alpha.*Received: 1.5"):
        check_recipe(make_recipe(tmp_path / "run", alpha, "student.epochs=3"))


def test_a_schedule_without_steps_takes_the_whole_training():
    assert scheduled({"name": "cosine", "start": 0.9, "end": 0.1}, 340) == Cosine(0.9, 0.1, steps=340)
    assert scheduled({"name": "cosine", "start": 0.9, "end": 0.1, "steps": 7}, 340) == Cosine(0.9, 0.1, steps=7)
    piecewise = {"name": "piecewise", "boundaries": [5], "values": [1, 2]}
    assert scheduled(piecewise, 340) == Piecewise((5,), (1, 2))
    assert scheduled(0.5, 340) == 0.5


def test_schedules_may_touch_the_ends_of_their_range(make_recipe, tmp_path):
    overrides = (
        "distillation.alpha={name: cosine, start: 1.0, end: 0.0}",
        "distillation.temperature={name: linear, start: 4.0, end: 0.001}",
    )
    check_recipe(make_recipe(tmp_path / "run", *overrides))


def test_the_optimizer():
    settings = Training(model="m", epochs=1, optimizer="sgd", learning_rate=0.1, weight_decay=0.01)
    optimizer = make_optimizer(settings, total_steps=10)
    assert type(optimizer) is keras.optimizers.SGD
    assert optimizer.weight_decay == 0.01
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.0, 0.0], atol=1e-7)
    constant = make_optimizer(settings.model_copy(update={"learning_rate_decay": "none"}), total_steps=10)
    assert float(constant.learning_rate) == pytest.approx(0.1)


def test_a_function_is_given_what_it_takes(make_recipe, tmp_path):
    checked = check_recipe(make_recipe(tmp_path / "run", "student.model=example_models:of_fixed_shape"))
    assert checked.models["student"].build().output_shape == (None, 10)
    softmax = check_recipe(make_recipe(tmp_path / "run", "student.model=example_models:softmax_student"))
    assert softmax.models["student"].build().layers[-1].activation is keras.activations.softmax


def test_models_depend_on_the_seed_alone(make_recipe, tmp_path):
    checked = check_recipe(make_recipe(tmp_path / "run", "seed=3"))
    other = check_recipe(make_recipe(tmp_path / "run", "seed=4"))
    first = checked.models["student"].build()
    np.random.random(5)
    keras.random.normal((3,))
    second, third = checked.models["student"].build(), other.models["student"].build()
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.get_weights()[0] - third.get_weights()[0]).max() > 0.01


def test_identity_sees_layers_and_weights_but_no_names(example_models):
    source = kd.data.open_source("digits")

    def of(name, seed=0):
        return identity(build(f"example_models:{name}", source, seed))

    assert of("student") == of("student")
    assert len({of("student"), of("student", seed=1), of("other_student"), of("softmax_student"), of("teacher")}) == 5


def test_losses_are_made_with_their_layers_and_schedules(make_recipe, tmp_path):
    hint = "{name: hint, teacher: block_3_out, student: block_4_relu, weight: {name: cosine, start: 2, end: 0}}"
    models = ("teacher.model=digits_teacher", "student.model=digits_student", "few_labels={num_labels: 20}")
    recipe = make_recipe(tmp_path, f"distillation.losses=[soft_targets, {hint}]", *models)
    checked = check_recipe(recipe)
    assert recipe.few_labels.losses == recipe.distillation.losses
    teacher, student = checked.models["teacher"].build(), checked.models["student"].build()
    with pytest.warns(Notice, match="hint_block_4_relu: .*1x1 convolution to 128 channels"):
        distiller = make_distiller(teacher, student, recipe.distillation, total_steps=50)
    assert [term.name for term in distiller.terms] == ["soft_targets", "hint_block_4_relu"]
    assert distiller.terms[1].weight == Cosine(2.0, 0.0, steps=50)
