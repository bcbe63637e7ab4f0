"""Exporting a `.tflite` file during training; a failed export never affects the training."""

import functools
import re

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.callbacks import TFLiteExport, tflite_export
from keras_kd.errors import ConfigurationError, ExportError, Notice
from keras_kd.evaluation import TFLiteRunner
from keras_kd.export import Converter
from keras_kd.litert import get_format


@pytest.fixture
def in_process(monkeypatch):
    """Runs the converter in this process, which saves some seconds per file."""
    patched = functools.partial(tflite_export.export_tflite, isolate=False)
    monkeypatch.setattr(tflite_export, "export_tflite", patched)


@pytest.fixture
def exported(monkeypatch):
    """Replaces the export and records the student's weights at each call."""
    weights = []
    monkeypatch.setattr(tflite_export, "export_tflite", lambda model, path, **kw: weights.append(model.get_weights()))
    return weights


@pytest.fixture
def model(make_model):
    model = make_model(4)
    compile_classifier(model)
    return model


@pytest.fixture
def fit(digits):
    def fit(model, *callbacks, epochs=2, **settings):
        x, y = digits[0][:64], digits[1][:64]
        settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "epochs": epochs} | settings
        return model.fit(x, y, callbacks=list(callbacks), **settings)

    return fit


def compile_classifier(model):
    """Compiles the model to run eagerly: tracing takes longer than these few steps."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"], run_eagerly=True)


class Script(keras.callbacks.Callback):
    """Logs given values of a metric and keeps the weights of each epoch."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values, self.weights = name, values, []

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.get_weights())


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_example_of_the_readme(make_model, digits, tmp_path, in_process):
    """Alpha decays, the best student is exported as int8, and the distiller keeps the last one."""
    x, y = digits[0][:400], digits[1][:400]
    x_val, y_val = digits[0][400:500], digits[1][400:500]
    teacher = make_model(16)
    compile_classifier(teacher)
    teacher.fit(x, y, epochs=2, verbose=0)

    distiller = kd.Distiller(teacher, make_model(4), alpha=0.9, temperature=4.0)
    distiller.compile(
        optimizer=keras.optimizers.Adam(5e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    export = TFLiteExport(tmp_path / "student_int8.tflite", format="int8", calibration=x[:200], monitor="val_accuracy")
    kept = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(distiller.student.predict(x_val, verbose=0))
    )
    history = distiller.fit(
        x,
        y,
        epochs=5,
        validation_data=(x_val, y_val),
        callbacks=[kd.callbacks.AlphaDecay(kd.schedules.Cosine(0.9, 0.1, steps=1200)), export, keep],
        verbose=0,
    ).history
    distiller.student.save(tmp_path / "student.keras")

    best = int(np.argmax(history["val_accuracy"]))
    assert history["alpha"] == sorted(history["alpha"], reverse=True) and history["alpha"][-1] < 0.9
    assert export.best == history["val_accuracy"][best] and export.error is None
    assert (export.result.format, export.result.path) == ("int8", tmp_path / "student_int8.tflite")
    assert export.result.agreement > 0.95
    outputs = TFLiteRunner(tmp_path / "student_int8.tflite").predict(x_val)
    assert (outputs.argmax(1) == kept[best].argmax(1)).mean() > 0.95
    student = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(student.predict(x_val, verbose=0), kept[-1], atol=1e-5)


def test_without_a_monitor_the_last_student_is_exported(model, fit, digits, tmp_path, in_process):
    metadata = kd.export.Metadata(name="digits", outputs=kd.export.OutputInfo(labels=list("0123456789")))
    export = TFLiteExport(tmp_path / "new" / "student.tflite", metadata=metadata)
    fit(model, export)
    (scores,) = kd.export.read_metadata(export.path).outputs.values()
    assert scores.labels == tuple("0123456789")
    x = digits[0][:50]
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(TFLiteRunner(tmp_path / "new" / "student.tflite").predict(x), expected, atol=1e-4)
    assert export.result.format == "float32" and export.best is None


def test_the_file_has_the_weights_of_the_best_epoch_and_the_model_those_of_the_last(
    model, fit, digits, tmp_path, in_process
):
    script = Script("val_accuracy", [0.5, 0.9, 0.9, 0.7])
    export = TFLiteExport(tmp_path / "student.tflite", monitor="val_accuracy")
    fit(model, script, export, epochs=4)
    assert export.best == 0.9
    assert same(model.get_weights(), script.weights[3])
    x = digits[0][:50]
    received = TFLiteRunner(tmp_path / "student.tflite").predict(x)
    difference = {}
    for epoch, weights in enumerate(script.weights):
        model.set_weights(weights)
        difference[epoch] = np.abs(model.predict(x, verbose=0) - received).max()
    assert difference[1] < 1e-4 < min(difference[epoch] for epoch in (0, 2, 3))


@pytest.mark.parametrize(
    ("monitor", "mode", "values", "best"),
    [
        ("val_loss", "auto", [3.0, 1.0, 2.0], 1),
        ("val_accuracy", "auto", [0.1, 0.3, 0.2], 1),
        ("val_f1_score", "auto", [0.1, 0.3, 0.2], 1),
        ("val_mean_absolute_error", "auto", [3.0, 1.0, 2.0], 1),
        ("val_mse", "auto", [3.0, 1.0, 2.0], 1),
        ("val_Top5Acc", "auto", [3.0, 1.0, 2.0], 0),
        ("score", "min", [3.0, 1.0, 2.0], 1),
        ("val_loss", "max", [3.0, 1.0, 2.0], 0),
        ("val_accuracy", "auto", [float("nan"), 0.3, 0.2], 1),
        ("val_loss", "auto", [2.0, float("nan"), 1.0], 2),
    ],
)
def test_the_best_epoch_follows_monitor_and_mode(monitor, mode, values, best, model, fit, exported, tmp_path):
    script = Script(monitor, values)
    export = TFLiteExport(tmp_path / "student.tflite", monitor=monitor, mode=mode)
    fit(model, script, export, epochs=3)
    assert len(exported) == 1 and same(exported[0], script.weights[best])
    assert export.best == values[best]


def test_each_improvement_is_exported_immediately(model, fit, exported, tmp_path):
    script = Script("val_accuracy", [0.1, 0.3, 0.2, 0.4])
    fit(model, script, TFLiteExport(tmp_path / "s.tflite", monitor="val_accuracy", every_improvement=True), epochs=4)
    assert len(exported) == 3
    assert all(same(exported[i], script.weights[epoch]) for i, epoch in enumerate((0, 1, 3)))


def test_each_training_starts_without_a_best_value(model, make_model, fit, exported, tmp_path):
    """The second training, of another model, is worse throughout."""
    export = TFLiteExport(tmp_path / "student.tflite", monitor="val_accuracy")
    fit(model, Script("val_accuracy", [0.9, 0.8]), export)
    other = make_model(6)
    compile_classifier(other)
    script = Script("val_accuracy", [0.3, 0.2])
    fit(other, script, export)
    assert same(exported[1], script.weights[0]) and export.best == 0.3


def test_a_missing_metric_is_reported(model, fit, exported, tmp_path):
    with pytest.warns(Notice, match=r"found no 'val_accuracy' in the logs: \['accuracy', 'loss'\]"):
        fit(model, TFLiteExport(tmp_path / "student.tflite", monitor="val_accuracy"))
    assert same(exported[0], model.get_weights())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"monitor": "val_loss", "mode": "lowest"}, "Invalid 'mode'.*'auto', 'min', 'max'"),
        ({"monitor": "val_score"}, "'val_score' does not show whether.*mode='min' or mode='max'"),
        ({"monitor": "loss_of_accuracy"}, "does not show whether"),
    ],
)
def test_invalid_settings_are_rejected_at_construction(settings, message, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        TFLiteExport(tmp_path / "student.tflite", **settings)


@pytest.fixture
def path(tmp_path):
    """A file from an earlier training."""
    (tmp_path / "student.tflite").write_bytes(b"the last good one")
    return tmp_path / "student.tflite"


def refuse(*args, **settings):
    raise ExportError("The converter rejected the model.")


def run_out_of_memory(*args, **settings):
    raise MemoryError("no memory left")


@pytest.mark.parametrize("monitor", [None, "accuracy"])
@pytest.mark.parametrize(
    ("convert", "message"),
    [(refuse, "continues. The converter rejected"), (run_out_of_memory, "continues. MemoryError: no memory left")],
)
def test_a_failed_export_keeps_the_training_and_the_old_file(
    monitor, convert, message, model, fit, path, monkeypatch, make_model
):
    keras.utils.set_random_seed(5)
    monkeypatch.setattr(tflite_export, "export_tflite", convert)
    export = TFLiteExport(path, monitor=monitor, every_improvement=monitor is not None)
    with pytest.warns(Notice, match=f"export to {re.escape(str(path))} failed; the training {message}"):
        history = fit(model, export)
    assert len(history.epoch) == 2
    assert path.read_bytes() == b"the last good one"
    assert export.result is None and export.error is not None


def test_incompatible_settings_are_rejected_before_training(path, model, fit):
    with pytest.raises(ConfigurationError, match="'int2'.*one of 'float32', 'float16'"):
        TFLiteExport(path, format="int2")
    with pytest.raises(ConfigurationError, match="Invalid 'metadata'"):
        TFLiteExport(path, metadata={"name": "net"})
    before = model.get_weights()
    with pytest.raises(ConfigurationError, match="needs `calibration`"):
        fit(model, TFLiteExport(path, format="int8"))
    assert all((now == then).all() for now, then in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("name", ["best.keras", "student", "student.tflite/"])
def test_an_unsuitable_path_is_rejected_before_training(name, tmp_path):
    (tmp_path / "student.tflite").mkdir()
    with pytest.raises(ConfigurationError, match="must name a TFLite file|is a folder"):
        TFLiteExport(tmp_path / name)


def test_one_child_process_serves_a_training_and_ends_with_it(model, fit, tmp_path, monkeypatch):
    """If an exception ends the training, the child ends with the next training or with the callback."""
    converters, closed = [], []
    monkeypatch.setattr(Converter, "close", lambda converter: closed.append(converter))
    monkeypatch.setattr(tflite_export, "export_tflite", lambda *args, converter, **_: converters.append(converter))
    export = TFLiteExport(tmp_path / "s.tflite", monitor="val_accuracy", every_improvement=True)
    fit(model, Script("val_accuracy", [0.1, 0.3]), export, epochs=2)
    assert len(converters) == 2 and len(set(converters)) == 1
    assert closed == [converters[0], converters[0]]  # at the beginning and at the end of the training


def test_calibration_of_another_shape(model, fit, path):
    export = TFLiteExport(path, format="int8", calibration=np.zeros((4, 3, 3, 1), "float32"))
    with pytest.warns(Notice, match="failed; the training continues. ConfigurationError: .*'calibration'"):
        fit(model, export)
    assert path.read_bytes() == b"the last good one"


def test_a_path_that_cannot_be_written(model, fit, path, in_process):
    blocked = path.parent / "blocked"
    export = TFLiteExport(blocked / "student.tflite")
    blocked.write_bytes(b"a file where the folder should be")
    with pytest.warns(Notice, match="failed; the training continues.*below a file"):
        fit(model, export)
    assert path.read_bytes() == b"the last good one"
    assert model.optimizer.iterations == 8


def test_an_export_after_a_failed_one_clears_the_error(model, fit, path, in_process):
    export = TFLiteExport(path, format="int8", calibration=np.zeros((0, 8, 8, 1), "float32"))
    with pytest.warns(Notice, match="'calibration'"):
        fit(model, export, epochs=1)
    export.format, export.calibration = get_format("float32"), None
    fit(model, export, epochs=1)
    assert export.error is None and export.result.path == path
    assert TFLiteRunner(path).predict(np.zeros((2, 8, 8, 1), "float32")).shape == (2, 10)
