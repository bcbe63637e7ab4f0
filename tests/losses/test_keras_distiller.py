"""Our losses inside `keras.distillation.Distiller`."""

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.losses import Hint, SoftTargets

L = keras.layers

# Keras' own Distiller builds a model with a list of inputs and calls it with a tensor
pytestmark = pytest.mark.filterwarnings("ignore:[\\s\\S]*structure of `inputs` doesn't match:UserWarning")


def network(width):
    inner = keras.Sequential([keras.Input((6, 6, width)), L.Conv2D(width, 3, name="conv")], name="inner")
    x = keras.Input((8, 8, 1))
    y = inner(L.Conv2D(width, 3, activation="relu", name="stem")(x))
    return keras.Model(x, L.Dense(10, name="head")(L.GlobalAveragePooling2D(name="pool")(y)))


def distiller_of(losses, teacher=None, student=None):
    distiller = keras.distillation.Distiller(
        teacher or network(6), student or network(4), distillation_losses=losses, student_loss_weight=0.5
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return distiller


def submodel(model, name):
    return keras.Model(model.inputs[0], model.get_layer(name).output)


def test_a_projector_is_trained(digits):
    x, y = digits[0][:16], digits[1][:16]
    loss = Hint(teacher="stem", student="stem")
    distiller = distiller_of(loss)
    assert len(loss.trainable_variables) == 3
    own = {id(variable) for variable in loss.trainable_variables}
    assert own <= {id(variable) for variable in distiller.trainable_variables}
    before = [np.array(variable) for variable in loss.trainable_variables]
    distiller.train_on_batch(x, y)
    for one, variable in zip(before, loss.trainable_variables, strict=True):
        assert np.any(one != np.array(variable))


def test_the_value_matches_the_formula(digits):
    x, y = digits[0][:16], digits[1][:16]
    loss = Hint(teacher="stem", student="stem", projector=L.Dense(6))
    distiller = distiller_of(loss)
    target = np.asarray(submodel(distiller.teacher, "stem")(x), "float64")
    features = np.asarray(submodel(distiller.student, "stem")(x), "float64")
    kernel, bias = (np.asarray(weight, "float64") for weight in loss.projector.weights)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    expected = ((target - (features @ kernel + bias)) ** 2).mean()
    assert float(logs["distillation_loss"]) == pytest.approx(expected, rel=1e-5)


def test_an_output_can_be_compared_with_a_layer(digits):
    x, y = digits[0][:16], digits[1][:16]
    for teacher, student in ((None, "pool"), ("output", "pool"), ("pool", None)):
        loss = Hint(teacher=teacher, student=student, projector=L.Dense(6 if teacher == "pool" else 10))
        distiller = distiller_of(loss)
        target = submodel(distiller.teacher, "pool")(x) if teacher == "pool" else distiller.teacher(x)
        features = distiller.student(x) if student is None else submodel(distiller.student, "pool")(x)
        expected = np.mean(np.square(target - loss.projector(features)))
        logs = distiller.train_on_batch(x, y, return_dict=True)
        assert float(logs["distillation_loss"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Hint(teacher="inner/conv", student="stem"), "'hint_stem' reads from the teacher.*'inner/conv'"),
        (Hint(teacher="stem", student="inner/conv"), "from the student.*'inner/conv'.*output of one layer"),
        (Hint(teacher="stem:input", student="stem:input"), "'stem:input'.*keras_kd.Distiller also reads nested layers"),
        (Hint(teacher="stem#0", student="stem"), "'stem#0'"),
        (Hint(teacher="nowhere", student="stem"), "The teacher.*no output or layer.*'nowhere'"),
        (Hint(teacher="stem", student="head"), "cannot be converted to the same shape"),
    ],
)
def test_taps_that_keras_cannot_read_are_refused(loss, message):
    with pytest.raises(ConfigurationError, match=message):
        distiller_of(loss)


def test_several_taps_are_refused():
    class Several(Hint):
        several_taps = True

    with pytest.raises(ConfigurationError, match=r"'stem', 'pool'.*the output of one layer"):
        distiller_of(Several(teacher=["stem", "pool"], student=["stem", "pool"]))


def test_outputs_by_name(digits):
    def model(width):
        x = keras.Input((8, 8, 1))
        y = L.Dense(width, activation="relu")(L.Flatten()(x))
        return keras.Model(x, {"digit": L.Dense(10, name="digit")(y), "odd": L.Dense(1, name="odd")(y)})

    teacher, student = model(8), model(4)
    losses = [
        SoftTargets(teacher=name, student=name, activation=activation, name=name)
        for name, activation in (("digit", "softmax"), ("odd", "sigmoid"))
    ]
    for loss in losses:
        loss.validate_model_compatibility(teacher, student)
        of_teacher, of_student = teacher(digits[0][:8]), student(digits[0][:8])
        name = loss.name
        ours = loss.compute_loss(of_teacher, of_student)
        assert float(ours) == pytest.approx(float(loss(of_teacher[name], of_student[name])), rel=1e-6)
