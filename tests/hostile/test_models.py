"""Teachers and students that cannot teach, cannot learn, or cannot be told apart."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import KerasKDError

layers, losses = keras.layers, kd.losses
X, Y = np.random.default_rng(0).random((16, 5)).astype("float32"), np.arange(16) % 3
SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(units=3, *rest, shape=(5,), **settings):
    return keras.Sequential([keras.Input(shape), layers.Dense(4, name="body"), layers.Dense(units, **settings), *rest])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = layers.Dense(3)

    def call(self, x):
        return self.body(x)


def compiled(teacher, student):
    kd.Distiller(teacher, student).compile("adam", SPARSE)


def sharing_a_layer():
    inputs, shared = keras.Input((5,)), layers.Dense(4)
    teacher = keras.Model(inputs, layers.Dense(3)(shared(inputs)))
    compiled(teacher, keras.Model(inputs, layers.Dense(3)(shared(inputs))))


def itself():
    one = model()
    compiled(one, one)


def inside_itself():
    teacher = model()
    compiled(teacher, keras.Sequential([teacher, layers.Dense(3)]))


def the_student_as_the_teachers_part():
    student = model()
    compiled(keras.Sequential([student, layers.Dense(3)]), student)


def in_an_ensemble():
    student = model()
    compiled(kd.teachers.Ensemble([model(), student]), student)


def empty():
    distiller = kd.Distiller(model(), keras.Sequential([]))
    distiller.compile("adam", SPARSE)
    distiller.fit(X, Y, verbose=0)


def frozen_student():
    student = model()
    student.trainable = False
    distiller = kd.Distiller(model(), student)
    distiller.compile("adam", SPARSE)
    distiller.fit(X, Y, verbose=0)


def without_weights():
    distiller = kd.Distiller(model(), keras.Sequential([keras.Input((3,)), layers.ReLU()]))
    distiller.compile("adam", SPARSE)
    distiller.fit(X[:, :3], Y, verbose=0)


def two_outputs():
    inputs = keras.Input((5,))
    return keras.Model(inputs, [layers.Dense(3, name="a")(inputs), layers.Dense(3, name="b")(inputs)])


CONSTRUCTION = {
    "no teacher": (lambda: kd.Distiller(None, model()), "teacher"),
    "a number as the teacher": (lambda: kd.Distiller(5, model()), "teacher"),
    "a list of teachers": (lambda: kd.Distiller([model(), model()], model()), ""),
    "a layer as the teacher": (lambda: kd.Distiller(layers.Dense(3), model()), "teacher"),
    "an optimizer as the teacher": (lambda: kd.Distiller(keras.optimizers.Adam(), model()), "teacher"),
    "a function as the teacher": (lambda: kd.Distiller(lambda x: x, model()), "teacher"),
    "a class as the teacher": (lambda: kd.Distiller(keras.Model, model()), "teacher"),
    "no student": (lambda: kd.Distiller(model(), None), "student"),
    "text as the student": (lambda: kd.Distiller(model(), "student.keras"), "student"),
    "a number as the student": (lambda: kd.Distiller(model(), 5), "student"),
    "a layer as the student": (lambda: kd.Distiller(model(), layers.Dense(3)), "student"),
    "a class as the student": (lambda: kd.Distiller(model(), keras.Model), "student"),
    "a distiller as the student": (lambda: kd.Distiller(model(), kd.Distiller(model(), model())), ""),
    "a distiller as the teacher": (lambda: kd.Distiller(kd.Distiller(model(), model()), model()), ""),
    "itself": (itself, ""),
    "the teacher inside the student": (inside_itself, ""),
    "the student inside the teacher": (the_student_as_the_teachers_part, ""),
    "a shared layer": (sharing_a_layer, ""),
    "the student in an ensemble": (in_an_ensemble, ""),
    "other classes": (lambda: kd.Distiller(model(3), model(4)), "(None, 4)"),
    "one output against two": (lambda: kd.Distiller(model(), two_outputs()), ""),
    "another rank": (lambda: kd.Distiller(model(), model(shape=(7, 5))), ""),
    "an unknown end": (lambda: kd.Distiller(model(), model(3, layers.Lambda(lambda x: x))), "student_outputs"),
    "a function as the activation": (
        lambda: kd.Distiller(model(), model(3, activation=lambda x: keras.ops.softmax(x))),
        "student_outputs",
    ),
    "an unknown end of the teacher": (lambda: kd.Distiller(model(3, layers.Lambda(lambda x: x)), model()), "outputs"),
    "text at the end": (lambda: kd.Distiller(model(), model(3, layers.Lambda(keras.ops.cos))), "student_outputs"),
    "a frozen student": (frozen_student, "trainable"),
    "a student without weights": (without_weights, ""),
    "an empty Sequential": (empty, ""),
}


def fit(loss=SPARSE, x=X, y=Y, *, teacher=None, student=None, terms=None, **settings):
    distiller = kd.Distiller(teacher or model(), student or model(), losses=terms)
    distiller.compile("sgd", loss)
    return distiller.fit(x, y, verbose=0, **settings)


TRAININGS = {
    "class weights beside a pipeline": (lambda: _fit_pipeline(class_weight={0: 2.0, 1: 1.0, 2: 1.0}), "class_weight"),
    "class weights with teacher outputs": (
        lambda: _fit_pipeline(class_weight={0: 2.0, 1: 1.0, 2: 1.0}, travels=True),
        "class_weight",
    ),
    "a loss of seven numbers": (lambda: fit(terms=[lambda t, s: keras.ops.zeros(7)]), "7"),
    "a loss of text": (lambda: fit(terms=[lambda t, s: "low"]), ""),
    "a loss of nothing": (lambda: fit(terms=[lambda t, s: None]), ""),
    "an unknown compiled loss for the default term": (lambda: fit(loss=lambda y, p: keras.ops.mean(p, -1)), "losses"),
    "a hinge loss for the default term": (lambda: fit(loss="hinge"), "losses"),
    "one output and no loss": (lambda: fit(loss=None, teacher=model(1), student=model(1)), ""),
}


def _fit_pipeline(travels=False, **settings):
    pipeline = kd.data.Pipeline((X, Y), batch_size=8)
    teacher = model()
    if travels:
        teacher = kd.teachers.StoredLogits({"logits": np.zeros((16, 3), "float32")})
        pipeline = pipeline.with_teacher(teacher)
    distiller = kd.Distiller(teacher, model())
    distiller.compile("sgd", SPARSE)
    distiller.fit(pipeline, verbose=0, **settings)


FUNCTION = {"outputs": "logits", "num_classes": 3, "fingerprint": "f"}


def function_teacher(function, **settings):
    teacher = kd.teachers.FunctionTeacher(function, **{**FUNCTION, **settings})
    return list(kd.data.Pipeline((X, Y)).with_teacher(teacher).epoch(0))


TEACHERS = {
    "an empty ensemble": lambda: kd.teachers.Ensemble([]),
    "an ensemble of one number": lambda: kd.teachers.Ensemble([5]),
    "an ensemble of other classes": lambda: kd.teachers.Ensemble([model(3), model(4)]),
    "too many weights": lambda: kd.teachers.Ensemble([model(), model()], weights=[1.0, 1.0, 1.0]),
    "weights of zero": lambda: kd.teachers.Ensemble([model(), model()], weights=[0.0, 0.0]),
    "a negative weight": lambda: kd.teachers.Ensemble([model(), model()], weights=[-1.0, 2.0]),
    "a weight of NaN": lambda: kd.teachers.Ensemble([model(), model()], weights=[float("nan"), 1.0]),
    "unknown weights": lambda: kd.teachers.Ensemble([model(), model()], weights="luck"),
    "an unknown mean": lambda: kd.teachers.Ensemble([model(), model()], combine="median"),
    "classes beyond the number": lambda: kd.teachers.Ensemble([model(), model()], classes=[None, [0, 1, 7]]),
    "a class twice": lambda: kd.teachers.Ensemble([model(), model()], classes=[None, [0, 1, 1]]),
    "too few classes": lambda: kd.teachers.Ensemble([model(), model()], classes=[None, [0, 1]]),
    "an empty panel": lambda: kd.teachers.Panel([]),
    "a panel with one name": lambda: kd.teachers.Panel([model(), model()], names=["a"]),
    "a panel with one name twice": lambda: kd.teachers.Panel([model(), model()], names=["a", "a"]),
    "an unknown precision": lambda: kd.teachers.FrozenTeacher(model(), dtype="float8"),
    "pieces of 0": lambda: kd.teachers.FrozenTeacher(model(), batch_size=0),
    "pieces of 1.5": lambda: kd.teachers.FrozenTeacher(model(), batch_size=1.5),
    "unknown outputs": lambda: kd.teachers.FrozenTeacher(model(), outputs="tanh"),
    "a path into nothing": lambda: kd.teachers.FrozenTeacher("nothing.keras"),
    "a number as a path": lambda: kd.teachers.from_path(5),
    "a path of no kind": lambda: kd.teachers.from_path("teacher.onnx"),
    "a function without its fingerprint": lambda: kd.teachers.FunctionTeacher(
        lambda x: x, outputs="logits", num_classes=3, fingerprint=""
    ),
    "a function that is not callable": lambda: function_teacher(5),
    "no classes": lambda: function_teacher(lambda x: x[:, :3], num_classes=0),
    "a function of nothing": lambda: function_teacher(lambda x: None),
    "a function of other rows": lambda: function_teacher(lambda x: np.zeros((3, 3))),
    "a function of other classes": lambda: function_teacher(lambda x: np.zeros((len(x), 4))),
    "a function of NaN": lambda: function_teacher(lambda x: np.full((len(x), 3), np.nan)),
    "a function of text": lambda: function_teacher(lambda x: np.array([["a"] * 3] * len(x))),
    "probabilities above 1": lambda: function_teacher(lambda x: np.full((len(x), 3), 2.0), outputs="probabilities"),
    "negative probabilities": lambda: function_teacher(
        lambda x: np.tile([1.5, -0.5, 0.0], (len(x), 1)), outputs="probabilities"
    ),
    "stored logits of nothing": lambda: kd.teachers.StoredLogits({}),
    "stored logits of one axis": lambda: kd.teachers.StoredLogits({"logits": np.zeros(16)}),
    "stored logits of NaN": lambda: kd.teachers.StoredLogits({"logits": np.full((16, 3), np.nan)}),
    "stored logits of text": lambda: kd.teachers.StoredLogits({"logits": np.array([["a"]])}),
    "stored ids twice": lambda: kd.teachers.StoredLogits({"logits": np.zeros((2, 3)), "ids": np.array([1, 1])}),
    "too few stored ids": lambda: kd.teachers.StoredLogits({"logits": np.zeros((2, 3)), "ids": np.array([1])}),
    "logits for fewer examples": lambda: list(
        kd.data.Pipeline((X, Y)).with_teacher(kd.teachers.StoredLogits({"logits": np.zeros((3, 3))})).epoch(0)
    ),
    "a diagnosis of nothing": lambda: kd.diagnosis.diagnose(model(), (X[:0], Y[:0])),
    "a diagnosis of other classes": lambda: kd.diagnosis.diagnose(model(), (X, Y + 7)),
    "a diagnosis of None": lambda: kd.diagnosis.diagnose(None, (X, Y)),
    "taps of a number": lambda: kd.taps(5),
    "matches of nothing": lambda: kd.match_layers(None, model()),
    "a chain of one": lambda: kd.distill_chain([model()], (X, Y), epochs=1),
    "a chain of nothing": lambda: kd.distill_chain([], (X, Y), epochs=1),
    "a chain of no epochs": lambda: kd.distill_chain([model(), model], (X, Y), epochs=0),
    "a chain of numbers guided by all": lambda: kd.distill_chain(
        [model(1), model(1), model(1)], (X, X[:, :1]), epochs=1, loss="mse", guidance="all"
    ),
    "no generations": lambda: kd.born_again(model(), model, 0, (X, Y), epochs=1),
}


@pytest.mark.parametrize(("attack", "word"), list(CONSTRUCTION.values()), ids=list(CONSTRUCTION))
def test_an_invalid_pair_is_rejected(attack, word, refused):
    refused(attack, KerasKDError, [word])


@pytest.mark.parametrize(("attack", "word"), list(TRAININGS.values()), ids=list(TRAININGS))
def test_an_invalid_training_is_rejected(attack, word, refused):
    refused(attack, KerasKDError, [word])


@pytest.mark.parametrize("attack", list(TEACHERS.values()), ids=list(TEACHERS))
def test_an_invalid_teacher_is_rejected(attack, refused):
    refused(attack, KerasKDError, [])
