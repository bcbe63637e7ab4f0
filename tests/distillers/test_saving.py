"""A saved distiller resumes as if never interrupted; checkpoints hold student and optimizer only."""

import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.schedules import Cosine


@pytest.fixture
def trained(make_model, digits, tmp_path):
    """A distiller after one epoch, with its teacher stored in a file."""
    make_model(8).save(tmp_path / "teacher.keras")
    alpha = Cosine(0.9, 0.1, steps=12)
    distiller = kd.Distiller(tmp_path / "teacher.keras", make_model(4), alpha=alpha, temperature=3.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
    fit(distiller, digits)
    return distiller


def fit(distiller, digits):
    history = distiller.fit(digits[0][:64], digits[1][:64], batch_size=16, shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}


def test_a_loaded_distiller_trains_on_as_if_never_stopped(trained, digits, tmp_path):
    trained.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.alpha == trained.alpha and loaded.temperature == 3.0
    assert int(loaded.optimizer.iterations) == 4
    assert fit(loaded, digits) == pytest.approx(fit(trained, digits), rel=1e-6)
    for one, other in zip(trained.student.get_weights(), loaded.student.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_in_a_fresh_process(trained, tmp_path):
    trained.save(tmp_path / "d.keras")
    code = f"""
import keras, keras_kd
distiller = keras.models.load_model({str(tmp_path / "d.keras")!r})
print(type(distiller).__name__, distiller.teacher.fingerprint)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["Distiller", trained.teacher.fingerprint], result.stderr


def test_the_file_holds_student_and_optimizer_only(trained, tmp_path):
    trained.save(tmp_path / "d.keras")
    trained.save_weights(tmp_path / "d.weights.h5")
    zipfile.ZipFile(tmp_path / "d.keras").extract("model.weights.h5", tmp_path)
    expected = sum(w.size for w in trained.student.get_weights())
    for name in ("model.weights.h5", "d.weights.h5"):
        sizes = {"layers": 0, "optimizer": 0, "vars": 0}
        with h5py.File(tmp_path / name) as file:

            def add(path, item, sizes=sizes):
                if isinstance(item, h5py.Dataset):
                    sizes[path.split("/")[0]] += item.size

            file.visititems(add)
        assert sizes["layers"] == expected and sizes["vars"] == 0
        assert sizes["optimizer"] == 2 * expected + 2  # Adam: two moments, iteration and learning rate


def test_the_teacher_is_named_not_copied(trained, tmp_path):
    trained.save(tmp_path / "d.keras")
    config = zipfile.ZipFile(tmp_path / "d.keras").read("config.json").decode()
    assert str(tmp_path / "teacher.keras") in config and trained.teacher.fingerprint in config


def test_another_teacher_under_the_same_name_is_refused(trained, make_model, tmp_path):
    trained.save(tmp_path / "d.keras")
    make_model(8).save(tmp_path / "teacher.keras")
    with pytest.raises(kd.errors.TeacherError, match="unexpected fingerprint.*sha256.*sha256"):
        keras.models.load_model(tmp_path / "d.keras")


def test_a_missing_teacher_is_asked_for_when_it_is_needed(trained, digits, make_model, tmp_path):
    trained.save(tmp_path / "d.keras")
    teacher = keras.models.load_model(tmp_path / "teacher.keras")
    (tmp_path / "teacher.keras").unlink()
    loaded = keras.models.load_model(tmp_path / "d.keras")
    expected = trained.evaluate(digits[0][:50], digits[1][:50], verbose=0)
    assert loaded.evaluate(digits[0][:50], digits[1][:50], verbose=0) == pytest.approx(expected)
    with pytest.raises(kd.errors.TeacherError, match="teacher.keras.*distiller.teacher = model"):
        fit(loaded, digits)
    with pytest.raises(kd.errors.TeacherError, match="another teacher"):
        loaded.teacher = make_model(8)
    loaded.teacher = teacher
    assert fit(loaded, digits) == pytest.approx(fit(trained, digits), rel=1e-6)
    assert len(loaded.trainable_variables) == len(loaded.student.trainable_variables)


def test_a_teacher_in_memory_is_passed_again(make_model, digits, tmp_path):
    teacher = make_model(8)
    distiller = kd.Distiller(teacher, make_model(4))
    distiller.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(distiller, digits)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher
    assert fit(loaded, digits) == pytest.approx(fit(distiller, digits), rel=1e-6)


def test_losses_and_their_settings_come_back(make_model, tmp_path):
    losses = [kd.losses.Weighted(kd.losses.SoftTargets(temperature=Cosine(4.0, 1.0, steps=9)), 0.5)]
    distiller = kd.Distiller(make_model(8), make_model(4), losses=losses)
    distiller.save(tmp_path / "d.keras")
    (term,) = keras.models.load_model(tmp_path / "d.keras").terms
    assert term.weight == 0.5 and term.loss.temperature == Cosine(4.0, 1.0, steps=9)


def test_the_student_is_saved_as_a_plain_model(trained, digits, tmp_path):
    trained.student.save(tmp_path / "student.keras")
    student = keras.models.load_model(tmp_path / "student.keras")
    assert type(student) is keras.Sequential
    np.testing.assert_allclose(student(digits[0][:5]), trained.predict(digits[0][:5], verbose=0), atol=1e-6)
