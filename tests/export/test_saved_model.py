"""The names in the file, and the structures that Keras expects."""

import keras
import numpy as np

from keras_kd.export._saved_model import all_layers, model_inputs, name_outputs, pack_inputs


def add(*inputs):
    return keras.Model(list(inputs), keras.layers.Add()(list(inputs)))


def test_names_of_the_user_are_kept_and_made_fit():
    model = add(keras.Input((2,), name="left-eye"), keras.Input((2,), name="right eye"))
    assert [one.name for one in model_inputs(model)] == ["left_eye", "right_eye"]
    assert [one.key for one in model_inputs(model)] == ["left-eye", "right eye"]


def test_names_that_keras_made_up_do_not_change_from_run_to_run():
    assert [one.name for one in model_inputs(add(keras.Input((2,)), keras.Input((2,))))] == ["input_0", "input_1"]
    (one,) = model_inputs(keras.Sequential([keras.Input((2, None), dtype="int32"), keras.layers.Reshape((-1,))]))
    assert (one.name, one.shape, one.dtype) == ("input", (2, None), "int32")


def test_outputs_are_named_by_key_then_by_layer_then_by_number():
    features = keras.Input((2,))
    first, second = keras.layers.Dense(1, name="b-c")(features), keras.layers.Dense(1, name="a")(features)
    model = keras.Model(features, [first, second])
    assert list(name_outputs(model, [1, 2]).items()) == [("b_c", 1), ("a", 2)]
    assert list(name_outputs(model, {"z": 1, "y": 2}).items()) == [("y", 2), ("z", 1)]
    assert name_outputs(keras.Sequential([features, keras.layers.Dense(1, name="last")]), 7) == {"last": 7}
    assert list(name_outputs(model, [1, 2, 3])) == ["output_0", "output_1", "output_2"]


def test_inputs_are_packed_as_the_model_was_built():
    first, second = keras.Input((2,), name="b"), keras.Input((2,), name="a")
    model = keras.Model({"b": first, "a": second}, keras.layers.Subtract()([first, second]))
    order = [one.name for one in model_inputs(model)]
    flat = [np.full((1, 2), {"b": 5.0, "a": 3.0}[name]) for name in order]
    assert np.asarray(model(pack_inputs(model, flat))).tolist() == [[2.0, 2.0]]


def test_all_layers_reaches_into_nested_models_and_wrappers():
    block = keras.Sequential([keras.Input((3, 2)), keras.layers.TimeDistributed(keras.layers.Dense(2, name="deep"))])
    model = keras.Sequential([keras.Input((3, 2)), block])
    assert "deep" in [layer.name for layer in all_layers(model)]
