"""The behavior that users of `model.fit` rely on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.schedules import Cosine, Linear


def from_logits(**settings):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **settings)


@pytest.fixture
def make_distiller(make_model):
    def make(student=None, teacher=None, *, compiled=True, optimizer=None, compile_with=None, **settings):
        distiller = kd.Distiller(teacher or make_model(8), student or make_model(4), **settings)
        if compiled:
            optimizer = optimizer or keras.optimizers.Adam(0.01)
            distiller.compile(optimizer, loss=from_logits(), metrics=["accuracy"], **(compile_with or {}))
        return distiller

    return make


def test_logs(make_distiller, digits):
    distiller = make_distiller(alpha=0.7)
    history = distiller.fit(digits[0][:64], digits[1][:64], validation_split=0.25, epochs=2, verbose=0).history
    own = {"loss", "student_loss", "distillation_loss", "soft_targets", "alpha", "accuracy"}
    assert set(history) == own | {"val_loss", "val_accuracy"}
    combined = 0.3 * np.array(history["student_loss"]) + 0.7 * np.array(history["distillation_loss"])
    np.testing.assert_allclose(history["loss"], combined, rtol=1e-5)


def test_epoch_logs_are_the_mean_over_its_examples(make_distiller, digits):
    x, y = digits[0][:40], digits[1][:40]
    distiller = make_distiller(optimizer=keras.optimizers.SGD(0.0))  # no weight changes, so the epoch is one evaluation
    history = distiller.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    whole = from_logits()(y, distiller.student(x))
    np.testing.assert_allclose(history["student_loss"], float(whole), rtol=1e-5)  # both epochs: means are reset


def test_evaluate_is_about_the_student_alone(make_distiller, make_model, digits):
    x, y = digits[0][:50], digits[1][:50]
    student = make_model(4, norm=True, dropout=0.5, kernel_regularizer="l2")
    distiller = make_distiller(student)
    distiller.fit(x, y, verbose=0)
    before = [w.copy() for w in student.get_weights()]
    student.compile(loss=from_logits(), metrics=["accuracy"])
    expected = student.evaluate(x, y, verbose=0, return_dict=True)

    def fail(batch):
        raise AssertionError("the teacher ran")

    distiller.teach = fail
    assert distiller.evaluate(x, y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-6)
    for one, other in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), student.predict(x, verbose=0))


def test_validation_data_is_what_evaluate_says(make_distiller, digits):
    validation = digits[0][100:150], digits[1][100:150]
    distiller = make_distiller()
    history = distiller.fit(digits[0][:64], digits[1][:64], validation_data=validation, verbose=0).history
    result = distiller.evaluate(*validation, verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(result["loss"], rel=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx(result["accuracy"])


def test_without_a_loss_the_teacher_alone_is_followed(make_distiller, digits):
    distiller = make_distiller(compiled=False)
    distiller.compile(keras.optimizers.Adam(0.01), metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    history = distiller.fit(digits[0][:64], validation_data=(digits[0][:9], digits[1][:9]), epochs=2, verbose=0).history
    assert set(history) == {"loss", "distillation_loss", "soft_targets", "alpha", "val_accuracy"}


def test_class_weight_is_sample_weight(make_distiller, make_model, digits):
    x, y = digits[0][:32], digits[1][:32]
    weights = {digit: 0.5 + digit / 5 for digit in range(10)}
    students = [make_model(4)]
    students.append(keras.models.clone_model(students[0]))
    students[1].set_weights(students[0].get_weights())
    teacher = make_model(8)
    make_distiller(students[0], teacher).fit(x, y, class_weight=weights, shuffle=False, verbose=0)
    sample_weight = np.array([weights[digit] for digit in y], "float32")
    make_distiller(students[1], teacher).fit(x, y, sample_weight=sample_weight, shuffle=False, verbose=0)
    for one, other in zip(students[0].get_weights(), students[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("settings", [{"steps_per_execution": 4}, {"run_eagerly": True}, {"jit_compile": True}])
def test_ways_of_running_agree(make_distiller, make_model, digits, settings):
    x, y = digits[0][:64], digits[1][:64]
    teacher, first = make_model(8), make_model(4)
    second = keras.models.clone_model(first)
    second.set_weights(first.get_weights())
    alpha = Linear(1.0, 0.0, steps=8)
    make_distiller(first, teacher, alpha=alpha).fit(x, y, batch_size=8, shuffle=False, verbose=0)
    make_distiller(second, teacher, alpha=alpha, compile_with=settings).fit(
        x, y, batch_size=8, shuffle=False, verbose=0
    )
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_half_precision_student_with_a_float32_teacher(make_distiller, make_model, digits):
    body = make_model(8, dtype="float32")
    half = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu", dtype="mixed_float16"),
            keras.layers.Dense(10, dtype="mixed_float16"),
        ]
    )
    distiller = make_distiller(half, body)
    assert isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    history = distiller.fit(digits[0][:512], digits[1][:512], epochs=5, verbose=0).history
    assert half(digits[0][:2]).dtype == "float16"
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]


def test_half_precision_as_a_global_policy(make_distiller, make_model, digits):
    teacher = make_model(8)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = make_model(4, dtype="float32")
        distiller = make_distiller(student, teacher)
    finally:
        keras.config.set_dtype_policy("float32")
    history = distiller.fit(digits[0][:256], digits[1][:256], epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_alpha_and_temperature_react_without_a_retrace(make_distiller, digits):
    x, y = digits[0][:16], digits[1][:16]
    distiller = make_distiller(optimizer=keras.optimizers.SGD(0.0), alpha=0.9)
    traces = []
    teach = distiller.teach
    distiller.teach = lambda batch: traces.append(1) or teach(batch)
    distiller.train_on_batch(x, y)
    traces.clear()
    values = []
    for alpha, temperature in ((0.9, 4.0), (0.0, 4.0), (1.0, 4.0), (1.0, 1.0)):
        distiller.alpha, distiller.temperature = alpha, temperature
        distiller.reset_metrics()
        values.append(distiller.train_on_batch(x, y, return_dict=True))
    assert not traces
    assert values[1]["loss"] == pytest.approx(values[1]["student_loss"], rel=1e-6)
    assert values[2]["loss"] == pytest.approx(values[2]["soft_targets"], rel=1e-6)
    assert values[3]["soft_targets"] != values[2]["soft_targets"]
    assert (distiller.alpha, distiller.temperature) == (1.0, 1.0)


def test_schedules_follow_the_optimizers_steps(make_distiller, digits):
    distiller = make_distiller(alpha=Cosine(0.9, 0.1, steps=8))
    history = distiller.fit(digits[0][:64], digits[1][:64], batch_size=16, epochs=3, verbose=0).history
    expected = [0.1 + 0.8 * (1 + np.cos(np.pi * min(step, 8) / 8)) / 2 for step in (3, 7, 11)]  # end of each epoch
    np.testing.assert_allclose(history["alpha"], expected, rtol=1e-5)


def test_a_schedule_set_between_two_fits_counts(make_distiller, digits):
    distiller = make_distiller(alpha=0.5)
    distiller.fit(digits[0][:32], digits[1][:32], batch_size=16, verbose=0)
    distiller.alpha = Linear(1.0, 0.0, steps=4)
    history = distiller.fit(digits[0][:32], digits[1][:32], batch_size=16, verbose=0).history
    assert history["alpha"] == pytest.approx([0.25])
    distiller.alpha = 0.125
    assert distiller.fit(digits[0][:32], digits[1][:32], verbose=0).history["alpha"] == pytest.approx([0.125])


def test_keras_callbacks(make_distiller, digits, tmp_path):
    distiller = make_distiller()
    data = tf.data.Dataset.from_tensor_slices((digits[0][:64], digits[1][:64])).batch(16)
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=50, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.ModelCheckpoint(tmp_path / "w.weights.h5", save_weights_only=True),
        keras.callbacks.TensorBoard(tmp_path / "logs"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.ReduceLROnPlateau("val_loss"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    distiller.fit(data, validation_data=data, epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
    assert (tmp_path / "best.keras").exists() and (tmp_path / "w.weights.h5").exists()
    assert "soft_targets" in (tmp_path / "log.csv").read_text().splitlines()[0]
    assert list((tmp_path / "logs" / "train").iterdir())


def test_backup_and_restore_goes_on_where_it_stopped(make_distiller, make_model, digits, tmp_path):
    x, y = digits[0][:64], digits[1][:64]
    teacher, start = make_model(8), make_model(4)

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(epochs, *callbacks):
        student = keras.models.clone_model(start)
        student.set_weights(start.get_weights())
        distiller = make_distiller(student, teacher, alpha=Linear(1.0, 0.0, steps=16))
        return student, distiller.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)

    whole, whole_history = run(4)
    backup = tmp_path / "backup"
    with pytest.raises(KeyboardInterrupt):
        run(4, keras.callbacks.BackupAndRestore(backup), Interrupt())
    resumed, history = run(4, keras.callbacks.BackupAndRestore(backup))
    assert history.history["alpha"] == pytest.approx(whole_history.history["alpha"][2:])
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_subclassed_student(make_distiller, digits):
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(10)

        def call(self, x):
            return self.dense(self.flatten(x))

    with pytest.raises(kd.errors.ConfigurationError, match="student_outputs"):
        make_distiller(Student())
    distiller = make_distiller(Student(), student_outputs="logits")
    history = distiller.fit(digits[0][:256], digits[1][:256], epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert distiller.built


def test_other_inputs_for_teacher_and_student(make_distiller, make_model, digits):
    big = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    distiller = make_distiller(
        teacher=big, teacher_inputs=lambda x: x["image"], student_inputs=lambda x: x["image"][:, ::2, ::2]
    )
    x = {"image": np.repeat(np.repeat(digits[0][:32], 2, 1), 2, 2)}
    history = distiller.fit(x, digits[1][:32], verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert distiller.predict(x, verbose=0).shape == (32, 10)


def test_two_outputs_with_a_dict_of_labels(digits):
    def model(width):
        x = keras.Input((8, 8, 1))
        h = keras.layers.Dense(width, "relu")(keras.layers.Flatten()(x))
        outputs = {"digit": keras.layers.Dense(10, name="digit")(h), "odd": keras.layers.Dense(1, name="odd")(h)}
        return keras.Model(x, outputs)

    teacher, student = model(32), model(8)
    distiller = kd.Distiller(teacher, student, alpha=0.5)
    assert [term.name for term in distiller.terms] == ["soft_targets_digit", "soft_targets_odd"]
    assert [term.activation for term in distiller.terms] == ["softmax", "sigmoid"]
    losses = {"digit": from_logits(), "odd": keras.losses.BinaryCrossentropy(from_logits=True)}
    distiller.compile("adam", loss=losses, metrics={"digit": "accuracy"})
    x, y = digits[0][:64], digits[1][:64]
    labels = {"digit": y, "odd": (y % 2)[:, None]}
    history = distiller.fit(x, labels, validation_data=(x, labels), epochs=2, verbose=0).history
    assert {"soft_targets_digit", "soft_targets_odd", "digit_accuracy", "val_digit_accuracy"} <= set(history)
    terms = [history[f"soft_targets_{name}"] for name in labels]
    np.testing.assert_allclose(history["distillation_loss"], np.sum(terms, 0), rtol=1e-5)
    weights = {"digit": np.ones(64, "float32"), "odd": np.zeros(64, "float32")}
    logs = distiller.train_on_batch(x, labels, sample_weight=weights, return_dict=True)
    distiller.reset_metrics()
    logs = distiller.train_on_batch(x, labels, sample_weight=weights, return_dict=True)
    assert logs["soft_targets_odd"] == 0 and logs["soft_targets_digit"] > 0


def test_losses_of_every_kind_in_one_list(make_distiller, digits):
    def gap(teacher, student):
        return keras.ops.mean(keras.ops.abs(teacher - student), -1)

    theirs = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence())
    losses = [kd.losses.Weighted(kd.losses.SoftTargets(temperature=2.0), 0.5), theirs, gap]
    history = make_distiller(losses=losses).fit(digits[0][:32], digits[1][:32], verbose=0).history
    total = history["soft_targets"][0] + history["logits_distillation"][0] + history["gap"][0]
    assert history["distillation_loss"][0] == pytest.approx(total, rel=1e-5)


def test_unlabeled_rows_by_keras_own_convention(make_distiller, make_model, digits):
    """Rows with label -1 under ignore_class=-1 learn from the teacher only."""
    x, y = digits[0][:32], digits[1][:32].copy()
    y[8:] = -1
    distiller = make_distiller(compiled=False)
    distiller.compile("sgd", loss=from_logits(ignore_class=-1))
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(logs["loss"])
