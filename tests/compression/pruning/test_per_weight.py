"""A sparsity for each layer, and one ranking over all layers."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_kd as kd
from keras_kd.compression import Pruning, chain, sparsity, strip
from keras_kd.compression.pruning import ranking

layers = keras.layers


def made(*scales):
    """A model whose kernels have weights of different magnitudes."""
    rng = np.random.default_rng(3)
    model = keras.Sequential([keras.Input((8,)), *(layers.Dense(8, name=f"d{i}") for i in range(len(scales)))])
    for layer, scale in zip(model.layers, scales, strict=True):
        layer.kernel.assign(rng.normal(size=(8, 8)) * scale)
    return model


def stepped(transform, model, steps=1):
    sparse = transform.apply(model, verbose=False)
    for _ in range(steps):
        sparse(np.ones((1, 8), "float32"), training=True)
    return sparse


def kernels(model):
    return {layer.name: ops.convert_to_numpy(layer.kernel) for layer in model.layers}


def test_each_layer_has_its_own_sparsity_and_the_others_are_not_pruned():
    prune = Pruning({"d0": 0.25, "d2": {"name": "linear", "start": 0.0, "end": 0.75, "steps": 2}}, frequency=1)
    sparse = stepped(prune, made(1, 1, 1), 3)
    assert sparsity(sparse) == {"d0/kernel": 0.25, "d2/kernel": 0.75}
    assert {row.path: row.reason for row in prune.report(made(1, 1, 1)).rows} == {
        "d0": "", "d1": "not listed in sparsity", "d2": ""
    }  # fmt: skip
    twice = chain(Pruning({"d0": 0.25}), Pruning({"d1": 0.5}))
    assert sparsity(stepped(twice, made(1, 1))) == {"d0/kernel": 0.25, "d1/kernel": 0.5}


@pytest.mark.parametrize("level", [0.1, 0.4, 0.55])
def test_global_is_one_ranking_of_all_weights(level):
    model = made(1.0, 0.3, 2.0)
    small = kernels(strip(stepped(Pruning(level, scope="global"), model)))
    every = {name: np.abs(kernel) for name, kernel in kernels(model).items()}
    threshold = np.sort(np.concatenate([kernel.reshape(-1) for kernel in every.values()]))[round(level * 192) - 1]
    for name, kernel in every.items():
        np.testing.assert_array_equal(small[name] != 0, kernel > threshold)


def test_global_keeps_a_weight_of_each_kernel_and_survives_a_file(tmp_path):
    sparse = Pruning(0.9, scope="global").apply(made(1.0, 1e-3, 1.0), verbose=False)
    sparse.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for model in (sparse, loaded):
        model(np.ones((1, 8), "float32"), training=True)
    assert sparsity(sparse) == sparsity(loaded)
    assert sparsity(sparse)["d1/kernel"] == 63 / 64


def test_global_follows_the_schedule_from_layer_to_layer():
    schedule = kd.schedules.Linear(0.0, 0.9, steps=9)
    sparse = Pruning(schedule, scope="global", frequency=1).apply(made(1.0, 0.2), verbose=False)
    seen = []
    for _ in range(10):
        sparse(np.ones((1, 8), "float32"), training=True)
        seen.append(list(sparsity(sparse).values()))
    assert np.mean(seen, axis=1) == pytest.approx(np.arange(10) / 10, abs=0.02)
    assert seen[5][1] > 0.7 and seen[5][0] < 0.3  # the layer of small weights goes first


def test_global_blocks_and_two_of_four():
    model = made(1.0, 0.3)
    every = {name: np.abs(kernel) for name, kernel in kernels(model).items()}
    small = kernels(strip(stepped(Pruning(0.5, pattern="2x2", scope="global"), model)))
    means = {name: kernel.reshape(4, 2, 4, 2).mean(axis=(1, 3)) for name, kernel in every.items()}
    threshold = np.sort(np.concatenate([mean.reshape(-1) for mean in means.values()]))[15]
    for name, mean in means.items():
        np.testing.assert_array_equal(small[name][::2, ::2] != 0, mean > threshold)

    small = kernels(strip(stepped(Pruning(0.75, pattern="2:4", scope="global"), model)))
    kept = {name: kernel != 0 for name, kernel in small.items()}
    assert all(kernel.reshape(2, 4, 8).sum(axis=1).max() <= 2 for kernel in kept.values())
    assert sum(kernel.sum() for kernel in kept.values()) == 32 and kept["d0"].sum() > kept["d1"].sum()


def test_two_of_four_below_its_sparsity_and_with_a_part_of_a_group():
    """Before the structure is complete, and for 10 inputs, no kernel falls behind the structure."""
    low = ranking.with_least(np.linspace(0, 0.2, 101), 0.5)
    np.testing.assert_allclose(low[:51], np.linspace(0, 0.5, 51))
    assert min(low[51:]) == 0.5


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sparsity": {"d00": 0.5}}, "Did you mean 'd"),
        ({"sparsity": {"d0": 1.5}}, r"sparsity\[d0\]"),
        ({"sparsity": {"d0": None}}, r"sparsity\[d0\]' is missing"),
        ({"sparsity": {}}, "names no layer"),
        ({"sparsity": {"d0": 0.5}, "skip": ["d0"]}, "skip"),
        ({"sparsity": {"d1": 0.5}, "freeze": True}, "trainable kernel"),
        ({"sparsity": {"d0": 0.5}, "scope": "global"}, "scope='global'"),
        ({"sparsity": 0.5, "scope": "all"}, "scope"),
        ({"sparsity": 0.5, "score": "size"}, "score"),
        ({"sparsity": 0.5, "score": "movement"}, "no scores at step 0"),
        ({"sparsity": kd.schedules.Linear(0.0, 0.5, steps=5), "score": "movement", "scope": "global"}, "scope"),
        ({"sparsity": {"name": "linear", "start": 0.0}}, "schedule"),
    ],
)
def test_bad_settings_get_one_clear_error(settings, message):
    model = made(1, 1)
    model.layers[1].trainable = not settings.pop("freeze", False)
    with pytest.raises(kd.errors.ConfigurationError, match=message) as error:
        Pruning(settings.pop("sparsity"), **settings).apply(model, verbose=False)
    assert "eceived" in str(error.value)
