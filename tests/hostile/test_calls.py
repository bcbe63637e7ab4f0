"""Calls with meaningless arguments: schedules, losses, weights, projectors, augmentations, callbacks, chains."""

import math

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, KerasKDError

layers, losses, schedules, data, callbacks = keras.layers, kd.losses, kd.schedules, kd.data, kd.callbacks
NAN, INF = math.nan, math.inf


def model(units=3, width=4, **settings):
    return keras.Sequential([keras.Input((5,)), layers.Dense(width, name="body"), layers.Dense(units, **settings)])


def distiller(**settings):
    return kd.Distiller(model(), model(), **settings)


def maps(channels=4, size=8):
    return keras.Sequential(
        [keras.Input((size, size, 3)), layers.Conv2D(channels, 3, name="conv"), layers.Flatten(), layers.Dense(3)]
    )


def fit_plain(callback):
    plain = model()
    plain.compile("sgd", "mse")
    plain.fit(X, np.zeros((8, 3)), callbacks=[callback], verbose=0)


def fitted(model):
    model.compile("sgd")
    model.fit(X, verbose=0)


X, Y = np.zeros((8, 5), "float32"), np.zeros(8, "int64")
IMAGES = np.zeros((8, 8, 8, 3), "float32")


def pipeline(augment=None, x=IMAGES, **settings):
    return data.Pipeline((x, Y), augment=augment, **settings)


SCHEDULES = {
    "Linear(x, 0)": lambda: schedules.Linear("x", 0.0, steps=5),
    "Linear(nan)": lambda: schedules.Linear(NAN, 0.0, steps=5),
    "Linear(inf)": lambda: schedules.Linear(0.0, INF, steps=5),
    "Linear(True)": lambda: schedules.Linear(True, 0.0, steps=5),
    "Linear steps 0": lambda: schedules.Linear(1.0, 0.0, steps=0),
    "Linear steps -1": lambda: schedules.Linear(1.0, 0.0, steps=-1),
    "Linear steps nan": lambda: schedules.Linear(1.0, 0.0, steps=NAN),
    "Cosine(None)": lambda: schedules.Cosine(None, 0.0, steps=5),
    "Cosine steps x": lambda: schedules.Cosine(1.0, 0.0, steps="x"),
    "Exponential rate 0": lambda: schedules.Exponential(1.0, 0.0, steps=5),
    "Exponential rate -1": lambda: schedules.Exponential(1.0, -1.0, steps=5),
    "Exponential rate nan": lambda: schedules.Exponential(1.0, NAN, steps=5),
    "Polynomial power 0": lambda: schedules.Polynomial(1.0, 0.0, steps=5, power=0),
    "Polynomial power -1": lambda: schedules.Polynomial(1.0, 0.0, steps=5, power=-1),
    "Piecewise empty": lambda: schedules.Piecewise([], []),
    "Piecewise too few values": lambda: schedules.Piecewise([5], [1.0]),
    "Piecewise out of order": lambda: schedules.Piecewise([5, 3], [1.0, 2.0, 3.0]),
    "Piecewise twice the same": lambda: schedules.Piecewise([3, 3], [1.0, 2.0, 3.0]),
    "Piecewise nan": lambda: schedules.Piecewise([3], [1.0, NAN]),
    "Join empty": lambda: schedules.Join([], []),
    "Join too few boundaries": lambda: schedules.Join([schedules.Constant(1.0), schedules.Constant(2.0)], []),
    "Constant(nan)": lambda: schedules.Constant(NAN),
    "Constant('x')": lambda: schedules.Constant("x"),
    "get(unknown)": lambda: schedules.get("cosin"),
    "get(5)": lambda: schedules.get({"name": 5}),
    "get(None)": lambda: schedules.get(None),
}

