"""Faster teacher inference, in another precision, folded or in micro-batches: same outputs, same tap paths."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_kd as kd
from keras_kd.errors import ConfigurationError, Notice, TeacherError
from keras_kd.losses import Hint, SoftTargets, Weighted
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher, Batch, FrozenTeacher, fingerprint
from keras_kd.teachers.micro_batches import in_micro_batches

L = keras.layers
# As stated by FrozenTeacher; measurements of several teachers are in docs/benchmarks.md.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1}  # largest difference, in standard deviations of the logits
ROOT_MEAN_SQUARE = {"float32": 2e-6, "bfloat16": 0.02}  # in the same unit
AGREEMENT = {"float32": 1.0, "bfloat16": 0.97}


@pytest.fixture(scope="module")
def trained(digits):
    """A nested model after a short training, so that its statistics and logits are realistic."""
    keras.utils.set_random_seed(0)

    def norm_relu(x, norm, relu):
        return L.ReLU(name=relu)(L.BatchNormalization(momentum=0.9, name=norm)(x))

    x = keras.Input((8, 8, 1), name="image")
    y = norm_relu(L.Conv2D(8, 3, padding="same", name="conv")(x), "norm", "relu")
    z = L.Conv2D(8, 3, padding="same", name="conv2", use_bias=False)(y)
    z = L.BatchNormalization(momentum=0.9, name="norm2")(z)
    body = keras.Model(x, L.Add(name="sum")([y, z]), name="body")
    x = keras.Input((8, 8, 1), name="image")
    y = norm_relu(body(x), "norm", "last")
    logits = L.Dense(10, name="logits")(L.GlobalMaxPooling2D(name="pool")(y))
    model = keras.Model(x, L.Softmax(name="softmax")(logits), name="trained")
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(digits[0][:1792], digits[1][:1792], batch_size=64, epochs=4, verbose=0)
    return model


def run_teacher(teacher, x, taps=(), *, jit=None):
    """Teacher outputs and taps by name, run eagerly or traced with an unknown batch size as in `fit`."""

    def run(x):
        return teacher(Batch(x), taps)

    if jit is not None:
        run = tf.function(run, jit_compile=jit, input_signature=[tf.TensorSpec((None, *x.shape[1:]))])
    outputs, inner = run(tf.constant(x))
    return {name: np.asarray(value) for name, value in (outputs | inner).items()}


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_within_the_documented_tolerance(trained, digits, dtype, fold):
    x = digits[0][:1000]
    expected = run_teacher(FrozenTeacher(trained), x)["output"]
    teacher = FrozenTeacher(trained, dtype=dtype, fold=fold)
    logits = run_teacher(teacher, x)["output"]
    assert str(teacher.folded) == f"{2 if fold else 0} of 3 batch normalizations"
    assert logits.dtype == "float32"
    assert np.max(np.abs(logits - expected)) <= TOLERANCE[dtype] * np.std(expected)
    assert np.sqrt(np.mean((logits - expected) ** 2)) <= ROOT_MEAN_SQUARE[dtype] * np.std(expected)
    assert np.mean(logits.argmax(-1) == expected.argmax(-1)) >= AGREEMENT[dtype]
    assert teacher.activations == {"output": "softmax"} and teacher.output_shapes == {"output": (None, 10)}


def test_bfloat16_copies_compute_all_but_the_head_in_bfloat16(trained):
    (copy,) = FrozenTeacher(trained, dtype="bfloat16")._copies._made.values()
    kinds = {layer.name: layer.dtype_policy.name for layer in copy.model._flatten_layers(include_self=False)}
    assert kinds["conv"] == kinds["conv2"] == kinds["last"] == "bfloat16"
    assert kinds["norm"] == "mixed_bfloat16" and kinds["logits"] == kinds["softmax"] == "float32"
    assert {layer.dtype_policy.name for layer in trained._flatten_layers()} == {"float32"}


def test_a_mixed_model_in_full_precision(digits):
    """The float32 copy of a model that computes in bfloat16 uses the model's float32 weights."""
    settings = {"dtype": "mixed_bfloat16"}
    body = [keras.Input((8, 8, 1)), L.Conv2D(4, 3, **settings), L.BatchNormalization(**settings), L.Flatten(**settings)]
    mixed = keras.Sequential([*body, L.Dense(10, **settings)])
    body = [keras.Input((8, 8, 1)), L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten()]
    full = keras.Sequential([*body, L.Dense(10)])
    full.set_weights(mixed.get_weights())
    x = digits[0][:20]
    logits = run_teacher(FrozenTeacher(mixed, dtype="float32"), x)["output"]
    np.testing.assert_allclose(logits, full(x), atol=1e-5)


