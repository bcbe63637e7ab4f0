"""The curriculum of a recipe: the distilled students begin with the easy examples."""

from typing import get_args

import keras
import numpy as np
import pytest

from keras_kd import curricula, data, recipes
from keras_kd.data.curriculum.curriculum import ORDERS
from keras_kd.data.curriculum.pacing import SHAPES
from keras_kd.errors import RecipeError
from keras_kd.evaluation.roles import Role
from keras_kd.recipes.checks.recipe import check_recipe
from keras_kd.recipes.reading.curricula import ByTeacher

pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
CONFIDENCE = "data.curriculum={name: teacher_confidence, start: 0.3, full_after: 20}"
LARGE = ("teacher.epochs=1", "student.epochs=2", "teacher.batch_size=256", "student.batch_size=256")
SHORT = ("teacher.epochs=1", "student.epochs=2")


@pytest.fixture
def seen(monkeypatch):
    """The ids of the examples of each batch by training, as long as it is not finished."""
    found, arranged = {}, data.Pipeline.epoch

    def watched(pipeline, epoch):
        batches = list(pipeline._ordered(epoch))
        kind = pipeline.curriculum and type(pipeline.curriculum).__name__
        found.setdefault(kind, []).append((epoch, [ids for ids, _ in batches]))
        yield from arranged(pipeline, epoch)

    monkeypatch.setattr(data.Pipeline, "epoch", watched)
    return found


def numbers(folder):
    """A file of scores for the digits: the number of each training example."""
    file = folder / "scores.npy"
    np.save(file, np.arange(1078))
    return f"data.curriculum={{name: scores, file: {file}, start: 0.1, full_after: 6}}"


@pytest.mark.usefixtures("eager")
def test_the_distilled_students_begin_with_the_easy_examples_and_no_other(start_recipe, tmp_path, seen):
    settings = (numbers(tmp_path), *LARGE, "few_labels={num_labels: 20}")
    artifacts = start_recipe(tmp_path / "run", *settings).run()
    assert set(seen) == {None, "ByScores"}
    for epoch, batches in seen["ByScores"]:
        for number, ids in enumerate(batches):
            step = 5 * epoch + number
            allowed = 1078 * min(1.0, 0.1 + 0.9 * step / 6)  # the easiest have the lowest numbers
            assert ids.max() < max(np.ceil(allowed), 256) and len(np.unique(ids)) == len(ids)
    assert max(ids.max() for _, batches in seen["ByScores"] for ids in batches) > 1000
    conditions = {id: made.record["conditions"] for id, made in artifacts.items() if "conditions" in made.record}
    assert {id for id, known in conditions.items() if "curriculum" in known} == {"distilled", "few_distilled"}
    assert conditions["distilled"]["curriculum"] == "scores, 0.1 at first, all from step 6 on"


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("more", [(), ("cache={}",), ("augment=[{name: pad_and_crop, pixels: 1}]",)])
def test_the_teacher_orders_the_examples(start_recipe, tmp_path, seen, more):
    """By its confidence, computed here from its file."""
    started = start_recipe(tmp_path / "run", CONFIDENCE, *LARGE, *more)
    started.run(Role.TEACHER, Role.CACHE, Role.DISTILLED)
    x, _ = data.open_source("digits").train.arrays()
    teacher = keras.models.load_model(tmp_path / "run" / "teacher.keras")
    order = np.argsort(-keras.ops.convert_to_numpy(keras.ops.softmax(teacher(x))).max(axis=-1), kind="stable")
    _, (first, *_) = next(found for found in seen["ByTeacherConfidence"] if found[0] == 0)
    assert set(first) <= set(order[:328])  # 30% of 1,078, and some more that rounding may exchange


def test_an_interrupted_training_resumes_in_the_curriculum(assert_resumes):
    assert_resumes("distilled", "student.keras", CONFIDENCE, *SHORT)