LOSSES = {
    "temperature 0": lambda: losses.SoftTargets(0.0),
    "temperature -1": lambda: losses.SoftTargets(-1.0),
    "temperature nan": lambda: losses.SoftTargets(NAN),
    "temperature inf": lambda: losses.SoftTargets(INF),
    "temperature text": lambda: losses.SoftTargets("4"),
    "temperature True": lambda: losses.SoftTargets(True),
    "temperature list": lambda: losses.SoftTargets([4.0]),
    "divergence js": lambda: losses.SoftTargets(divergence="js"),
    "divergence None": lambda: losses.SoftTargets(divergence=None),
    "activation relu": lambda: losses.SoftTargets(activation="relu"),
    "name 5": lambda: losses.SoftTargets(name=5),
    "unknown divergence in the function": lambda: losses.soft_targets([[1.0, 2.0]], [[1.0, 2.0]], 2.0, "js"),
    "classes differ": lambda: losses.SoftTargets()([[1.0, 2.0]], [[1.0, 2.0, 3.0]]),
    "ranks differ": lambda: losses.SoftTargets()([[1.0, 2.0]], [[[1.0, 2.0]]]),
    "one class": lambda: losses.SoftTargets()([[1.0]], [[1.0]]),
    "batches differ": lambda: losses.SoftTargets()(np.zeros((4, 3)), np.zeros((5, 3))),
    "hint metric": lambda: losses.Hint(metric="l3"),
    "hint projector": lambda: losses.Hint(projector="cnov"),
    "hint projector 5": lambda: losses.Hint(projector=5),
    "hint without a projector": lambda: losses.Hint(projector=None)(np.zeros((2, 3)), np.zeros((2, 4))),
    "weight -1": lambda: losses.Weighted(losses.SoftTargets(), -1.0),
    "weight nan": lambda: losses.Weighted(losses.SoftTargets(), NAN),
    "weight inf": lambda: losses.Weighted(losses.SoftTargets(), INF),
    "weight text": lambda: losses.Weighted(losses.SoftTargets(), "2"),
    "weight None": lambda: losses.Weighted(losses.SoftTargets(), None),
    "weighted nothing": lambda: losses.Weighted(None, 2.0),
    "weighted type": lambda: losses.Weighted(losses.SoftTargets, 2.0),
    "weighted unknown": lambda: losses.Weighted("soft_target", 2.0),
    "examples luck": lambda: losses.Weighted(losses.SoftTargets(), 1.0, examples="luck"),
    "examples 5": lambda: losses.Weighted(losses.SoftTargets(), 1.0, examples=5),
    "get(5)": lambda: losses.get(5),
    "get(None)": lambda: losses.get(None),
    "get(class)": lambda: losses.get(losses.SoftTargets),
    "get(unknown setting)": lambda: losses.get({"name": "soft_targets", "temprature": 2}),
    "get(no name)": lambda: losses.get({"temperature": 2}),
    "decoupled weight -1": lambda: losses.DecoupledKD(target_weight=-1.0),
    "decoupled weight nan": lambda: losses.DecoupledKD(nontarget_weight=NAN),
    "correlation weight -1": lambda: losses.CorrelationKD(intra_weight=-1.0),
    "standardization of nothing": lambda: losses.LogitStandardization(None),
    "attention of vectors": lambda: losses.AttentionTransfer()(np.zeros((2, 3)), np.zeros((2, 3))),
    "attention power 0": lambda: losses.AttentionTransfer(power=0),
    "flow of one layer": lambda: distiller(losses=[losses.FlowOfSolution(teacher=["body"], student=["body"])]),
    "review of different numbers": lambda: kd.Distiller(
        maps(), maps(), losses=[losses.KnowledgeReview(teacher=["conv", "conv"], student=["conv"])]
    ),
    "relational weights": lambda: losses.RelationalKD(distance_weight=-1.0),
    "contrastive memory -1": lambda: losses.ContrastiveKD(memory_size=-1),
    "contrastive temperature 0": lambda: losses.ContrastiveKD(temperature=0.0),
}

DISTILLERS = {
    "alpha 1.5": lambda: distiller(alpha=1.5),
    "alpha -0.1": lambda: distiller(alpha=-0.1),
    "alpha nan": lambda: distiller(alpha=NAN),
    "alpha text": lambda: distiller(alpha="0.5"),
    "alpha None": lambda: distiller(alpha=None),
    "alpha True": lambda: distiller(alpha=True),
    "alpha a function": lambda: distiller(alpha=lambda step: 0.5),
    "alpha an array": lambda: distiller(alpha=np.array([0.5, 0.5])),
    "temperature 0": lambda: distiller(temperature=0),
    "temperature None": lambda: distiller(temperature=None),
    "losses []": lambda: distiller(losses=[]),
    "losses ()": lambda: distiller(losses=()),
    "losses 5": lambda: distiller(losses=5),
    "losses [None]": lambda: distiller(losses=[None]),
    "losses [[]]": lambda: distiller(losses=[[]]),
    "losses a class": lambda: distiller(losses=[losses.SoftTargets]),
    "losses unknown": lambda: distiller(losses=["soft_target"]),
    "losses twice": lambda: distiller(losses=["soft_targets", "soft_targets"]),
    "a layer that is not there": lambda: distiller(losses=[losses.Hint(teacher="body", student="bodi")]),
    "a teacher layer that is not there": lambda: distiller(losses=[losses.Hint(teacher="bodi", student="body")]),
    "a path of numbers": lambda: distiller(losses=[losses.Hint(teacher=5, student="body")]),
    "a second call that is none": lambda: distiller(losses=[losses.Hint(teacher="body#3", student="body")]),
    "scores of a dense layer": lambda: distiller(losses=[losses.Hint(teacher="body:scores", student="body")]),
    "an unknown part of a layer": lambda: distiller(losses=[losses.Hint(teacher="body:gradient", student="body")]),
    "attention transfer of vectors": lambda: distiller(
        losses=[losses.AttentionTransfer(teacher="body", student="body")]
    ),
    "student_outputs unknown": lambda: distiller(student_outputs="tanh"),
    "alpha set to 2": lambda: setattr(distiller(), "alpha", 2.0),
    "alpha set to nan": lambda: setattr(distiller(), "alpha", NAN),
    "temperature set to 0": lambda: setattr(distiller(), "temperature", 0.0),
    "teacher set to 5": lambda: setattr(distiller(), "teacher", 5),
    "teacher_inputs 5": lambda: distiller(teacher_inputs=5),
    "student_inputs no text": lambda: distiller(student_inputs=""),
    "student_inputs of plain data": lambda: fitted(distiller(student_inputs="x")),
    "probabilities for logits": lambda: distiller().compile("adam", "sparse_categorical_crossentropy"),
    "probabilities for logits, object": lambda: distiller().compile(
        "adam", keras.losses.SparseCategoricalCrossentropy()
    ),
    "logits for probabilities": lambda: kd.Distiller(model(), model(activation="softmax")).compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ),
}

