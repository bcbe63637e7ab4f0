"""The accuracy guard, on a network whose int8 file is bad because of one layer."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError, ExportError
from keras_kd.export import export_guarded
from keras_kd.export.operator_errors import noise_to_signal, operators_by_error

layers = keras.layers


@pytest.fixture(scope="module")
def net():
    """A random classifier with a channel of `loud` that is a thousand times as large as the others."""
    keras.utils.set_random_seed(0)
    features = keras.Input((16,), name="features")
    x = layers.Dense(32, activation="relu", name="quiet")(features)
    loud, after = layers.Dense(32, activation="relu", name="loud"), layers.Dense(32, activation="relu", name="after")
    model = keras.Model(features, layers.Dense(5, name="scores")(after(loud(x))))
    scale = np.ones(32, "float32")
    scale[0] = 1000
    loud.kernel.assign(loud.kernel * scale)
    after.kernel.assign(after.kernel / scale[:, None])
    return model


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(0).normal(size=(600, 16)).astype("float32")


@pytest.fixture(scope="module")
def labels(net, samples):
    return net.predict(samples, verbose=0).argmax(1)


@pytest.fixture
def guard(net, samples, labels, tmp_path):
    def guard(**options):
        options = {"calibration": samples[:100], "validation": (samples[100:], labels[100:])} | options
        return export_guarded(net, tmp_path / "net.tflite", isolate=False, **options)

    return guard


def accuracy(path, samples, labels):
    (output,) = litert.Model(path).predict(samples).values()
    return float((output.argmax(1) == labels).mean())


def test_the_smallest_file_that_holds_is_written(guard, samples, labels):
    found = guard(max_accuracy_drop=2.0)
    assert found.baseline == 1 and found.unit == "points" and found.num_examples == 500
    first, *others = found.tries
    assert first.format == "int8" and first.drop > 5  # the quiet channels are rounded away
    chosen = found.tries[found.chosen]
    holding = [one for one in found.tries if not one.problem and one.drop <= 2.0]
    assert chosen in holding and chosen.num_bytes == min(one.num_bytes for one in holding)
    assert {"mixed", "int16x8", "float16", "float32"} <= {one.format for one in others}
    assert accuracy(found.export.path, samples[100:], labels[100:]) == pytest.approx(chosen.value)
    assert chosen.value == pytest.approx(1 - chosen.drop / 100)
    mixed = [one for one in holding if one.format == "mixed"]
    assert min(one.num_floats for one in mixed) == 2  # `after`, and `loud` before it


def test_a_loose_limit_takes_int8_at_once(guard, samples, labels):
    found = guard(max_accuracy_drop=100)
    assert [one.format for one in found.tries] == ["int8"] and found.export.format == "int8"
    lines = str(found).splitlines()
    assert lines[0].startswith("The smallest file within a drop of 100 points in accuracy, from 1.0000 of the model")
    assert f"->  int8  {found.export.num_bytes:,}" in str(found)


def test_zero_points_are_kept(guard, samples, labels):
    found = guard(max_accuracy_drop=0)
    assert accuracy(found.export.path, samples[100:], labels[100:]) == 1


def test_a_function_and_other_measures(guard):
    found = guard(max_accuracy_drop=0.01, measure="macro_f1")
    assert found.measure == "macro_f1" and found.tries[found.chosen].drop <= 0.01

    def negative_error(outputs, labels):
        return -float(np.mean(outputs.argmax(1) != labels))

    found = guard(max_accuracy_drop=0.02, measure=negative_error)
    assert (found.measure, found.unit, found.baseline) == ("negative_error", "", 0)
    assert found.tries[found.chosen].drop <= 0.02


def test_the_loud_operator_adds_the_largest_error(net, samples, export_bytes):
    content = export_bytes(net, samples=samples)
    from keras_kd.export import measure_ranges

    quantized = litert.quantize(content, litert.get_format("int8"), measure_ranges(content, samples[:100]).values)
    ratios = noise_to_signal(content, quantized, samples[:50])
    names = operators_by_error(content, quantized, {"features": samples})
    assert len(names) == 4 and "after" in names[0][0] and "loud" in names[0][1]  # between them is the large channel
    one, other = (list(litert.Observer(data).values(samples[:50])) for data in (content, quantized))
    values, others = (np.concatenate([batch[names[0][0]] for batch in batches]) for batches in (one, other))
    assert ratios[names[0][0]] == pytest.approx(np.square(values - others).sum() / np.square(values).sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_accuracy_drop": -1}, "Invalid 'max_accuracy_drop'"),
        ({"max_accuracy_drop": "low"}, "Invalid 'max_accuracy_drop'"),
        ({"validation": np.zeros((3, 16), "float32")}, "Invalid 'validation'.*a pair"),
        ({"validation": (np.zeros((3, 16), "float32"), np.zeros(2))}, "a label for each example"),
        ({"validation": (np.zeros((3, 4), "float32"), np.zeros(3))}, "'validation' has a shape"),
        ({"calibration": None}, "needs `calibration`"),
        ({"task": "poetry"}, "poetry"),
        ({"measure": "beauty"}, "beauty"),
    ],
)
def test_wrong_arguments(options, message, guard, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        guard(**{"max_accuracy_drop": 1.0} | options)
    assert not list(tmp_path.iterdir())


def test_a_rung_that_cannot_be_made_is_listed(guard, monkeypatch):
    from keras_kd.export import guard as module

    real = module.make

    def make(source, form, *arguments):
        if form.name == "int16x8":
            raise ExportError("no kernel")
        return real(source, form, *arguments)

    monkeypatch.setattr(module, "make", make)
    found = guard(max_accuracy_drop=0)
    (one,) = (one for one in found.tries if one.format == "int16x8")
    assert one.problem == "no kernel" and one.drop is None and "int16x8: no kernel" in str(found)
    assert dataclasses.asdict(one)["num_bytes"] is None


def test_a_float_file_that_does_not_match_the_model_is_refused(guard, monkeypatch, net, tmp_path):
    """Otherwise a wrong file would be measured against another wrong one."""
    from keras_kd.export import _making

    real = _making.Source.convert

    def convert(source, form):
        other = keras.models.clone_model(net)
        other.set_weights([0.7 * weight for weight in net.get_weights()])
        endpoints = tuple(dataclasses.replace(one, model=other) for one in source.endpoints)
        return real(dataclasses.replace(source, endpoints=endpoints), form)

    monkeypatch.setattr(_making.Source, "convert", convert)
    with pytest.raises(ExportError, match="'scores' of the float32 TFLite file differs"):
        guard(max_accuracy_drop=100)
    assert not list(tmp_path.iterdir())
