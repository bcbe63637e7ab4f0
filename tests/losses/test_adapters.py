import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.losses import Context, SoftTargets, Weighted, get, soft_targets
from keras_kd.serialization import deserialize, serialize

layers = keras.layers


def test_a_function_with_a_value_per_example_is_weighted_and_reduced():
    loss = get(lambda teacher, student: keras.ops.sum(teacher - student, -1))
    value = loss(np.float32([[3, 0], [1, 0]]), np.zeros((2, 2), "float32"), sample_weight=np.float32([1, 0]))
    assert float(value) == pytest.approx(1.5)


def test_a_scalar_from_a_function_is_used_unchanged():
    loss = get(lambda teacher, student: keras.ops.mean(teacher - student))
    assert float(loss(np.ones((2, 3), "float32"), np.zeros((2, 3), "float32"))) == pytest.approx(1.0)


def test_keras_logits_distillation_with_a_kl_divergence_equals_soft_targets():
    theirs = get(keras.distillation.LogitsDistillation(temperature=3.0, loss=keras.losses.KLDivergence()))
    ours = SoftTargets(temperature=3.0)
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 5, 10)).astype("float32")
    assert float(theirs(teacher, student)) == pytest.approx(float(ours(teacher, student)), rel=1e-3)
    assert theirs.name == "logits_distillation"


def test_keras_feature_losses_read_inner_layers(digits):
    def model():
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(6, name="a"), layers.Dense(10)])

    teacher, student = model(), model()
    feature = keras.distillation.FeatureDistillation(teacher_layer_name="a", student_layer_name="a")
    distiller = kd.Distiller(teacher, student, losses=[feature])
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits[0][:8], digits[1][:8]
    inner = [keras.Model(m.inputs[0], m.get_layer("a").output)(x).numpy() for m in (teacher, student)]
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert logs["feature_distillation"] == pytest.approx(np.mean((inner[0] - inner[1]) ** 2), rel=1e-5)


def test_a_weight_can_be_changed():
    loss = Weighted(SoftTargets(temperature=2.0), 1.0)
    teacher, student = np.float32([[2, 0]]), np.float32([[0, 2]])
    before = float(loss(teacher, student))
    loss.weight = 0.5
    assert float(loss(teacher, student)) == pytest.approx(before / 2)


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigurationError, match="weight.*-1"):
        Weighted(SoftTargets(), -1)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("soft_target", "Unknown loss.*Did you mean 'soft_targets'"),
        ({"name": "soft_targets", "heat": 3}, "does not take these settings.*heat"),
        (7, "Unsupported loss"),
    ],
)
def test_invalid_identifiers_are_refused(identifier, message):
    with pytest.raises(ConfigurationError, match=message):
        get(identifier)


def test_masked_positions_are_excluded():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 2, 3, 5)).astype("float32")
    mask = np.array([[True, True, False], [True, False, False]])
    masked = keras.ops.convert_to_tensor(student)
    masked._keras_mask = keras.ops.convert_to_tensor(mask)
    value = SoftTargets(temperature=2.0)(teacher, masked)
    each = np.asarray(soft_targets(teacher, student, 2.0), "float64")
    assert float(value) == pytest.approx(((each[0, 0] + each[0, 1]) / 2 + each[1, 0]) / 2, rel=1e-5)


def test_a_loss_without_a_temperature_uses_the_context():
    teacher, student = np.float32([[2, 0]]), np.float32([[0, 2]])
    with_context = SoftTargets()(teacher, student, context=Context(temperature=2.0))
    assert float(with_context) == pytest.approx(float(SoftTargets(temperature=2.0)(teacher, student)))


L = keras.losses
TAKE_PROBABILITIES = {
    "an object": lambda: L.KLDivergence(),
    "a function": lambda: L.kl_divergence,
    "a name": lambda: "kl_divergence",
    "a mapping": lambda: {"name": "kl_divergence", "weight": 2.0},
    "from logits": lambda: L.CategoricalCrossentropy(from_logits=True),
    "of independent labels": lambda: L.BinaryCrossentropy(from_logits=True),
    "of classes": lambda: L.SparseCategoricalCrossentropy(from_logits=True),
    "with settings": lambda: functools.partial(L.categorical_crossentropy, from_logits=True),
    "of keras.ops": lambda: keras.ops.categorical_crossentropy,
    "of TensorFlow": lambda: tf.nn.softmax_cross_entropy_with_logits,
    "poisson": lambda: L.Poisson(),
    "of logarithms": lambda: L.MeanSquaredLogarithmicError(),
    "hinge": lambda: L.Hinge(),
    "of overlaps": lambda: L.Dice(),
    "Keras' default": lambda: keras.distillation.LogitsDistillation(),
    "in Keras' own": lambda: keras.distillation.LogitsDistillation(loss=L.CategoricalCrossentropy(from_logits=True)),
    "on outputs": lambda: keras.distillation.FeatureDistillation(loss="kl_divergence"),
}