AUGMENTATIONS = {
    "unknown": lambda: pipeline("flipp"),
    "5": lambda: pipeline(5),
    "[None]": lambda: pipeline([None]),
    "a class": lambda: pipeline(data.Flip),
    "a function": lambda: pipeline(lambda x: x),
    "pad -1": lambda: pipeline(data.PadAndCrop(-1)),
    "pad 1.5": lambda: pipeline(data.PadAndCrop(1.5)),
    "pad of vectors": lambda: pipeline(data.PadAndCrop(1), x=X),
    "flip of vectors": lambda: pipeline(data.Flip(), x=X),
    "cutout 0": lambda: pipeline(data.Cutout(0)),
    "mixup -1": lambda: pipeline(data.Mixup(-1.0)),
    "mixup nan": lambda: pipeline(data.Mixup(NAN)),
    "cutmix 0": lambda: pipeline(data.CutMix(0.0)),
    "cutmix of vectors": lambda: pipeline(data.CutMix(1.0), x=X),
    "noise -1": lambda: pipeline(data.GaussianNoise(-1.0)),
    "noise nan": lambda: pipeline(data.GaussianNoise(NAN)),
    "shift -1": lambda: pipeline(data.TimeShift(-1)),
    "custom 5": lambda: pipeline(data.Custom(5, "five")),
    "custom without a name": lambda: pipeline(data.Custom(lambda x, rng: x, "")),
    "batch_size 0": lambda: pipeline(batch_size=0),
    "batch_size -1": lambda: pipeline(batch_size=-1),
    "batch_size 1.5": lambda: pipeline(batch_size=1.5),
    "batch_size True": lambda: pipeline(batch_size=True),
    "batch_size text": lambda: pipeline(batch_size="64"),
    "seed -1": lambda: pipeline(seed=-1),
    "seed 2**32": lambda: pipeline(seed=2**32),
    "seed None": lambda: pipeline(seed=None),
    "augment_seed 1.5": lambda: pipeline(augment_seed=1.5),
    "views 0": lambda: pipeline(views=0),
    "views 1.5": lambda: pipeline(views=1.5),
    "from_epoch -1": lambda: pipeline().from_epoch(-1),
    "from_epoch 1.5": lambda: pipeline().from_epoch(1.5),
    "with_teacher 5": lambda: pipeline().with_teacher(5),
    "with_teacher a model": lambda: pipeline(x=X).with_teacher(model()),
}

CALLBACKS = {
    "AlphaDecay(5)": lambda: callbacks.AlphaDecay("x"),
    "AlphaDecay(None)": lambda: callbacks.AlphaDecay(None),
    "TemperatureDecay(text)": lambda: callbacks.TemperatureDecay("cosine"),
    "AlphaDecay on a plain model": lambda: fit_plain(callbacks.AlphaDecay(schedules.Constant(0.5))),
    "TFLiteExport to .keras": lambda: callbacks.TFLiteExport("x.keras"),
    "TFLiteExport to a folder": lambda: callbacks.TFLiteExport("."),
    "TFLiteExport without a path": lambda: callbacks.TFLiteExport(""),
    "TFLiteExport int2": lambda: callbacks.TFLiteExport("x.tflite", format="int2"),
    "TFLiteExport mode": lambda: callbacks.TFLiteExport("x.tflite", monitor="val_loss", mode="best"),
}

TABLES = {
    "schedules": SCHEDULES,
    "losses": LOSSES,
    "distillers": DISTILLERS,
    "pipelines": AUGMENTATIONS,
    "callbacks": CALLBACKS,
}
ROWS = [(f"{table}: {name}", attack) for table, rows in TABLES.items() for name, attack in rows.items()]


@pytest.mark.parametrize("attack", [attack for _, attack in ROWS], ids=[name for name, _ in ROWS])
def test_an_invalid_call_is_rejected(attack, refused):
    refused(attack, KerasKDError, [])


def test_exporting_a_whole_distiller_is_rejected(refused):
    refused(lambda: kd.export.export_tflite(distiller(), "d.tflite"), (ConfigurationError, KerasKDError), ["student"])
