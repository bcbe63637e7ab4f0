"""A whole run: data, teacher, student alone and distilled, files for the phone, measurements, report.

Each stage is skipped where the run folder holds its result for the same settings, so a run that was interrupted goes on
where it stopped, and one that is complete only reports.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_kd import data, evaluation, export, files
from keras_kd.diagnosis import Diagnosis
from keras_kd.errors import RecipeError, explain
from keras_kd.evaluation import report as reports
from keras_kd.evaluation.report import Report
from keras_kd.evaluation.summary import DISTILLED, SCRATCH, TEACHER
from keras_kd.recipes import measuring, teaching, training
from keras_kd.recipes.assembly import Assembly, Role, assemble, check_file
from keras_kd.recipes.building import is_file
from keras_kd.recipes.exporting import Exporter
from keras_kd.recipes.folder import FINGERPRINT, RunFolder, settings_key
from keras_kd.recipes.progress import RunProgress
from keras_kd.recipes.schema import Distillation, Recipe, Training
from keras_kd.teachers import FrozenTeacher, Panel, Teacher

_OF_TRAINING = set(Training.model_fields)


def run(recipe: Recipe, console: Console | None = None, *, overwrite: bool = False) -> Report:
    """Runs a recipe to the end, or goes on with a run that was interrupted.

    Args:
        recipe: from `load`.
        console: where progress goes; None is standard output.
        overwrite: whether the results of another recipe (other data, other models) in the run folder may be replaced.

    Returns:
        The report, which also lies in the run folder as `report.json` and `report.html`.

    Raises:
        RecipeError: before anything heavy starts and before anything is written; also where another process works in
            the run folder, or the results of another recipe lie there.
        TrainingError: a training diverged.
        ExportError: a model could not be converted.
        StorageError: the disk is full or not writable.
    """
    return Run(assemble(recipe), console, overwrite=overwrite).go()


def build_cache(
    recipe: Recipe,
    console: Console | None = None,
    *,
    shard: int = 0,
    num_shards: int = 1,
    overwrite: bool = False,
) -> Path:
    """The cache of a recipe's teacher, built or gone on with; the teacher is trained first where it has to be.

    Args:
        recipe: from `load`, with a `cache` section.
        console: where progress goes; None is standard output.
        shard, num_shards: this process does every `num_shards`-th shard, beginning with number `shard`. Several may
            work at once when the teacher is trained.
        overwrite: see `run`.

    Returns:
        The folder of the cache.

    Raises:
        RecipeError: see `run`; also where the recipe asks for no cache.
        TeacherError: the folder holds another cache.
        TrainingError, StorageError: see `run`.
    """
    if recipe.cache is None:
        raise RecipeError(explain("cache: there is none to build.", received="null", expected="such as {views: 8}"))
    return Run(assemble(recipe), console, overwrite=overwrite).build_cache(shard, num_shards)


def diagnose_teacher(recipe: Recipe, console: Console | None = None, *, overwrite: bool = False) -> Diagnosis:
    """What a recipe's teacher is worth as a teacher; it is trained first where it has to be.

    Returns:
        The diagnosis, which also lies in the run folder, with the calibration as a picture.

    Raises:
        RecipeError, TrainingError, StorageError: see `run`.
    """
    return Run(assemble(recipe), console, overwrite=overwrite).diagnose()


class Run:
    """The stages of one run over one folder."""

    def __init__(self, assembly: Assembly, console: Console | None = None, *, overwrite: bool = False):
        self.assembly = assembly
        self.recipe = assembly.recipe
        self.folder = RunFolder(assembly.recipe.folder)
        self.progress = RunProgress(console)
        self.overwrite = overwrite
        self._check_found_teacher()

    def go(self) -> Report:
        """All stages, in order."""
        with self._alone(), self.progress, export.Converter() as converter:
            teacher, trained = self.teacher()
            self.look_at(teacher)
            models = {}
            if not teacher.knows_one_set:  # the training images, not those of the test
                models[TEACHER] = teacher.model if isinstance(teacher, FrozenTeacher) else teacher
            for name, student, result in self.assistants_and_students(teacher):
                models[name] = student
                trained[name] = result
                if name == DISTILLED:  # it loads TensorFlow while the students with few labels are trained
                    converter.start()
            exporter = Exporter(self.recipe, self.assembly.source, self.folder, self.progress, converter)
            files = exporter.export(models.get(TEACHER), models[DISTILLED])
            report = self.measure(models, files, trained)
            self.write(report)
        return report

    def build_cache(self, shard: int, num_shards: int) -> Path:
        """The teacher, and its cache."""
        with self._alone(shared=num_shards > 1 and self._teacher_is_ready()), self.progress:
            teacher, _ = self.teacher()
            teaching.cached(
                teacher, self.recipe, self.assembly.source, self.folder, self.progress, "teacher", shard, num_shards
            )
        return teaching.cache_folder(self.recipe.cache, self.folder, "teacher", teacher)

    def _alone(self, *, shared: bool = False) -> contextlib.AbstractContextManager[None]:
        """Keeps other runs and other recipes out of the folder."""
        recipe = self.recipe
        identity = {"data": recipe.data.source, "teacher": recipe.teacher.model, "student": recipe.student.model}
        return self.folder.held(identity, overwrite=self.overwrite, shared=shared)

    def look_at(self, teacher: Teacher) -> Diagnosis:
        """Says where a teacher is unfit to teach, and keeps the whole diagnosis."""
        found = teaching.diagnosis(teacher, self.recipe, self.assembly.source)
        for warning in found.warnings:
            self.progress.say(f"teacher: {warning}")
        file, text = self.folder.path / "teacher_diagnosis.json", json.dumps(found.as_dict(), indent=1) + "\n"
        if not file.exists() or file.read_text("utf-8") != text:
            files.write(file, text)
        return found

    def diagnose(self) -> Diagnosis:
        """The teacher, and what it is worth."""
        with self._alone(), self.progress:
            found = self.look_at(self.teacher()[0])
            files.write(self.folder.path / "teacher_reliability.svg", evaluation.reliability(found))
        return found

    # The teacher.

    @property
    def _teacher_file(self) -> Path:
        return self.folder.path / "teacher.keras"

    def _check_found_teacher(self) -> None:
        """A `teacher.keras` that somebody put into the run folder has to fit, and is then used as it is."""
        file = self._teacher_file
        is_there = file.exists() and not self.folder.wrote("teacher", file)
        self._teacher_was_found = is_there and not self.assembly.teacher_is_given
        if self._teacher_was_found:
            check_file(file, "teacher", self.assembly.source)

    def teacher(self) -> tuple[Teacher, dict[str, Any]]:
        """Who teaches, and what is known of its training under its name."""
        file, trained = self._trained_teacher()
        return teaching.teacher_of(self.recipe, file, self.assembly.source), trained

    def _teacher_settings(self) -> dict[str, Any]:
        return self._settings_of_all() | self._settings_of(self.assembly.roles["teacher"])

    def _settings_of_all(self) -> dict[str, Any]:
        """What every training of the run depends on."""
        recipe, data_key = self.recipe, self.assembly.source.fingerprint
        return {"seed": recipe.seed, "augment": recipe.augment, f"data{FINGERPRINT}": data_key}

    @staticmethod
    def _settings_of(role: Role) -> dict[str, Any]:
        return role.settings.model_dump(include=_OF_TRAINING) | {f"untrained model{FINGERPRINT}": role.identity}

    def _teacher_is_ready(self) -> bool:
        """Whether the teacher can be had without writing into the folder."""
        if "teacher" not in self.assembly.roles or self._teacher_was_found:
            return True
        settings = self._given_settings() if self.assembly.teacher_is_given else self._teacher_settings()
        return self.folder.finished("teacher", settings, self._teacher_file) is not None

    def _trained_teacher(self) -> tuple[Path | None, dict[str, Any]]:
        """The file of the trained teacher (None where it is no Keras model), and how it was trained under its name."""
        file = self._teacher_file
        if self.assembly.teacher_is_given:
            return self._given_teacher()
        if self._teacher_was_found:
            self.progress.say(f"teacher: loaded {file}, which was there before.")
            return file, {}
        role, settings = self.assembly.roles["teacher"], self._teacher_settings()
        done = self._done_before("teacher", settings, file)
        if done is None:
            model, key = role.build(), settings_key(settings)
            source, recipe = self.assembly.source, self.recipe
            done = training.train(
                model, recipe.teacher, source.train, self.assembly, self.folder, self.progress, "teacher", key
            )
            training.finish_training(self.folder, model, file, "teacher", settings, done)
        return file, {TEACHER: done}

    def _done_before(self, stage: str, settings: dict[str, Any], file: Path) -> dict[str, Any] | None:
        """What an earlier run kept of a training; where it has to be done again, a line says what that replaces."""
        done = self.folder.finished(stage, settings, file)
        if done is not None:
            self.progress.say(f"{stage}: loaded {file}, trained before with these settings.")
        elif reason := self.folder.replaces(stage, settings, file):
            self.progress.say(f"{file.name}: {reason}, trained again.")
        return done

    def _given_settings(self) -> dict[str, Any]:
        return {"model": self.recipe.teacher.model, f"model{FINGERPRINT}": self.assembly.roles["teacher"].identity}

    def _given_teacher(self) -> tuple[Path | None, dict[str, Any]]:
        name, file = self.recipe.teacher.model, self._teacher_file
        self.progress.say(f"teacher: loaded {name}.")
        if not is_file(name):
            return None, {}
        settings = self._given_settings()
        if self.folder.finished("teacher", settings, file) is None:
            if reason := self.folder.replaces("teacher", settings, file):
                self.progress.say(f"{file.name}: {reason}, replaced by {name}.")
            self.folder.finish_model("teacher", settings, {}, file, FrozenTeacher(name).model)
        return file, {}

    # The students.

    def assistants_and_students(self, teacher: Teacher):
        """Row name, model and training of each: the assistants, each from the one before, then the students."""
        distillation, whole = self.recipe.distillation, self.assembly.source.train
        teachers = {"teacher": teacher}
        for name in self.assembly.assistants:
            taught_by = self._teaching(teachers)
            file = self._state_file(name.replace(" ", "_"))
            # what a loss says of layers is about teacher and student
            soft = distillation.model_copy(update={"losses": None})
            yield self._student(name, name, whole, file, taught_by, soft, role=name)
            teachers[name] = FrozenTeacher(file)
        yield from self.students(self._teaching(teachers))

    def _teaching(self, teachers: dict[str, Teacher]) -> Teacher:
        """Who teaches the next model, the last of these or all of them; from a cache where the recipe asks for one."""
        name, teacher = list(teachers.items())[-1]
        if self.recipe.guidance == "all" and len(teachers) > 1:
            names = [known.replace(" ", "_") for known in teachers]
            name, teacher = f"up to {name}", Panel(list(teachers.values()), names=names)
        return teaching.cached(teacher, self.recipe, self.assembly.source, self.folder, self.progress, name)

    def students(self, teacher: Teacher):
        """Row name, model and training of each student: alone and distilled, then the same with few labels."""
        whole = self.assembly.source.train
        yield self._student(SCRATCH, "student from scratch", whole, self._state_file("scratch"))
        distilled = self.folder.path / "student.keras"
        yield self._student(DISTILLED, "student distilled", whole, distilled, teacher, self.recipe.distillation)
        few = self.recipe.few_labels
        if few is not None:
            labelled, partly = training.few_label_splits(self.assembly)
            labels = f"{few.num_labels} labels"
            yield self._student(f"scratch, {labels}", "scratch, few labels", labelled, self._state_file("few_scratch"))
            file = self._state_file("few_distilled")
            yield self._student(f"distilled, {labels}", "distilled, few labels", partly, file, teacher, few)

    def _state_file(self, name: str) -> Path:
        return self.folder.state / f"{name}.keras"

    def _student(
        self,
        row: str,
        stage: str,
        split: data.Split,
        file: Path,
        teacher: Teacher | None = None,
        distillation: Distillation | None = None,
        role: str = "student",
    ) -> tuple[str, keras.Model, dict[str, Any]]:
        recipe, trained = self.recipe, self.assembly.roles[role]
        settings = self._settings_of_all() | self._settings_of(trained) | {"views": teaching.views(recipe), "row": row}
        if teacher is not None:
            settings |= {
                "distillation": distillation.model_dump(),
                f"teacher{FINGERPRINT}": teacher.fingerprint,
                "cache": recipe.cache and recipe.cache.model_dump(include={"top_k", "remainder"}),
                "drop": recipe.drop,
            }
        done = self._done_before(stage, settings, file)
        if done is not None:
            return row, keras.models.load_model(file, compile=False), done
        student, result = training.train_student(
            self.assembly,
            split,
            self.folder,
            self.progress,
            stage,
            role=trained,
            key=settings_key(settings),
            teacher=teacher,
            distillation=distillation,
        )
        training.finish_training(self.folder, student, file, stage, settings, result)
        return row, student, result

    # The report.

    def measure(self, models: dict[str, keras.Model], files: dict[str, Path], trained: dict[str, Any]) -> Report:
        """Accuracy on the test split, agreement, bytes and latency of all models and files."""
        test, num_threads = self.assembly.source.test, self.recipe.export.num_threads
        runners = {name: evaluation.TFLiteRunner(file, num_threads=num_threads) for name, file in files.items()}
        with self.progress.stage("measure", total=len(models) + len(runners)) as stage:
            predictions = measuring.measure_models(models, test, stage)
            for name, runner in runners.items():
                if name not in predictions:
                    predictions[name] = measuring.predict(runner, test)
                stage.advance(name)
            stage.note("latency")
            sample, _ = test.subset(np.array([0]), name="one image").arrays()
            latencies = evaluation.compare_latency(runners, sample)
        rows = measuring.model_rows(models, predictions, test.labels(), files, latencies)
        shipped = list(files)[-1]
        quality = evaluation.measure(predictions[shipped], test.labels())
        soft_targets = {}
        if TEACHER in models:
            examples = measuring.soft_target_examples(models[TEACHER], predictions[TEACHER], test)
            soft_targets = {"temperatures": [1, 4, 20], "examples": examples}
        return Report(
            title=f"{self.recipe.name}: from teacher to phone",
            rows=rows,
            test_size=test.num_examples,
            class_names=list(self.assembly.source.class_names),
            histories={name: result["history"] for name, result in trained.items()},
            conditions={name: result["conditions"] for name, result in trained.items()},
            confusion=np.asarray(quality.confusion).tolist(),
            confusion_model=shipped,
            soft_targets=soft_targets,
            settings=self.recipe.model_dump(mode="json"),
            environment=measuring.environment(),
        )

    def write(self, report: Report) -> None:
        """`labels.txt`, `history.json`, `report.json` and `report.html`."""
        folder = self.folder.path
        files.write(folder / "labels.txt", "\n".join(self.assembly.source.class_names) + "\n")
        files.write(folder / "history.json", json.dumps(report.histories, indent=1))
        reports.write_json(report, folder / "report.json")
        reports.write_html(report, folder / "report.html")
