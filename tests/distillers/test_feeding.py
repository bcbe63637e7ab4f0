"""`fit`, `evaluate` and `predict` handle arrays as Keras does, without the wait at the end of an epoch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.distillers.feeding import Arrays
from keras_kd.errors import ConfigurationError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(50, 4)).astype("float32"), RNG.integers(0, 3, 50)
WEIGHTS = RNG.uniform(0.5, 2.0, 50).astype("float32")


def head():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


TEACHER = head()


@pytest.fixture
def make_distiller():
    start = head().get_weights()

    def make(teacher=TEACHER):
        student = head()
        student.set_weights(start)
        distiller = kd.Distiller(teacher, student)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.1), loss=loss, metrics=["accuracy"])
        return distiller

    return make


FITS = {
    "plain": {"x": X, "y": Y},
    "validation split": {"x": X, "y": Y, "validation_split": 0.3, "sample_weight": WEIGHTS},
    "validation data": {"x": X, "y": Y, "validation_data": (X[:9], Y[:9], WEIGHTS[:9]), "validation_batch_size": 4},
    "validation steps": {"x": X, "y": Y, "validation_data": (X, Y), "validation_steps": 1, "batch_size": 16},
    "sample weight": {"x": X, "y": Y, "sample_weight": WEIGHTS, "batch_size": 7},
    "class weight": {"x": X, "y": Y, "class_weight": {0: 1.0, 1: 3.0, 2: 0.5}},
    "steps": {"x": X, "y": Y, "steps_per_epoch": 4},
    "few steps": {"x": X, "y": Y, "batch_size": 10, "steps_per_epoch": 3},
    "in order": {"x": X, "y": Y, "shuffle": False, "batch_size": 20},
    "tensors": {"x": tf.constant(X), "y": tf.constant(Y)},
    "no labels": {"x": X},
    "a dataset": {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), "shuffle": False},
}


@pytest.mark.filterwarnings("ignore:.*ran out of data:UserWarning")
@pytest.mark.parametrize("name", FITS)
def test_fit_is_that_of_keras(make_distiller, name):
    """The same seed gives the same order and batches, so weights and logs are bit-identical."""
    runs = []
    for fit in (kd.Distiller.fit, keras.Model.fit):
        distiller = make_distiller()
        keras.utils.set_random_seed(3)
        runs.append((distiller, fit(distiller, **FITS[name], epochs=3, verbose=0).history))
    (ours, our_logs), (theirs, their_logs) = runs
    assert our_logs == their_logs
    for one, other in zip(ours.student.get_weights(), theirs.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluate_and_predict_are_those_of_keras(make_distiller):
    distiller = make_distiller()
    for settings in ({}, {"batch_size": 7}, {"steps": 2, "batch_size": 10}, {"sample_weight": WEIGHTS}):
        ours = distiller.evaluate(X, Y, **settings, verbose=0, return_dict=True)
        assert ours == keras.Model.evaluate(distiller, X, Y, **settings, verbose=0, return_dict=True)
    for settings in ({}, {"batch_size": 7}, {"steps": 2, "batch_size": 10}):
        ours = distiller.predict(X, verbose=0, **settings)
        np.testing.assert_array_equal(ours, keras.Model.predict(distiller, X, verbose=0, **settings))


def test_arrays_are_read_without_the_autotuner(make_distiller, monkeypatch):
    seen = []

    def get_tf_dataset(self, original=Arrays.get_tf_dataset):
        seen.append(original(self))
        return seen[-1]

    monkeypatch.setattr(Arrays, "get_tf_dataset", get_tf_dataset)
    distiller = make_distiller()
    distiller.fit(X, Y, validation_data=(X, Y), verbose=0)
    distiller.fit(X, Y, validation_split=0.5, verbose=0)
    distiller.evaluate(X, Y, verbose=0)
    distiller.predict(X, verbose=0)
    assert [dataset.options().autotune.enabled for dataset in seen] == [False] * 6


def test_arguments_by_position_and_several_inputs(make_distiller):
    x = {name: keras.Input((size,), name=name) for name, size in (("a", 4), ("b", 2))}
    model = keras.Model(x, keras.layers.Dense(3)(keras.layers.Concatenate()([x["a"], x["b"]])))
    distiller = kd.Distiller(keras.models.clone_model(model), model)
    distiller.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    arrays = {"a": X, "b": X[:, :2]}
    history = distiller.fit(arrays, Y, 10, 2, 0, validation_split=0.2).history
    assert len(history["loss"]) == len(history["val_loss"]) == 2
    assert distiller.predict(arrays, 10, 0).shape == (50, 3)


@pytest.mark.parametrize("name", ["class_weight", "sample_weight", "y"])
def test_what_would_not_be_read_beside_a_pipeline_is_refused(make_distiller, name):
    distiller = make_distiller()
    pipeline = kd.data.Pipeline((X, Y), batch_size=16)
    given = {"class_weight": {0: 2.0}, "sample_weight": WEIGHTS, "y": Y}[name]
    with pytest.raises(ConfigurationError, match=f"would be ignored.*{name}.*sample_weight"):
        distiller.fit(pipeline, **{name: given}, verbose=0)
    if name != "class_weight":
        with pytest.raises(ConfigurationError, match="would be ignored"):
            distiller.evaluate(pipeline, **{name: given}, verbose=0)
        parts = (pipeline, Y) if name == "y" else (pipeline, None, WEIGHTS)
        with pytest.raises(ConfigurationError, match="would be ignored"):
            distiller.fit(X, Y, validation_data=parts, verbose=0)
    distiller.fit(pipeline, validation_data=pipeline, verbose=0)


def test_data_that_do_not_fit_together_are_refused_as_keras_does(make_distiller):
    with pytest.raises(ValueError, match="cardinality"):
        make_distiller().fit(X, Y[:9], verbose=0)
    with pytest.raises(TypeError, match="'epoch'"):
        make_distiller().fit(X, Y, epoch=3)
