"""The report of a run, with `labels.txt`, `history.json` and a model card beside each exported file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_kd import files
from keras_kd.evaluation import page
from keras_kd.evaluation import report as reports
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.roles import MODELS, Role
from keras_kd.export import inspect_tflite, model_card
from keras_kd.litert import FORMATS
from keras_kd.recipes.engine.artifact import Artifact
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.engine.stage import Stage
from keras_kd.recipes.methods import exits
from keras_kd.recipes.registry import register
from keras_kd.recipes.stages import robustness
from keras_kd.recipes.stages.exports import GUARDED


@register(phase="report")
def plan_report(plan: Any, recipe: Any) -> Iterator[Stage]:
    """The report of all trainings and measurements."""
    measured = [plan[id] for id in ("measurements", robustness.ID, exits.ID) if id in plan]
    yield ReportFiles([*plan.of(*MODELS), *measured], titled=plan.stages)


class ReportFiles(Stage):
    """Writes the report from the records of all stages; it is cheap and written in every run."""

    is_repeated = True

    def __init__(self, inputs: list[Stage], titled: list[Stage]):
        makes = Artifact(role=Role.REPORT, title="report", kind="text", file=Path("report.json"))
        super().__init__("report", inputs=inputs, settings={}, makes=makes)
        self.titled = tuple(titled)

    def run(self, context: Context) -> Artifact:
        folder, report = context.folder.path, self.report(context)
        files.write(folder / "labels.txt", "\n".join(report.class_names) + "\n")
        files.write(folder / "history.json", json.dumps(report.histories, indent=1))
        reports.write_json(report, folder / "report.json")
        exported, with_exits = (_tflite(role, context) for role in (Role.EXPORTED, Role.EXITS_FILE))
        for path in (*exported, *with_exits):
            files.write(path.with_suffix(".md"), model_card(path))
        for name in (*FORMATS, "mixed", GUARDED, *map(exits.named, FORMATS)):
            card = folder / f"student_{name}.md"
            if not card.with_suffix(".tflite").exists():  # of a file that was removed
                card.unlink(missing_ok=True)
        graphs = {path.name: inspect_tflite(path).svg() for path in exported[-1:]}
        page.write_html(report, folder / "report.html", graphs=graphs)
        return dataclasses.replace(self.makes)

    def report(self, context: Context) -> Report:
        """The report of the records of all stages."""
        recipe, source = context.checked.recipe, context.checked.source
        measured = json.loads(context.file("measurements").read_text("utf-8"))
        for id in (robustness.ID, exits.ID):  # the fields of the report have their names
            if id in context.artifacts:
                measured[id] = json.loads(context.file(id).read_text("utf-8"))
        titles = {stage.id: stage.makes.title for stage in self.titled}
        measured["rows"] = [row | {"title": titles[row["id"]]} for row in measured["rows"]]
        records = {stage.id: context.artifacts[stage.id].record for stage in self.inputs}
        return Report(
            title=f"{recipe.name}: from {'student' if recipe.teacher is None else 'teacher'} to phone",
            class_names=list(source.class_names),
            histories={id: record["history"] for id, record in records.items() if "history" in record},
            conditions={id: record["conditions"] for id, record in records.items() if "conditions" in record},
            settings=recipe.model_dump(mode="json"),
            **reports.typed(measured),
        )


def _tflite(role: Role, context: Context) -> list[Path]:
    """The `.tflite` files of this run with a role, in the order of the stages."""
    made = [artifact for artifact in context.artifacts.values() if artifact.role is role and artifact.kind == "tflite"]
    return [context.folder.path / artifact.file for artifact in made if artifact.file]
