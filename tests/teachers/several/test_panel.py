"""Several teachers with separate outputs, each with its own loss."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.losses import Hint, SoftTargets
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import Batch, OfflineTeacher
from keras_kd.teachers.several.ensemble import Ensemble
from keras_kd.teachers.several.group import AbsentGroup, Resized
from keras_kd.teachers.several.panel import Panel


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def two_outputs():
    x = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten(name="flat")(x)
    return keras.Model(x, {"a": keras.layers.Dense(3)(flat), "b": keras.layers.Dense(10, activation="softmax")(flat)})


def test_each_member_has_its_name(make_model, digits):
    one, two = make_model(4), two_outputs()
    panel = Panel([one, two], names=["large", None], inputs=[None, Resized(8, 8)])
    shapes = {"large": (None, 10), "teacher_2/a": (None, 3), "teacher_2/b": (None, 10)}
    assert panel.output_shapes == shapes and list(Panel([one, one]).output_shapes) == ["teacher_1", "teacher_2"]
    assert panel.activations == {"large": "linear", "teacher_2/a": "linear", "teacher_2/b": "softmax"}
    path = one.layers[0].name
    found = panel.inner_taps(["large", "teacher_2/b", f"large/{path}", "teacher_2/flat"])
    assert found == {f"large/{path}": (None, 3, 3, 4), "teacher_2/flat": (None, 64)}
    outputs, taps = panel(Batch(digits[0][:3]), list(found))
    for tensors, expected in ((outputs, shapes), (taps, found)):
        assert {name: tuple(value.shape) for name, value in tensors.items()} == {
            name: (3, *shape[1:]) for name, shape in expected.items()
        }
    np.testing.assert_array_equal(outputs["large"], one(digits[0][:3]))
    np.testing.assert_allclose(softmax(np.asarray(outputs["teacher_2/b"])), two(digits[0][:3])["b"], rtol=1e-5)


@pytest.mark.parametrize("name", ["conv", "third/conv"])
def test_a_path_needs_a_member(make_model, name):
    with pytest.raises(ConfigurationError, match=f"'{name}'.*member in front.*'teacher_1/...'"):
        Panel([make_model(4)]).inner_taps([name])


class Attached(OfflineTeacher):
    fingerprint, output_shapes, outputs_for, decode = "attached", None, None, None


@pytest.mark.parametrize(
    ("names", "message"), [(["a"], "one value per member"), (["a", "a"], "unique"), (["a/b", "c"], "without '/'")]
)
def test_invalid_names_are_refused(make_model, names, message):
    with pytest.raises(ConfigurationError, match=message):
        Panel([make_model(4), make_model(4)], names=names)


def test_a_member_with_attached_outputs_is_refused():
    with pytest.raises(ConfigurationError, match="part of Panel.*cache the result"):
        Panel([Attached()])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_term_for_each_teacher(make_model, digits, jit_compile):
    """As in densely guided distillation, teacher and assistant teach together."""
    models = [make_model(8), make_model(4)]
    student = make_model(4)
    names = [f"soft_targets_{i}" for i in (1, 2)]
    losses = [SoftTargets(2.0, teacher=f"teacher_{i}", name=name) for i, name in enumerate(names, start=1)]
    losses.append(Hint(teacher=f"teacher_2/{models[1].layers[0].name}", student=student.layers[0].name))
    distiller = kd.Distiller(Panel(models), student, losses=losses)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(0.01), loss=loss, jit_compile=jit_compile)
    x, y = digits[0][:64], digits[1][:64]
    student_logits = np.asarray(student(x), "float64")
    logs = distiller.fit(x, y, batch_size=64, epochs=3, shuffle=False, verbose=0).history
    for name, model in zip(names, models, strict=True):
        p, q = (softmax(z / 2) for z in (np.asarray(model(x), "float64"), student_logits))
        assert logs[name][0] == pytest.approx(4 * (p * np.log(p / q)).sum(-1).mean(), rel=1e-4)
        assert logs[name][-1] < logs[name][0]


def test_the_default_loss_asks_for_names(make_model):
    with pytest.raises(ConfigurationError, match="no output in common.*Name the pairs"):
        kd.Distiller(Panel([make_model(4), make_model(4)]), make_model(4))


def test_saved_with_a_distiller(make_model, digits, tmp_path):
    paths = [tmp_path / f"{number}.keras" for number in range(3)]
    for path in paths:
        make_model(4).save(path)
    panel = Panel([paths[0], Ensemble(paths[1:])], names=["one", "all"])
    distiller = kd.Distiller(
        panel, make_model(4), losses=[SoftTargets(teacher="all"), SoftTargets(teacher="one", name="o")]
    )
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras").teacher
    assert loaded.fingerprint == panel.fingerprint and loaded.labels == ["one", "all"]
    batch = Batch(digits[0][:4])
    np.testing.assert_array_equal(loaded(batch).outputs["all"], panel(batch).outputs["all"])
    paths[2].unlink()
    absent = deserialize(serialize(panel))
    assert isinstance(absent, AbsentGroup) and absent.fingerprint == panel.fingerprint
    with pytest.raises(TeacherError, match="nothing for 'all'"):
        absent(batch)


def test_the_fingerprint_is_of_members_and_names(make_model):
    one, two = make_model(4), make_model(4)
    panels = [
        Panel([one, two]),
        Panel([two, one]),
        Panel([one]),
        Panel([one, two], names=["a", "b"]),
        Ensemble([one, two]),
    ]
    assert len({panel.fingerprint for panel in panels}) == 5
    assert Panel([one, two]).fingerprint == panels[0].fingerprint
