"""The sizes of the weights of models."""

import gzip

import keras
import numpy as np
import pytest
from compressible import MODELS

import keras_kd as kd
from keras_kd.compression import Clustering, sizes
from keras_kd.compression.coding.weights import encode_weight
from keras_kd.errors import ConfigurationError


def test_every_weight_counts_once(model):
    found = sizes(model)
    assert found.float32_bytes == 4 * model.count_params()
    assert sum(layer.num_weights for layer in found.layers) == model.count_params()
    assert found.coded_bytes == sum(len(encode_weight(weight)) for weight in model.get_weights())


def test_of_one_layer():
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dense(20, name="body"), keras.layers.Dense(3)])
    kernel = np.where(np.random.default_rng(0).random((50, 20)) < 0.9, 0.0, 0.5).astype("float32")
    model.layers[0].set_weights([kernel, np.zeros(20)])
    row = sizes(model).layers[0]
    content = kernel.tobytes() + bytes(80)
    assert (row.path, row.num_weights, row.num_values, row.float32_bytes) == ("body", 1020, 2, 4080)
    assert row.num_zeros == (kernel == 0).sum() + 20
    assert gzip.decompress(gzip.compress(content, 9, mtime=0)) == content
    assert row.gzip_bytes == len(gzip.compress(content, 9, mtime=0))
    assert row.coded_bytes == len(encode_weight(kernel)) + len(encode_weight(np.zeros(20)))
    table = str(sizes(model)).splitlines()
    assert table[0].split() == "layer weights zeros values float32 bytes gzip coded float32 / coded".split()
    assert table[2].split()[:5] == ["body", "1,020", f"{100 * row.num_zeros / 1020:.0f}%", "2", "4,080"]
    assert table[-1].startswith("total") and table[-1].split()[1] == "1,083"


def test_a_compressed_model_is_measured_as_it_is_stripped():
    model = MODELS["sequential"]()
    shared = Clustering(4).apply(model, verbose=False)
    assert sizes(shared) == sizes(kd.compression.strip(shared))
    assert [layer.num_values for layer in sizes(shared).layers] == [4, 4]
    assert sizes(shared).coded_bytes < sizes(model).coded_bytes


def test_what_has_no_size():
    with pytest.raises(ConfigurationError, match="no weights to measure"):
        sizes(keras.Sequential([keras.Input((3,)), keras.layers.ReLU()]))
    with pytest.raises(ConfigurationError, match="Only a model"):
        sizes(keras.layers.Dense(3))