@pytest.mark.parametrize("make", TAKE_PROBABILITIES.values(), ids=TAKE_PROBABILITIES)
def test_a_loss_that_does_not_take_logits_is_refused_with_an_alternative(make):
    with pytest.raises(
        ConfigurationError, match=r"This loss takes .*Received: .*(SoftTargets\(|a function of your own)"
    ):
        get(make())


def test_the_alternative_to_a_divergence_is_that_of_the_probabilities():
    rng = np.random.default_rng(0)
    teacher, student = (3 * rng.normal(size=(2, 5, 10))).astype("float32")
    ours = float(SoftTargets(temperature=1.0)(teacher, student))
    theirs = float(L.KLDivergence()(keras.ops.softmax(teacher), keras.ops.softmax(student)))
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_a_custom_loss_class_is_accepted():
    class OnProbabilities(L.KLDivergence):
        def call(self, y_true, y_pred):
            return super().call(keras.ops.softmax(y_true), keras.ops.softmax(y_pred))

    assert float(get(OnProbabilities())(np.float32([[1, 0]]), np.float32([[1, 0]]))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("mse", r"Keras loss.*keras.losses.get\('mse'\)"),
        (L.MeanSquaredError, r"not its class.*MeanSquaredError\(...\)"),
        (L.MeanSquaredError(reduction="none"), "does not reduce.*'none'"),
    ],
)
def test_keras_losses_in_other_forms_are_refused(identifier, message):
    with pytest.raises(ConfigurationError, match=message):
        get(identifier)


def test_weights_reach_keras_losses():
    teacher, student = np.float32([[3, 0], [1, 0]]), np.zeros((2, 2), "float32")
    loss = get(L.MeanSquaredError())
    assert loss.name == "mean_squared_error"
    assert float(loss(teacher, student, sample_weight=np.float32([0, 0]))) == 0.0
    assert float(loss(teacher, student, sample_weight=np.float32([0, 1]))) == pytest.approx(0.25)
    summed = get(L.MeanSquaredError(reduction="sum"))
    assert float(summed(teacher, student)) == pytest.approx(4.5 + 0.5)


def test_settings_missing_from_the_keras_config_are_saved():
    loss = deserialize(serialize(get(L.Huber(delta=3.0))))
    assert float(loss(np.float32([[0.0]]), np.float32([[2.0]]))) == pytest.approx(2.0)  # 1.5 with the default delta


def test_outputs_of_different_shapes_are_not_broadcast():
    wide, narrow = (keras.Sequential([keras.Input((4,)), layers.Dense(width)]) for width in (10, 1))
    for loss in (L.MeanSquaredError(), L.mean_squared_error):
        with pytest.raises(ConfigurationError, match=r"different shapes.*\(None, 10\).*\(None, 1\)"):
            kd.Distiller(wide, narrow, losses=[loss])


@pytest.mark.parametrize("batch", [32, None])
def test_a_loss_without_the_batch_axis_is_refused(batch):
    loss = get(lambda teacher, student: keras.ops.mean(keras.ops.square(teacher - student), axis=0))
    x = np.ones((32, 7), "float32")

    @tf.function(input_signature=[tf.TensorSpec((batch, 7))], autograph=False)
    def value(student):
        return loss(x, student)

    with pytest.raises(
        ConfigurationError, match=rf"a value per example.*shape \(7,\).*\({batch}, 7\).*Expected: \({batch},\)"
    ):
        value(x)


@pytest.mark.parametrize("settings", [{"sample_weight": np.ones(2, "float32")}, {"mask": np.ones((2, 3), bool)}])
def test_a_scalar_is_refused_under_weights_or_a_mask(settings):
    loss = get(lambda teacher, student: keras.ops.mean(teacher - student))
    student = tf.zeros((2, 3))
    if "mask" in settings:
        student._keras_mask = tf.constant(settings.pop("mask"))
    with pytest.raises(ConfigurationError, match=r"a scalar for the batch.*\[batch\]"):
        loss(np.ones((2, 3), "float32"), student, **settings)


def test_a_value_per_example_is_refused_under_a_mask():
    student = tf.zeros((2, 3, 5))
    student._keras_mask = tf.ones((2, 3), "bool")
    with pytest.raises(ConfigurationError, match="would include padding.*excludes_padding"):
        get(lambda teacher, student: keras.ops.mean(teacher - student, axis=(1, 2)))(tf.ones((2, 3, 5)), student)


def test_weights_reach_keras_distillation_losses():
    teacher, student = np.float32([[2, 0], [9, 1]]), np.float32([[0, 2], [0, 3]])
    weight = np.float32([1, 0])
    theirs = keras.distillation.LogitsDistillation(temperature=2.0, loss=L.KLDivergence())
    expected = float(SoftTargets(temperature=2.0)(teacher, student, sample_weight=weight))
    assert float(get(theirs)(teacher, student, sample_weight=weight)) == pytest.approx(expected, rel=1e-4)
