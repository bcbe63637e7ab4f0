"""A model read as a graph: paths, neighbors and calls."""

import keras
import pytest
from model_table import MODELS

from keras_kd.errors import ConfigurationError
from keras_kd.surgery import read_graph

L = keras.layers


def test_neighbors_by_path():
    x = keras.Input((4,), name="x")
    y = L.Dense(4, name="first")(x)
    z = L.Add(name="sum")([L.ReLU(name="relu")(y), y])
    graph = read_graph(keras.Model(x, L.Dense(1, name="last")(z)))
    assert [node.path for node in graph] == ["first", "relu", "sum", "last"]
    assert graph["sum"].inbound == ("relu", "first") and graph["first"].inbound == ("x",)
    assert graph["first"].outbound == ("relu", "sum") and graph["last"].outbound == ()
    assert graph.num_readers(y) == 2


def test_nested_models_are_nodes_and_have_nodes_inside():
    graph = read_graph(MODELS["nested_three_deep"]())
    assert graph["second"].outbound == ("dense",)
    assert graph["second/third/core"].outbound == ("second/third/dense",)


def test_a_shared_layer_is_one_node_with_several_calls():
    model = MODELS["shared_across_models"]()
    graph = read_graph(model)
    (node,) = [node for node in graph if node.operation is model.get_layer("shared")]
    assert len(node.calls) == 3 and len(graph["body"].calls) == 2
    assert graph.find(model.get_layer("shared")) is node and graph.find(L.Dense(1)) is None


def test_an_output_is_read_by_the_caller():
    x = keras.Input((4,))
    y = L.Dense(2)(x)
    assert read_graph(keras.Model(x, [L.ReLU()(y), y])).num_readers(y) == 2


def test_bare_operations_are_nodes():
    kinds = {type(node.operation).__name__ for node in read_graph(MODELS["bare_operations"]())}
    assert {"GetItem", "Mean", "Concatenate", "Softmax", "Dense"} <= kinds


def test_code_is_not_a_graph():
    with pytest.raises(ConfigurationError, match="cannot be read as a graph"):
        read_graph(L.Dense(1))
