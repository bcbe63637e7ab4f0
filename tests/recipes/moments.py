"""Moments at which a run may be killed.

Each function takes a `pytest.MonkeyPatch`, the id of a stage ("teacher", "distilled"), and the function that ends the
run. As a script, `python moments.py MOMENT STAGE run recipe.yaml ...` runs `keras-kd` in a process that kills itself
with SIGKILL; every training state is saved, and conversions run in the same process.
"""

import functools
import os
import re
import signal
import sys
from pathlib import Path

import keras
import pytest

from keras_kd import export, files
from keras_kd.evaluation import report
from keras_kd.recipes.engine.context import Context
from keras_kd.recipes.stages import training
from keras_kd.synthesis import DeepInversion


def in_an_epoch(patch, stage, end):
    """A few batches after a save."""

    class Ending(training.Resume):
        def on_train_batch_end(self, batch, logs=None):
            if self.history and batch >= 10:
                end()

    _when_training(patch, stage, lambda: patch.setattr(training, "Resume", Ending))


def in_a_synthesis(patch, stage, end):
    """In the second batch."""
    optimized, calls = DeepInversion._optimized, []

    def counted(inversion, *args):
        calls.append(args)
        if len(calls) == 2:
            end()
        return optimized(inversion, *args)

    patch.setattr(DeepInversion, "_optimized", counted)


def while_weights_are_written(patch, stage, end):
    save_weights = keras.Model.save_weights

    def half(model, file):
        save_weights(model, file)
        if file.name.startswith("epoch-2"):
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
            end()

    _when_training(patch, stage, lambda: patch.setattr(keras.Model, "save_weights", half))


def between_weights_and_state(patch, stage, end):
    saves = []

    def second(file):
        saves.append(file)
        if len(saves) == 2:
            end()

    _when_training(patch, stage, lambda: _before_moving(patch, r"epoch-\d+\.json", second))


def before_the_model_is_saved(patch, stage, end):
    _when_training(patch, stage, lambda: patch.setattr(Context, "save_model", lambda *args, **record: end()))


def between_stamp_and_model(patch, stage, end):
    _when_training(patch, stage, lambda: _before_moving(patch, r"teacher\.keras", lambda file: end()))


def before_the_state_is_cleared(patch, stage, end):
    _when_training(patch, stage, lambda: patch.setattr(training.Resume, "clear", lambda resume: end()))


def while_a_file_is_exported(patch, stage, end):
    """During the second export of the run."""
    convert, calls = export.export_tflite, []

    def counted(model, path, **settings):
        calls.append(path)
        if len(calls) == 2:
            Path(path).with_name(f".partial-0-{path.name}").write_bytes(b"half a file")
            end()
        return convert(model, path, **settings)

    patch.setattr(export, "export_tflite", counted)


def before_the_report(patch, stage, end):
    patch.setattr(report, "write_json", lambda *args: end())


def _when_training(patch, stage, arm):
    """Calls `arm` when the training of this stage begins."""
    train = training.Training.train

    def watched(self, context):
        if self.id == stage:
            arm()
        return train(self, context)

    patch.setattr(training.Training, "train", watched)


def _before_moving(patch, name, act):
    """Calls `act` before a file is moved to a name that matches the pattern."""
    move = files.move

    def watched(draft, file):
        if re.fullmatch(name, file.name):
            act(file)
        move(draft, file)

    patch.setattr(files, "move", watched)


if __name__ == "__main__":
    from keras_kd.cli.main import main

    _, moment, stage, *arguments = sys.argv
    training.SAVE_EVERY_SECONDS = 0.0
    export.export_tflite = functools.partial(export.export_tflite, isolate=False)
    globals()[moment](pytest.MonkeyPatch(), stage, lambda: os.kill(os.getpid(), signal.SIGKILL))
    sys.argv = ["keras-kd", *arguments]
    main()
