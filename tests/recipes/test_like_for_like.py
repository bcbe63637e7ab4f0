"""Compared models were trained alike, with the same start, views and steps, or the report lists the differences."""

import functools

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_kd import data
from keras_kd.data.pipeline_inputs import PipelineInputs
from keras_kd.evaluation.caveats import unlike
from keras_kd.evaluation.roles import Role

AUGMENT = "augment=[{name: gaussian_noise, stddev: 0.1}]"
ASSISTANT = "assistants=[{model: 'example_models:other_student', epochs: 3, batch_size: 50}]"
QUICK = ["student.epochs=3", "student.batch_size=50", "teacher.batch_size=50", "teacher.epochs=1"]
SCRATCH, DISTILLED = "scratch", "distilled"


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory):
    """100 training images, in two batches of 50."""
    digits, file = load_digits(), tmp_path_factory.mktemp("data") / "digits.npz"
    x, y = digits.images.astype("uint8")[..., None], digits.target
    parts = {"train": slice(100), "val": slice(100, 150), "test": slice(150, 200)}
    arrays = {f"x_{name}": x[rows] for name, rows in parts.items()}
    np.savez(file, **arrays, **{f"y_{name}": y[rows] for name, rows in parts.items()})
    return f"data.source=npz:{file}"


@pytest.fixture
def trained(start_recipe, few_digits, tmp_path, monkeypatch):
    """The trainings of a run by id: initial weights and batches, and the conditions that the run records."""
    seen, fit, epoch = [], keras.Model.fit, data.Pipeline.epoch

    @functools.wraps(fit)
    def watching_fit(model, *args, **settings):
        start = [weight.tobytes() for weight in getattr(model, "student", model).get_weights()]
        seen.append({"start": start, "epochs": {}})
        return fit(model, *args, **settings)

    def watching_epoch(pipeline, number):
        for batch in epoch(pipeline, number):
            x = batch[0].x if isinstance(batch[0], PipelineInputs) else batch[0]
            seen[-1]["epochs"].setdefault(number, []).append([image.tobytes() for image in x])
            yield batch

    def trained(*overrides):
        run = start_recipe(tmp_path / "run", few_digits, *QUICK, *overrides)
        run.run(Role.TEACHER)
        seen.clear()
        said = {id: made.record["conditions"] for id, made in run.run().items() if made.kind == "keras"}
        del said["teacher"]
        return {name: (watched, said[name]) for name, watched in zip(said, seen, strict=True)}

    compile_ = keras.Model.compile
    monkeypatch.setattr(keras.Model, "compile", functools.partialmethod(compile_, run_eagerly=True))
    monkeypatch.setattr(keras.Model, "fit", watching_fit)
    monkeypatch.setattr(data.Pipeline, "epoch", watching_epoch)
    return trained


def images(watched):
    """The distinct inputs of a training."""
    return {image for batches in watched["epochs"].values() for batch in batches for image in batch}


@pytest.mark.parametrize(
    ("overrides", "views", "num_images"),
    [
        ([], 1, 100),
        ([AUGMENT], "a fresh one each epoch", 300),
        ([AUGMENT, "cache={views: 2}", ASSISTANT], 2, 200),
        (["cache={views: 2}"], 1, 100),
    ],
    ids=["plain", "augmented", "cached views", "cached, not augmented"],
)
def test_alone_and_distilled_see_the_same(overrides, views, num_images, trained):
    arms = trained(*overrides)
    (alone, says_alone), (distilled, says_distilled) = arms[SCRATCH], arms[DISTILLED]
    assert alone == distilled
    assert [len(batches) for batches in alone["epochs"].values()] == [2, 2, 2]
    assert all(len(images(watched)) == num_images for watched, _ in arms.values())
    assert says_alone == says_distilled
    assert (says_alone["steps"], says_alone["views"]) == (6, views)


def test_a_cache_with_more_views_changes_nothing(trained):
    """The cache of an earlier run holds more views than this recipe requests."""
    trained(AUGMENT, "cache={views: 3}")
    arms = trained(AUGMENT, "cache={views: 2}")
    assert arms[SCRATCH] == arms[DISTILLED]
    assert len(images(arms[DISTILLED][0])) == 200


def test_differences_with_few_labels_are_reported(trained):
    arms = trained("few_labels={num_labels: 20}", AUGMENT, "cache={views: 2}")
    (alone, says_alone), (distilled, says_distilled) = (arms[f"few_{arm}"] for arm in ("scratch", "distilled"))
    assert alone["start"] == distilled["start"] == arms[SCRATCH][0]["start"]
    assert [len(batches) for batches in alone["epochs"].values()] == [2, 2, 2]
    assert distilled["epochs"] == arms[SCRATCH][0]["epochs"]
    assert len(images(alone)) == 200  # two views of 100 repetitions
    assert unlike(says_alone, says_distilled) == ["examples (the 20 labeled ones, repeated; all, 20 of them labeled)"]


def test_a_finished_report_states_how_its_arms_were_trained(finished):
    page, report = (finished[0] / "report.html").read_text(), finished[1]
    both = "the student alone and the distilled student"
    same = f"With all labels, {both} were trained with the same initial weights, examples, views, seed, steps,"
    other = f"With 50 labels, {both} differ in more than the teacher: examples (the 50 labeled"
    assert same in page and other in page
    assert report.conditions[SCRATCH] == report.conditions[DISTILLED]