def test_the_curriculum_is_part_of_what_is_trained(start_recipe, tmp_path):
    """Of the distilled students alone; and other scores in the same file are another curriculum."""

    def keys(*overrides):
        return {stage.id: stage.key() for stage in start_recipe(tmp_path / "run", *overrides).plan.stages}

    without, with_it, later = keys(), keys(CONFIDENCE), keys(CONFIDENCE.replace("20", "30"))
    for id in ("teacher", "scratch"):
        assert without[id] == with_it[id] == later[id]
    assert len({without["distilled"], with_it["distilled"], later["distilled"]}) == 3
    scores = numbers(tmp_path)
    before = keys(scores)
    np.save(tmp_path / "scores.npy", np.arange(1078)[::-1])
    assert keys(scores)["distilled"] != before["distilled"]


def test_the_choices_are_those_of_the_package():
    fields = ByTeacher.model_fields
    assert set(get_args(fields["pacing"].annotation)) == set(SHAPES)
    assert set(get_args(fields["order"].annotation)) == set(ORDERS)
    names = {"teacher_confidence": curricula.ByTeacherConfidence, "teacher_loss": curricula.ByTeacherLoss}
    assert set(get_args(fields["name"].annotation)) == set(names)


FULL = ("data.curriculum={name: teacher_loss, start: 0.3, full_after: 20}", "few_labels=null")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.curriculum={name: teacher_confidence}"], "data.curriculum.start: this key is missing"),
        (["data.curriculum={name: confidence, start: 1, full_after: 1}"], "data.curriculum.name: invalid value"),
        ([CONFIDENCE, "data.curriculum.start=0"], "data.curriculum.start: invalid value. Received: 0"),
        ([CONFIDENCE, "data.curriculum.full_after=0"], "data.curriculum.full_after: invalid value. Received: 0"),
        ([CONFIDENCE, "data.curriculum.pacing=x"], "data.curriculum.pacing: invalid value. Received: 'x'"),
        ([CONFIDENCE, "data.curriculum.file=x.npy"], "data.curriculum.file: unknown key"),
        (
            ["data.curriculum={name: scores, file: missing.npy, start: 1, full_after: 1}"],
            "data.curriculum.file: file not found. Received: missing.npy",
        ),
        (["data.curriculum={name: scores, file: a.csv, start: 1, full_after: 1}"], "file: invalid value.*a .npy file"),
        ([FULL[0]], "data.curriculum: it needs a label for each example"),
        ([CONFIDENCE, "data.curriculum.balanced=true"], "data.curriculum: it needs a label for each example"),
        (
            [CONFIDENCE, "assistants=[{model: digits_student, epochs: 1}]", "guidance=all"],
            "data.curriculum: with several teachers",
        ),
        (
            [CONFIDENCE, "student.model=a.keras", "student.epochs=null", "few_labels=null"],
            "data.curriculum: it has no effect",
        ),
    ],
)
def test_refused_when_read(overrides, message):
    with pytest.raises(RecipeError, match=message):
        recipes.load(None, overrides)


def test_refused_before_anything_is_trained(make_recipe, tmp_path):
    def refused(message, *overrides):
        with pytest.raises(RecipeError, match=message):
            check_recipe(make_recipe(tmp_path / "run", *overrides))

    scores = numbers(tmp_path)
    np.save(tmp_path / "scores.npy", np.arange(1077))
    refused("data.curriculum: A curriculum needs one difficulty per example", scores)
    np.save(tmp_path / "scores.npy", np.where(np.arange(1078) == 5, np.nan, 1.0))
    refused("data.curriculum: .*nan for example 5", scores)
    (tmp_path / "scores.npy").write_bytes(b"no array")
    refused("data.curriculum: The scores cannot be read", scores)
    refused(
        "data.curriculum: The cache contains the teacher's outputs for mixed", CONFIDENCE, "augment=[mixup]", "cache={}"
    )
    x, y = np.random.default_rng(0).uniform(size=(60, 8, 8, 1)), np.random.default_rng(0).normal(size=(60, 10))
    np.savez(tmp_path / "numbers.npz", x=x.astype("float32"), y=y.astype("float32"))
    regression = f"data.source=npz:{tmp_path}/numbers.npz"
    refused("data.curriculum: A teacher of numbers has no confidence", regression, CONFIDENCE)
    check_recipe(make_recipe(tmp_path / "run", regression, *FULL))