PATHS = ("conv", "norm", "relu", "conv2", "norm2", "sum")
TAPS = [
    *(f"body/{name}" for name in PATHS),
    *(f"body/{name}:input" for name in PATHS if name != "sum"),
    *("body/conv:preactivation", "body/conv2:preactivation", "body", "norm", "last", "last:input", "pool", "logits"),
]


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("are_prepared", [True, False])
def test_every_tap_equals_the_models(trained, digits, are_prepared, batch_size):
    """Whether folding skipped that layer, was prevented there, or the model itself must run."""
    x = digits[0][:7]
    teacher = FrozenTeacher(trained, dtype="float32", batch_size=batch_size)
    for path in TAPS:
        if are_prepared:
            teacher.inner_taps([path, "output"])
        expected = run_teacher(FrozenTeacher(trained), x, [path])
        found = run_teacher(teacher, x, [path])
        assert set(found) == {path, "output"}
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-5, err_msg=f"{name} with {path}")
    assert len(teacher._copies._made) == (3 if are_prepared else 1)  # with nothing, conv, or conv2 unfolded


def test_only_tapped_layers_stay_unfolded(trained):
    teacher = FrozenTeacher(trained, dtype="float32")
    taps = ("body/conv", "body/sum")
    assert teacher.inner_taps([*taps, "output"]) == dict.fromkeys(taps, (None, 8, 8, 8))
    model, _, places = teacher._running(teacher._places(taps))
    assert model is not trained and [place.operation.name for place in places] == ["conv", "sum"]
    kinds = [type(layer).__name__ for layer in model.get_layer("body").layers]
    assert kinds.count("BatchNormalization") == 1
    model, _, _ = teacher._running(teacher._places(["body/conv2"]))  # this tap was not requested before
    assert model is trained


def test_taps_in_bfloat16_are_float32_and_close(trained, digits):
    teacher = FrozenTeacher(trained, dtype="bfloat16")
    expected = run_teacher(FrozenTeacher(trained), digits[0][:50], ["body/sum"])["body/sum"]
    found = run_teacher(teacher, digits[0][:50], ["body/sum"])["body/sum"]
    assert found.dtype == "float32"
    assert 0 < np.max(np.abs(found - expected)) < 0.1 * np.std(expected)


