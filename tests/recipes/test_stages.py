"""A stage runs once for the same settings and inputs, and is added by one registration."""

import dataclasses
import json
import shutil
from pathlib import Path

import keras
import pytest

from keras_kd import evaluation
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import Role
from keras_kd.recipes import registry
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.reading.schema import Section
from keras_kd.recipes.stages import training

FEW = "few_labels={num_labels: 50}"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run's folder."""
    return shutil.copytree(finished[0], tmp_path / "run")


@pytest.fixture
def loaded(monkeypatch):
    """The models that are loaded and the files that are measured."""
    names, load, predict = [], keras.models.load_model, evaluation.TFLiteRunner.predict
    monkeypatch.setattr(
        keras.models, "load_model", lambda file, **kw: names.append(Path(file).name) or load(file, **kw)
    )
    monkeypatch.setattr(evaluation.TFLiteRunner, "predict", lambda self, x: names.append("tflite") or predict(self, x))
    return names


def rows(report):
    return [dataclasses.replace(row, latency_p50_ms=None, latency_p95_ms=None) for row in report.rows]


def test_a_stage_is_one_class_and_one_registration(copy, run_recipe, monkeypatch):
    monkeypatch.setattr(registry, "_PLANNERS", list(registry._PLANNERS))

    class Scaled(Stage):
        def run(self, context):
            model = context.model("distilled")
            model.set_weights([self.settings["factor"] * weight for weight in model.get_weights()])
            context.progress.say("scaling")
            return context.save_model(self.makes, model)

    @registry.register("scale", type("Scale", (Section,), {"__annotations__": {"factor": float}}))
    def plan_scaling(plan, scale):
        makes = Artifact(role=Role.MODEL, title="scaled", kind="keras", file=Path("s.keras"), derived_from="distilled")
        yield Scaled("scaled", inputs=[plan["distilled"]], settings=scale.model_dump(), makes=makes)

    for times in (1, 0):
        report, said = run_recipe(copy, FEW, "scale={factor: 0.5}")
        assert said.splitlines().count("scaling") == times
        assert "scaled" in [row.title for row in report.rows]
        assert report.settings["scale"] == {"factor": 0.5}
    _, said = run_recipe(copy, FEW, "scale={factor: 0.25}")
    assert "scaling" in said and "student.keras, trained before" in said
    exported = [row for row in report.rows if row.role is Role.EXPORTED]
    assert [row.derived_from for row in exported] == ["scaled", "scaled"]  # the last model of the chain is shipped


def test_a_section_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="taken are"):
        registry.register("student", Section)


def test_a_finished_run_loads_and_measures_nothing(finished, copy, run_recipe, loaded):
    report, said = run_recipe(copy, FEW)
    assert loaded == []
    assert "none of the models and files has changed" in said
    assert report.rows == finished[1].rows and report.environment == finished[1].environment


def test_a_report_that_was_deleted_is_written_again_alone(finished, copy, run_recipe, loaded):
    for name in ("report.json", "report.html", "history.json", "labels.txt"):
        (copy / name).unlink()
    run_recipe(copy, FEW)
    assert loaded == []
    stored = Report.from_dict(json.loads((copy / "report.json").read_text()))
    assert stored.rows == finished[1].rows and (copy / "report.html").exists() and (copy / "history.json").exists()


def test_a_file_that_was_deleted_is_made_and_measured_again_alone(finished, copy, run_recipe, loaded):
    (copy / "student_float32.tflite").unlink()
    report, said = run_recipe(copy, FEW)
    assert said.count("trained before with these settings") == 5 and "export distilled, float32" in said
    assert "export distilled, int8" not in said
    assert rows(report) == rows(finished[1])


def test_titles_are_text_and_nothing_else(finished, copy, start_recipe):
    """Changing every title does not change the run."""
    before = start_recipe(copy, FEW)
    after = start_recipe(copy, FEW)
    for number, stage in enumerate(after.plan.stages):
        stage.makes = dataclasses.replace(stage.makes, title=f"title {number}")
    assert [stage.key() for stage in before.plan.stages] == [stage.key() for stage in after.plan.stages]
    after.run(*Role)
    stored = Report.from_dict(json.loads((copy / "report.json").read_text()))
    assert [row.title for row in stored.rows] != [row.title for row in finished[1].rows]
    unnamed = [[dataclasses.replace(row, title="") for row in report.rows] for report in (stored, finished[1])]
    assert unnamed[0] == unnamed[1] and stored.summary == finished[1].summary
    assert stored.conditions == finished[1].conditions and stored.histories == finished[1].histories


def test_a_stage_depends_on_what_it_reads(start_recipe, tmp_path):
    """And on nothing else: a setting changes only the keys of the stages that read it."""

    def keys(*overrides):
        return {stage.id: stage.key() for stage in start_recipe(tmp_path / "run", FEW, *overrides).plan.stages}

    def changed(before, *overrides):
        after = keys(*overrides)
        return {id for id in {*before, *after} if before.get(id) != after.get(id)}

    cached = keys("cache={}")
    taught = {"distilled", "few_distilled", "export_float32", "export_int8", "measurements", "report"}
    assert changed(cached, "cache={top_k: 5}") == {"cache_teacher", *taught}
    assert changed(cached, "cache={folder: /tmp/elsewhere}") == set()
    plain = keys()
    assert changed(plain, "few_labels.alpha=0.7") == {"few_distilled", "measurements", "report"}
    assert changed(plain, "export.calibration_samples=50") == {"export_int8", "measurements", "report"}
    assert changed(plain, "export.num_threads=2") == {"measurements", "report"}
    assert changed(plain, "teacher.weight_decay=0.1") == {"teacher", "diagnosis", "export_teacher", *taught}
    assert changed(plain, "student.epochs=9") == {"scratch", "few_scratch", *taught}
    exports = {"export_float32", "export_int8", "measurements", "report"}
    assert changed(plain, "name=other") == exports  # the name and the metadata are written into the files
    assert changed(plain, "export.metadata.license=MIT") == exports


def test_a_model_that_comes_out_otherwise_is_exported_again(copy, start_recipe, monkeypatch):
    """With the same settings: a file belongs to the weights it was made from, not to the recipe's text."""
    (copy / "student.keras").unlink()
    train = training.Training.run

    def other(stage, context):
        made = train(stage, context)
        model = keras.models.load_model(made.draft, compile=False)
        model.layers[-1].bias.assign(model.layers[-1].bias + 1)
        model.save(made.draft)
        return made

    monkeypatch.setattr(training.Training, "run", other)
    run = start_recipe(copy, FEW)
    exported = []
    for stage in run.plan.of(Role.EXPORTED):
        stage.run = lambda context, stage=stage: (
            exported.append(stage.id) or dataclasses.replace(stage.makes, is_complete=False)
        )
    run.run(Role.TEACHER, Role.DISTILLED, Role.EXPORTED)
    assert exported == ["export_float32", "export_int8"]
