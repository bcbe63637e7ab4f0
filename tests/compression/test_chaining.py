"""Several techniques on one weight: in one transform, and one after the other."""

import keras
import numpy as np
import pytest
from compressible import nested
from keras import ops

import keras_kd as kd
from keras_kd.compression import ChannelPruning, Clustering, Pruning, QuantizationAware, chain, strip
from keras_kd.compression.stripping import reparametrized_layers

RNG = np.random.default_rng(0)
X, Y = RNG.random((32, 8), "float32"), RNG.integers(0, 5, 32)


def fitted(model):
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=8, verbose=0)
    return model


def kernels(model):
    return {w.path: ops.convert_to_numpy(w) for w in model.weights if w.name == "kernel"}


def test_zeros_of_an_earlier_technique_stay(tmp_path):
    first = strip(fitted(Pruning(pattern="2:4").apply(nested(), verbose=False)))
    before = kernels(first)
    again = Pruning(0.05, skip=["head"])
    rows = again.report(first).rows
    assert [row.kept for row in rows] == 3 * ["50% zeros"]
    assert [(row.path, row.reason) for row in rows if not row.weights] == [("head", "listed in skip")]
    sparse = fitted(again.apply(first, verbose=False))
    sparse.save(tmp_path / "sparse.keras")
    for model in (sparse, keras.models.load_model(tmp_path / "sparse.keras")):
        after = kernels(strip(model))
        assert after.keys() == before.keys()
        for path, kernel in after.items():
            assert np.all(kernel[before[path] == 0] == 0)
        assert any(np.any(kernel != before[path]) for path, kernel in after.items())


def test_a_chain_composes_functions_of_a_weight(tmp_path):
    """A block has 2 of 4 nonzero inputs, and of whole blocks half are zero."""
    both = chain(Pruning(pattern="2:4", skip=["head"]), Pruning(0.5, pattern="1x4"))
    model = nested()
    report = {row.path: row for row in both.report(model).rows}
    assert report["head"].weights == ("kernel",) and report["head"].reason == "Pruning: listed in skip"
    sparse = fitted(both.apply(model, verbose=False))
    small = kernels(both.strip(sparse))
    for path, kernel in small.items():
        rows, columns = kernel.shape
        whole = kernel[:, : columns // 4 * 4].reshape(rows, -1, 4)
        assert np.mean(np.all(whole == 0, axis=-1)) >= 0.5 or "head" in path
        if "head" not in path:
            assert np.all(np.count_nonzero(kernel.reshape(-1, 4, columns), axis=1) <= 2)
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.models.load_model(tmp_path / "sparse.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), sparse.predict(X, verbose=0))
    assert len(reparametrized_layers(loaded)) == 3


@pytest.mark.parametrize("transforms", [(), (Pruning,), (0.5,)])
def test_chains_of_other_things_are_refused(transforms):
    with pytest.raises(kd.errors.ConfigurationError, match="chain"):
        chain(*transforms)


def test_clusters_keep_the_first_zeros_of_a_mask():
    """Fewer than the tenth that would be kept without a mask."""
    both = chain(Pruning(0.05, frequency=1), Clustering(16))
    model = both.apply(nested(), verbose=False)
    model(X, training=True)
    for layer in reparametrized_layers(model).values():
        mask = layer.reparametrizations["kernel"].functions[0].mask
        assert 0.02 < np.mean(np.asarray(mask) == 0) < 0.1
        assert (ops.convert_to_numpy(layer.effective_weights()["kernel"])[np.asarray(mask) == 0] == 0).all()
    with pytest.raises(kd.errors.ConfigurationError, match="2 clusters are too few"):
        chain(Pruning(0.05), Clustering(2)).apply(nested(), verbose=False)


def test_a_chain_in_a_chain_is_the_sum_of_its_parts():
    one = chain(chain(Pruning(0.5), Clustering(4)), QuantizationAware())
    other = chain(Pruning(0.5), Clustering(4), QuantizationAware())
    model = nested()
    assert str(one.report(model)) == str(other.report(model))
    with pytest.raises(kd.errors.ConfigurationError, match="Nothing can follow"):
        chain(chain(QuantizationAware()), Pruning(0.5))


def test_the_report_of_a_change_is_that_after_the_changes_before_it():
    model, change = nested(), ChannelPruning(operations=0.7)
    both = chain(change, change)
    assert str(both.report(model)) == str(change.report(change.apply(model, verbose=False)))


def test_nothing_follows_rounding():
    with pytest.raises(kd.errors.ConfigurationError, match="Nothing can follow QuantizationAware"):
        chain(QuantizationAware(), Clustering(16))


def test_reasons_name_the_technique_that_was_asked_for():
    by_layer = chain(Pruning({"head": 0.5}), QuantizationAware(skip=["head"]))
    reasons = {row.path: row.reason for row in by_layer.report(nested()).rows}
    assert reasons["head"].startswith("QuantizationAware: listed in skip")
    assert any(reason.startswith("Pruning: not listed in sparsity") for reason in reasons.values())