@pytest.mark.parametrize(("batch_size", "jit"), [(1, None), (4, None), (64, None), (4, False), (64, False), (4, True)])
def test_micro_batches_give_the_same_outputs(trained, digits, batch_size, jit):
    x = digits[0][:11]
    expected = run_teacher(FrozenTeacher(trained), x, ["body/sum"])
    found = run_teacher(FrozenTeacher(trained, batch_size=batch_size), x, ["body/sum"], jit=jit)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "size", "length"), [(10, 4, 4), (9, 4, 3), (8, 4, 4), (5, 4, 3), (4, 4, 4), (2, 9, 2)]
)
def test_no_micro_batch_exceeds_the_batch_size(batch, size, length):
    """All pieces have the same length; several inputs are split alike."""
    seen = []

    def function(x):
        seen.append(x["a"].shape[0])
        return {"sum": x["a"] + x["b"][:, 0]}

    a = np.arange(batch, dtype="float32")
    total = in_micro_batches(function, {"a": tf.constant(a), "b": tf.constant(np.stack([10 * a, a], axis=1))}, size)[
        "sum"
    ]
    np.testing.assert_array_equal(total, 11 * a)
    assert set(seen) - {1} == {length} and len(seen) <= 1 + -(-batch // size)


@pytest.mark.parametrize(
    ("settings", "jit_compile"),
    [({"dtype": "float32"}, False), ({"dtype": "bfloat16", "batch_size": 24}, True)],
)
def test_a_student_learns_from_it(trained, digits, make_model, settings, jit_compile):
    """With an inner layer that folding would have changed, and a smaller last batch."""
    student = make_model(8)
    losses = [SoftTargets(temperature=2.0), Weighted(Hint(teacher="body/conv", student=student.layers[0].name), 0.1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # about the chosen projector, and about the teacher's final softmax
        distiller = kd.Distiller(FrozenTeacher(trained, **settings), student, alpha=0.9, losses=losses)
    distiller.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    before = trained.get_weights()
    history = distiller.fit(digits[0][:200], epochs=6, batch_size=120, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    for one, other in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_step_has_the_same_loss_as_the_model_itself(trained, digits, make_model):
    losses = {}
    student = make_model(8)
    weights = student.get_weights()
    for name, settings in {"plain": {}, "fast": {"dtype": "float32", "batch_size": 3}}.items():
        student.set_weights(weights)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            distiller = kd.Distiller(FrozenTeacher(trained, **settings), student, alpha=1.0)
        distiller.compile(keras.optimizers.SGD(0.0))
        losses[name] = distiller.fit(digits[0][:20], batch_size=20, verbose=0).history["loss"][0]
    assert losses["fast"] == pytest.approx(losses["plain"], rel=1e-5)


def test_settings_survive_a_config_round_trip(trained, tmp_path):
    trained.save(tmp_path / "t.keras")
    teacher = FrozenTeacher(tmp_path / "t.keras", dtype="bfloat16", fold=False, batch_size=7)
    again = deserialize(serialize(teacher))
    assert serialize(again) == serialize(teacher)
    assert (again.dtype, again.fold, again.batch_size) == ("bfloat16", False, 7)
    (tmp_path / "t.keras").unlink()
    absent = deserialize(serialize(teacher))
    assert isinstance(absent, AbsentTeacher) and serialize(absent)["config"] == serialize(teacher)["config"]
    with pytest.raises(TeacherError, match=r"distiller.teacher = FrozenTeacher\(model, dtype='bfloat16'\)"):
        absent(Batch(np.zeros((1, 8, 8, 1))))


def test_a_config_without_these_settings_loads():
    config = {"path": None, "outputs": None, "fingerprint": "sha256:0"}
    assert FrozenTeacher.from_config(config).get_config() == config


def test_the_fingerprint_includes_the_precision(trained):
    plain = fingerprint(trained)
    assert FrozenTeacher(trained, batch_size=3).fingerprint == plain
    assert FrozenTeacher(trained, dtype="float32").fingerprint == f"{plain} float32"
    assert FrozenTeacher(trained, dtype="bfloat16", fold=False).fingerprint == f"{plain} bfloat16"
    FrozenTeacher(trained, dtype="bfloat16", expected_fingerprint=f"{plain} bfloat16")
    with pytest.raises(TeacherError, match="the precision differs: use FrozenTeacher.model, dtype='bfloat16'"):
        FrozenTeacher(trained, expected_fingerprint=f"{plain} bfloat16")
    with pytest.raises(TeacherError, match="the precision differs: use FrozenTeacher.model, dtype=None"):
        FrozenTeacher(trained, dtype="bfloat16", expected_fingerprint=plain)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.head = L.Flatten(), L.Dense(10)

    def call(self, x):
        return self.head(self.flat(x))


class OwnCall(keras.Sequential):
    def call(self, x, training=None, mask=None):
        return -super().call(x, training=training, mask=mask)


class NoConfig(L.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Subclassed, "a Subclassed is no graph"),
        (lambda: OwnCall([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10)]), "a OwnCall is no graph"),
        (lambda: keras.Sequential([keras.Input((8, 8, 1)), NoConfig(abs), L.Flatten(), L.Dense(10)]), "Error: "),
    ],
)
def test_models_that_cannot_be_rebuilt_run_unchanged(digits, make, reason):
    model, x = make(), digits[0][:5]
    model(x)
    with pytest.warns(Notice, match=f"runs as it is.*{reason}") as caught:
        teacher = FrozenTeacher(model, outputs="logits", dtype="bfloat16", batch_size=2)
    assert caught[0].filename == __file__
    assert teacher.folded is None and teacher.fingerprint == fingerprint(model)
    np.testing.assert_allclose(run_teacher(teacher, x)["output"], model(x), rtol=1e-5, atol=1e-6)


def test_state_outside_the_weights_is_kept():
    """The table of a lookup, and the constants that `Normalization` computes from its weights."""
    lookup, scale = L.IntegerLookup(output_mode="multi_hot"), L.Normalization()
    lookup.adapt(np.array([3, 5, 9]))
    scale.adapt(np.array([[0.0] * 4, [1.0] * 4, [5.0] * 4]))
    x = np.array([[3, 5, 0, 0], [9, 9, 5, 3]])
    for first in (lookup, scale):
        model = keras.Sequential([keras.Input((4,), dtype="int64"), first, L.Dense(10)])
        found = run_teacher(FrozenTeacher(model, dtype="float32"), x)["output"]
        np.testing.assert_allclose(found, model(x), rtol=1e-6)


def test_custom_functions_and_input_preprocessing(digits):
    """A Lambda is rebuilt without confirmation, and layers that scale the inputs keep their precision."""
    layers = [L.Normalization(mean=1000.0, variance=0.01), L.Lambda(lambda x: x * 2.0), L.Flatten(), L.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    x = digits[0][:50] + 1000.0
    expected = run_teacher(FrozenTeacher(model), x)["output"]
    found = run_teacher(FrozenTeacher(model, dtype="bfloat16"), x)["output"]
    assert np.max(np.abs(found - expected)) < TOLERANCE["bfloat16"] * np.std(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "'dtype'.*'int8'.*None, 'float32', 'bfloat16'"),
        ({"batch_size": 0}, "'batch_size'.*Received: 0.*1 <= batch_size"),
        ({"batch_size": 2.5}, "'batch_size'.*2.5"),
        ({"batch_size": True}, "'batch_size'.*True"),
    ],
)
def test_settings_out_of_range_are_rejected(make_model, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        FrozenTeacher(make_model(4), **settings)
