"""Ranges against their definitions in NumPy, and against those that TensorFlow's converter measures."""

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.export import measure_ranges, ranges

layers = keras.layers


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), layers.Dense(50, "relu"), layers.Dense(3)])


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(120, 6)).astype("float32")


@pytest.fixture(scope="module")
def content(net, samples, export_bytes):
    return export_bytes(net, samples=samples)


@pytest.fixture(scope="module")
def hidden(net, samples):
    kernel, bias = net.layers[0].get_weights()
    return np.maximum(samples.astype("float64") @ kernel + bias, 0)


def of_hidden(found):
    """The range of the only tensor that starts at zero."""
    (ends,) = (ends for ends in found.values.values() if abs(ends[0]) < 1e-3)
    return ends


def test_smallest_and_largest_values(content, samples, hidden):
    found = measure_ranges(content, samples)
    assert found.method == "min_max" and found.num_samples == 120
    assert of_hidden(found) == pytest.approx((0, hidden.max()), rel=1e-5)
    assert (float(samples.min()), float(samples.max())) in found.values.values()


def test_they_are_those_of_the_converter(net, content, samples, export_bytes):
    found = measure_ranges(content, samples)
    model = litert.Model(export_bytes(net, format="int8", calibration=samples))
    for tensor in (*model.inputs.values(), *model.outputs.values()):
        low, high = ((limit - tensor.zero_point) * tensor.scale for limit in (-128, 127))
        assert any(abs(low - a) <= tensor.scale and abs(high - b) <= tensor.scale for a, b in found.values.values())


def test_moving_averages(content, samples, hidden):
    expected = 0.0
    for index, row in enumerate(hidden):
        expected = row.max() if index == 0 else 0.99 * expected + 0.01 * row.max()
    assert of_hidden(measure_ranges(content, samples, "moving_average"))[1] == pytest.approx(expected, rel=1e-5)


def test_percentiles(content, samples, hidden):
    high = of_hidden(measure_ranges(content, samples, "percentile"))[1]
    assert high == pytest.approx(np.percentile(hidden, 99.995), rel=0.05)
    values = np.random.default_rng(0).normal(size=1_000_000)
    counts, edges = np.histogram(values, 2048)
    expected = np.percentile(values, [0.005, 99.995])
    np.testing.assert_allclose(ranges.percentile_range(counts, edges), expected, atol=0.02)


@pytest.mark.parametrize("heavy", [False, True])
def test_the_range_of_least_squared_error(heavy):
    generator = np.random.default_rng(0)
    values = generator.normal(size=20_000)
    if heavy:  # 20 far values cost less if they are clipped than if they make all steps ten times as large
        values[:20] = 40
    counts, edges = np.histogram(values, 2048)
    low, high = ranges.mse_range(counts, edges)

    def error(scaled):
        a, b = scaled * values.min(), scaled * values.max()
        step = (b - a) / 255
        zero = np.round(-a / step)
        return np.mean((values - (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step) ** 2)

    fractions = np.linspace(0.2, 1, 81)
    best = fractions[np.argmin([error(one) for one in fractions])]
    assert high / values.max() == pytest.approx(best, abs=0.03) and low / values.min() == pytest.approx(best, abs=0.03)


def test_mse_of_a_file_stays_within_the_extremes(content, samples):
    wide, found = measure_ranges(content, samples).values, measure_ranges(content, samples, "mse").values
    assert wide.keys() == found.keys()
    for name, (low, high) in found.items():
        assert wide[name][0] - 1e-6 <= low <= high <= wide[name][1] + 1e-6


def test_settled_ranges(content, samples):
    assert measure_ranges(content, np.repeat(samples[:1], 50, axis=0)).enough == 1
    wider = np.concatenate([np.repeat(samples[:1], 49, axis=0), 10 * samples[:1]])
    found = measure_ranges(content, wider)
    assert found.enough == 50 and not found.are_settled and "more samples may help" in str(found)
    assert "settled after" in str(measure_ranges(content, np.concatenate([samples] * 3)))


def test_constant_tensors_and_one_sample(content, samples):
    for method in ranges.METHODS:
        found = measure_ranges(content, np.zeros((1, 6), "float32"), method)
        assert found.num_samples == 1 and all(np.isfinite(ends).all() for ends in found.values.values())


def test_wrong_arguments(content, samples):
    with pytest.raises(ConfigurationError, match="Invalid 'method'.*'min_max'"):
        measure_ranges(content, samples, "kl")
    with pytest.raises(ConfigurationError, match="does not take these examples"):
        measure_ranges(content, samples[:, :3])
    with pytest.raises(ConfigurationError, match="not a LiteRT"):
        measure_ranges(b"nothing", samples)
