"""Factor transfer against float64 NumPy written from the paper and the published layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_table import pair

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses.factor_transfer import FactorTransfer, Paraphraser, factor_transfer
from keras_kd.serialization import deserialize, serialize

TEACHER, STUDENT = (3, 3, 2, 4), (3, 3, 2, 3)


def expected(teacher, student, power=1):
    """The mean over the entries of `|F_T / ||F_T|| - F_S / ||F_S|| |^p` of each example."""
    pairs = zip(teacher, student, strict=True)
    return np.array([np.mean(np.abs(t / np.linalg.norm(t) - s / np.linalg.norm(s)) ** power) for t, s in pairs])


def convolved(features, weights):
    """3x3 convolutions (kernels and biases) with zero padding, each followed by a leaky ReLU of slope 0.1."""
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        height, width = features.shape[1:3]
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = [padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)]
        features = sum(windows) + bias
        features = np.where(features > 0, features, 0.1 * features)
    return features


def fitted(channels=4, rate=0.5):
    paraphraser = Paraphraser(rate=rate)
    paraphraser.build((None, None, None, channels))
    paraphraser.built = True
    return paraphraser


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (4, 3, 2, 2)])
def test_matches_the_formula(assert_matches_the_formula, shape, power):
    assert_matches_the_formula(
        lambda t, s: factor_transfer(t, s, power=power), lambda t, s: expected(t, s, power), *pair(shape, shape)
    )


def test_the_larger_factor_is_pooled(assert_matches_the_formula):
    teacher, student = pair((2, 4, 4, 2), (2, 2, 2, 2))
    assert_matches_the_formula(
        factor_transfer, lambda t, s: expected(t.reshape(2, 2, 2, 2, 2, 2).mean((2, 4)), s), teacher, student
    )


def test_only_the_direction_counts():
    teacher, _ = pair(TEACHER, STUDENT)
    np.testing.assert_allclose(factor_transfer(teacher, 7 * teacher), np.zeros(3), atol=1e-15)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("size", [0.0, 60.0, 1e4])
def test_is_finite_at_zeros_and_extremes(size, power):
    teacher = np.sign(np.random.default_rng(0).normal(size=(2, 2, 2, 3))).astype("float32") * size
    student = tf.Variable(-teacher)
    with tf.GradientTape() as tape:
        value = factor_transfer(teacher, student, power=power)
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, student)).all()


def test_a_fitted_paraphraser_is_fixed():
    teacher, student = (x.astype("float32") for x in pair(TEACHER, STUDENT))
    paraphraser = fitted()
    loss = FactorTransfer(paraphraser=paraphraser)
    with tf.GradientTape() as tape:
        value = loss(teacher, student)
    fixed, learned = ([np.asarray(w) for w in ws] for ws in (loss.non_trainable_weights, loss.trainable_weights))
    assert [w.shape for w in learned[::2]] == [(3, 3, 3, 3), (3, 3, 3, 2), (3, 3, 2, 2)]
    assert len(fixed) == 12 and len(learned) == 6
    values = expected(convolved(teacher, fixed[:6]), convolved(student, learned))
    assert float(value) == pytest.approx(values.mean(), rel=1e-4)
    slopes = tape.gradient(value, [weight.value for weight in loss.trainable_weights])
    assert all(np.abs(slope).max() > 0 for slope in slopes)
    assert len(paraphraser.trainable_weights) == 12  # the user's own stays as it was
    paraphraser.encoder[0].kernel.assign(0 * paraphraser.encoder[0].kernel)
    assert float(loss(teacher, student)) == float(value)


def test_a_learned_paraphraser_follows_its_reconstruction_alone():
    teacher, student = (x.astype("float32") for x in pair(TEACHER, STUDENT))
    loss, parts = FactorTransfer(reconstruction_weight=0.3), {}
    loss(teacher, student)
    encoder, decoder = ([w for layer in part for w in layer.weights] for part in _parts(loss))
    weights = [np.asarray(w) for w in [*encoder, *decoder]]
    translator = [np.asarray(w) for layer in loss._translator for w in layer.weights]
    factor = convolved(teacher, weights[:6])
    parts["factor"] = expected(factor, convolved(student, translator)).mean()
    parts["reconstruction"] = np.abs(convolved(factor, weights[6:]) - teacher).mean()
    with tf.GradientTape(persistent=True) as tape:
        value = loss(teacher, student)
        reconstructed = tf.reduce_mean(tf.abs(loss._paraphraser(teacher) - teacher))
    assert float(value) == pytest.approx(parts["factor"] + 0.3 * parts["reconstruction"], rel=1e-4)
    variables = [weight.value for weight in [*encoder, *decoder]]
    found, alone = tape.gradient(value, variables), tape.gradient(reconstructed, variables)
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, 0.3 * other, rtol=1e-4, atol=1e-7)
    assert len(loss.trainable_weights) == 18


def _parts(loss):
    return loss._paraphraser.encoder, loss._paraphraser.decoder


def test_fitting_lowers_the_reconstruction_error():
    keras.utils.set_random_seed(0)
    features = np.random.default_rng(0).uniform(size=(16, 4, 4, 1)).astype("float32") @ np.ones((1, 6), "float32")
    paraphraser = Paraphraser(rate=0.5)
    paraphraser.compile(keras.optimizers.Adam(0.01), loss="mean_absolute_error", jit_compile=False)
    history = paraphraser.fit(features, features, epochs=25, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    assert FactorTransfer(paraphraser=paraphraser).is_fitted


def model(width, name):
    inputs = keras.Input((4, 4, 1))
    maps = keras.layers.Conv2D(width, 3, activation="relu", padding="same", name="maps")(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(maps))
    return keras.Model(inputs, outputs, name=name)


@pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
def test_a_fixed_paraphraser_is_saved_with_the_distiller_and_not_trained(tmp_path):
    loss = FactorTransfer(paraphraser=fitted(), teacher="maps", student="maps")
    teacher = model(4, "teacher")
    teacher.save(tmp_path / "teacher.keras")
    distiller = kd.Distiller(
        str(tmp_path / "teacher.keras"), model(2, "student"), losses=[kd.losses.Weighted(loss, 500.0)]
    )
    distiller.compile(
        keras.optimizers.SGD(0.1, weight_decay=0.1), loss=keras.losses.SparseCategoricalCrossentropy(True)
    )
    x, y = np.random.default_rng(0).normal(size=(6, 4, 4, 1)).astype("float32"), np.arange(6) % 3
    before = [np.asarray(weight) for weight in loss.non_trainable_weights]
    distiller.fit(x, y, epochs=2, batch_size=3, verbose=0)
    for old, weight in zip(before, loss.non_trainable_weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(weight))
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    logs = [one.train_on_batch(x, y, return_dict=True) for one in (distiller, again)]
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        assert logs[1][name] == pytest.approx(value, rel=1e-5) and np.isfinite(value), name


def test_config_round_trip():
    loss = FactorTransfer(teacher="a", student="b", rate=0.75, power=2, reconstruction_weight=0.0)
    again = deserialize(serialize(loss))
    assert (again.name, again.rate, again.power, again.is_fitted) == ("factor_transfer_b", 0.75, 2, False)
    assert serialize(again) == serialize(loss)


def test_a_fixed_paraphraser_without_its_weights_gives_nan():
    teacher, student = (x.astype("float32") for x in pair(TEACHER, STUDENT))
    loss = FactorTransfer(paraphraser=fitted(rate=0.75))
    value = float(loss(teacher, student))
    again = deserialize(serialize(loss))
    assert (again.is_fitted, again.rate) == (True, 0.75)
    assert np.isnan(float(again(teacher, student)))
    again.set_weights(loss.get_weights())
    assert float(again(teacher, student)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "rate"),
        ({"power": 3}, "power"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight"),
        ({"paraphraser": Paraphraser()}, "without weights.*fit"),
        ({"paraphraser": keras.layers.Conv2D(2, 3)}, "a Conv2D.*keras_kd.losses.Paraphraser"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        FactorTransfer(**settings)


def test_a_paraphraser_of_other_features_is_refused():
    with pytest.raises(ConfigurationError, match="contradicts.*0.5"):
        FactorTransfer(paraphraser=fitted(), rate=0.25)
    with pytest.raises(ConfigurationError, match="fitted to other features.*5 channels.*4 channels"):
        FactorTransfer(paraphraser=fitted()).build((None, 3, 3, 5), (None, 3, 3, 3))
    with pytest.raises(ConfigurationError, match="no channels.*at least 0.25"):
        FactorTransfer(rate=0.1).build((None, 3, 3, 4), (None, 3, 3, 4))
    with pytest.raises(ConfigurationError, match="compares feature maps"):
        FactorTransfer().build((None, 4), (None, 4))


def test_a_mask_is_refused():
    teacher, student = (x.astype("float32") for x in pair(TEACHER, STUDENT))
    student = tf.convert_to_tensor(student)
    student._keras_mask = tf.ones((3, 3, 2), "bool")
    with pytest.raises(ConfigurationError, match="padding.*3x3 convolutions"):
        FactorTransfer()(teacher, student)
