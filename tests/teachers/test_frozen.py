"""A live teacher: not modified, identified by its weights, and reported clearly when missing."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher, Batch, FrozenTeacher, as_teacher, fingerprint


def test_it_returns_logits_in_inference_mode(make_model, digits):
    model = make_model(8, activation="softmax", dropout=0.9, norm=True)
    teacher = FrozenTeacher(model)
    before = [w.copy() for w in model.get_weights()]
    first, second = (teacher(Batch(digits[0][:5])).outputs for _ in range(2))
    np.testing.assert_array_equal(first["output"], second["output"])  # no dropout
    np.testing.assert_allclose(keras.ops.softmax(first["output"]), model(digits[0][:5]), rtol=1e-5)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert teacher.output_shapes == {"output": (None, 10)}
    assert teacher.activations == {"output": "softmax"}


def test_the_fingerprint_depends_on_the_weights(make_model, tmp_path):
    model = make_model(4)
    same = keras.models.clone_model(model)
    same.set_weights(model.get_weights())
    assert fingerprint(model) == fingerprint(same) and fingerprint(model).startswith("sha256:")
    same.set_weights([w + 1e-6 for w in model.get_weights()])
    assert fingerprint(model) != fingerprint(same)
    model.save(tmp_path / "t.keras")
    code = f"import keras, keras_kd as kd; print(kd.teachers.FrozenTeacher({str(tmp_path / 't.keras')!r}).fingerprint)"
    environment = os.environ | {"KERAS_BACKEND": "jax"}  # loads faster than TensorFlow
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == fingerprint(model)


def test_from_a_file_and_back_from_its_config(make_model, tmp_path):
    make_model(4).save(tmp_path / "t.keras")
    teacher = FrozenTeacher(tmp_path / "t.keras")
    again = deserialize(serialize(teacher))
    assert isinstance(again, FrozenTeacher) and again.fingerprint == teacher.fingerprint
    (tmp_path / "t.keras").unlink()
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == teacher.fingerprint
    assert serialize(absent)["config"] == serialize(teacher)["config"]
    with pytest.raises(TeacherError, match="t.keras, which does not exist.*distiller.teacher"):
        absent(Batch(np.zeros((1, 8, 8, 1))))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda model: FrozenTeacher("no.keras"), TeacherError, "does not exist.*no.keras"),
        (lambda model: FrozenTeacher(3), ConfigurationError, "`teacher` must be.*builtins.int"),
        (lambda model: FrozenTeacher(model, expected_fingerprint="sha256:0"), TeacherError, "another teacher"),
        (lambda model: FrozenTeacher(model, outputs="odds"), ConfigurationError, "'odds'"),
    ],
)
def test_invalid_teachers_are_rejected(make_model, make, error, message):
    with pytest.raises(error, match=message):
        make(make_model(4))


def test_a_custom_teacher(make_model, digits):
    """Anything that maps a batch to named targets can teach."""

    class Constant(kd.teachers.Teacher):
        fingerprint = "constant"
        output_shapes = None

        def __call__(self, batch, taps=()):
            return kd.teachers.ModelOutputs({"output": keras.ops.one_hot(batch.y, 10) * 10.0})

    assert as_teacher(teacher := Constant()) is teacher
    distiller = kd.Distiller(teacher, make_model(8), alpha=1.0, temperature=1.0)
    distiller.compile(keras.optimizers.Adam(0.01))
    history = distiller.fit(digits[0][:256], digits[1][:256], epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
