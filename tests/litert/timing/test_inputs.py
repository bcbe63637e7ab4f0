"""Random inputs: types, shapes, and values that LiteRT accepts."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError
from keras_kd.litert import Model, read_file
from keras_kd.litert.timing.inputs import index_limits, input_range, input_shape, random_inputs


@pytest.fixture(scope="module")
def int8_file(export_bytes):
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 2), keras.layers.Flatten()])
    return export_bytes(model, format="int8", calibration=np.random.default_rng(0).normal(size=(8, 4, 4, 2)))


@pytest.fixture(scope="module")
def pair_read(pair_file):
    return read_file(pair_file)


def changed(file, **changes):
    """The file with another first input."""
    graph = file.graphs[0]
    tensors = list(graph.tensors)
    tensors[graph.inputs[0]] = dataclasses.replace(tensors[graph.inputs[0]], **changes)
    return dataclasses.replace(file, graphs=(dataclasses.replace(graph, tensors=tuple(tensors)),))


def test_litert_runs_the_inputs_of_a_model_with_token_ids(pair_file, pair_read):
    """LiteRT refuses an id beyond the table of 50 rows."""
    model = Model(pair_file)
    for seed in range(20):
        contents = random_inputs(pair_read, seed=seed)
        outputs = model.run({name: contents[tensor.index] for name, tensor in model.inputs.items()})
        assert all(np.isfinite(one).all() for one in outputs.values())
    beyond = {name: np.full_like(contents[tensor.index], 50) for name, tensor in model.inputs.items()}
    with pytest.raises(ConfigurationError):
        model.run(beyond)


def test_ids_reach_every_row_of_the_table_and_no_other(pair_read):
    (index,) = index_limits(pair_read.graphs[0])
    ids = np.concatenate([random_inputs(pair_read, seed=seed)[index].ravel() for seed in range(300)])
    assert set(ids) == set(range(50))


def test_a_quantized_input_takes_all_integers_of_its_type(int8_file):
    file = read_file(int8_file)
    (content,) = random_inputs(changed(file, open_shape=(1, 50, 50, 2))).values()
    assert (content.dtype, content.shape, content.min(), content.max()) == (np.int8, (1, 50, 50, 2), -128, 127)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("int32", 0, 1), ("int64", 0, 1), ("uint16", 0, 1)],
)
def test_plain_integers(pair_read, dtype, low, high):
    tensor = dataclasses.replace(pair_read.graphs[0].tensors[0], dtype=dtype, scales=(), zero_points=())
    assert input_range(tensor, None) == (low, high)
    assert input_range(tensor, 7) == (0, 6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "int64", "uint8"])
def test_each_type_gets_its_values(int8_file, dtype):
    (content,) = random_inputs(changed(read_file(int8_file), dtype=dtype, scales=(), zero_points=())).values()
    assert content.dtype == dtype
    assert content.min() >= 0 and len(np.unique(content)) > 1


def test_open_dimensions_have_the_given_size_and_the_batch_has_one(int8_file):
    file = changed(read_file(int8_file), open_shape=(None, None, 4, None))
    assert [one.shape for one in random_inputs(file, open_size=6).values()] == [(1, 6, 4, 6)]
    assert input_shape(file.graphs[0].tensors[file.graphs[0].inputs[0]]) == (1, 1, 4, 1)


def test_the_same_seed_gives_the_same_values(pair_read):
    first, second, third = (random_inputs(pair_read, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[index], second[index]) for index in first)
    assert not all(np.array_equal(first[index], third[index]) for index in first)


@pytest.mark.parametrize("dtype", ["string", "resource", "complex64"])
def test_what_has_no_random_values_is_an_error(int8_file, dtype):
    with pytest.raises(ConfigurationError, match=f"cannot be filled at random. Received: {dtype}"):
        random_inputs(changed(read_file(int8_file), dtype=dtype, scales=()))


def test_an_input_beyond_all_memory_is_an_error(int8_file):
    with pytest.raises(ConfigurationError, match="does not fit in memory"):
        random_inputs(changed(read_file(int8_file), open_shape=(2**30, 2**10)))


def test_a_lookup_with_damaged_operands_has_no_limit(pair_read):
    graph = pair_read.graphs[0]
    for inputs in ((), (0,), (-1, -1), (0, -1)):
        lookups = [
            dataclasses.replace(one, inputs=inputs) if one.name in ("GATHER", "EMBEDDING_LOOKUP") else one
            for one in graph.operators
        ]
        assert index_limits(dataclasses.replace(graph, operators=tuple(lookups))) == {}
