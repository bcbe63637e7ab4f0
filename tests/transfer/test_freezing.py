"""What `freeze` freezes, in plain, nested and shared graphs, and that training leaves it as it is."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError
from keras_kd.transfer import freeze

L = keras.layers


def plain():
    """Three blocks with batch normalization."""
    body = [keras.Input((6,))]
    for number in (1, 2, 3):
        body += [
            L.Dense(5, name=f"dense_{number}"),
            L.BatchNormalization(name=f"norm_{number}"),
            L.ReLU(name=f"block_{number}"),
        ]
    return keras.Sequential([*body, L.Dense(3, name="head")])


def nested():
    x = keras.Input((6,))
    y = L.Dense(5, name="b1")(x)
    trunk = keras.Model(x, L.Dense(5, name="b3")(L.BatchNormalization(name="b2")(y)), name="trunk")
    x, z = keras.Input((6,)), keras.Input((6,))
    joined = L.Add()([trunk(L.Dense(6, name="stem")(x)), L.Dense(5, name="side")(z)])
    return keras.Model([x, z], L.Dense(3, name="head")(joined))


def compiled(model, optimizer="sgd", **settings):
    jit = keras.backend.backend() == "jax" and not settings.get("run_eagerly")
    model.compile(optimizer, loss="mse", jit_compile=jit, **settings)
    return model


def data(model, num=24):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(1, 2, size=(num, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]
    return inputs if len(inputs) > 1 else inputs[0], rng.normal(size=(num, 3)).astype("float32")


def weights(model):
    return {weight.path: np.array(weight) for weight in model.weights}


def changed(model, before):
    """The layers of which a weight or statistic changed."""
    now = weights(model)
    return {path.split("/")[-2] for path in now if not np.array_equal(now[path], before[path])}


@pytest.mark.parametrize(
    ("make", "until", "trained"),
    [
        (plain, "block_1", {"dense_2", "norm_2", "dense_3", "norm_3", "head"}),
        (plain, "norm_2", {"dense_3", "norm_3", "head"}),
        (plain, "dense_2", {"norm_2", "dense_3", "norm_3", "head"}),
        (nested, "trunk/b1", {"b2", "b3", "side", "head"}),
        (nested, "trunk/b2", {"b3", "side", "head"}),
        (nested, "trunk", {"side", "head"}),
        (nested, "stem", {"b1", "b2", "b3", "side", "head"}),
    ],
)
def test_training_changes_the_rest_alone(make, until, trained):
    """Batch normalization above the boundary updates its statistics, below it does not."""
    model = make()
    report = freeze(model, until=until)
    assert {layer.path.split("/")[-1] for layer in report.layers if not layer.is_frozen} == trained
    before = weights(model)
    compiled(model, run_eagerly=True).fit(*data(model), epochs=2, verbose=0)
    assert changed(model, before) == trained
    sizes = {True: 0, False: 0}
    for layer in report.layers:
        sizes[layer.is_frozen] += layer.num_trained if not layer.is_frozen else layer.num_parameters
    assert (report.num_frozen, report.num_trained) == (sizes[True], sizes[False])
    assert report.num_trained == sum(np.array(weight).size for weight in model.trainable_weights)


def test_frozen_batch_normalization_infers_in_training_mode():
    model = plain()
    model.get_layer("norm_1").set_weights([np.full(5, value, "float32") for value in (2.0, 1.0, 0.5, 4.0)])
    freeze(model, until="block_1")
    x, _ = data(model)
    inner = keras.Model(model.inputs[0], model.get_layer("norm_1").output)
    z = np.asarray(x, "float64") @ np.array(model.get_layer("dense_1").kernel, "float64")
    expected = (z - 0.5) / np.sqrt(4.0 + 1e-3) * 2.0 + 1.0
    np.testing.assert_allclose(inner(x, training=True), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [plain, nested])
def test_the_flags_survive_a_file(make, tmp_path):
    model = make()
    freeze(model, until="block_2" if make is plain else "trunk/b2")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    names = [[weight.path.split("/")[-2:] for weight in one.trainable_weights] for one in (model, loaded)]
    assert names[0] == names[1]
    before = weights(loaded)
    compiled(loaded, run_eagerly=True).fit(*data(loaded), verbose=0)
    assert changed(loaded, before) == ({"dense_3", "norm_3", "head"} if make is plain else {"b3", "side", "head"})


def test_a_shared_layer_is_frozen_everywhere_and_reported():
    shared = L.Dense(6, name="shared")
    x = keras.Input((6,))
    late = L.Dense(6, name="late")(L.Dense(6, name="middle")(shared(x)))
    model = keras.Model(x, L.Dense(3, name="head")(shared(late)))
    report = freeze(model, until="middle")
    assert [(layer.path, layer.is_frozen, layer.is_shared) for layer in report.layers] == [
        ("shared", True, True),
        ("middle", True, False),
        ("late", False, False),
        ("head", False, False),
    ]
    assert "shared  Dense          42        0  runs outside the frozen part as well" in str(report)
    assert str(report).endswith("84 values are frozen, 63 are trained.")


def test_freezing_twice_adds_up():
    model = plain()
    freeze(model, until="block_2")
    assert freeze(model, until="block_1").frozen == ("dense_1", "norm_1", "dense_2", "norm_2")


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(3)

    def call(self, x):
        return self.dense(x)


def wrapped():
    x = keras.Input((4, 6))
    return keras.Model(x, L.Dense(3)(L.TimeDistributed(L.Dense(5, name="inner"), name="around")(x)))


@pytest.mark.parametrize(
    ("make", "until", "message"),
    [
        (plain, "blok_1", "no output or layer with this path.*'blok_1'.*Did you mean 'block_1'"),
        (nested, "b2", "Did you mean 'trunk/b2'"),
        (plain, "head", "leave nothing to train"),
        (plain, "block_1:input", "not a layer in the graph"),
        (plain, "block_1#0", "not a layer in the graph"),
        (wrapped, "around/inner", "lies inside 'around', which is frozen as a whole"),
        (
            lambda: keras.Sequential([keras.Input((2,)), L.Rescaling(2.0, name="scale"), L.Dense(1)]),
            "scale",
            "nothing to freeze",
        ),
        (Own, "dense", "cannot be read as a graph"),
        (lambda: "model", "dense", "Not a model"),
    ],
)
def test_what_is_refused_changes_nothing(make, until, message):
    model = make()
    with pytest.raises(ConfigurationError, match=message):
        freeze(model, until=until)
    assert all(layer.trainable for layer in getattr(model, "layers", []))


def test_nothing_to_train_if_the_rest_was_frozen_before():
    model = plain()
    for name in ("dense_3", "norm_3", "head"):
        model.get_layer(name).trainable = False
    with pytest.raises(ConfigurationError, match="leave nothing to train"):
        freeze(model, until="block_2")
    assert model.get_layer("dense_1").trainable


# After a training: a compiled step keeps training what it was made with, unless it is made again.


def test_a_model_that_was_trained_before():
    model = compiled(plain(), "adam")
    model.fit(*data(model), verbose=0)
    freeze(model, until="block_2")
    before = weights(model)
    model.fit(*data(model), verbose=0)
    assert changed(model, before) == {"dense_3", "norm_3", "head"}


def test_frozen_statistics_without_trainable_weights():
    """Only a flag changes, no variable."""
    body = [keras.Input((6,)), L.BatchNormalization(center=False, scale=False, name="norm"), L.Dense(3, name="head")]
    model = compiled(keras.Sequential(body))
    model.fit(*data(model), verbose=0)
    freeze(model, until="norm")
    before = weights(model)
    model.fit(*data(model), verbose=0)
    assert changed(model, before) == {"head"}


@pytest.mark.parametrize("given", ["student", "distiller"])
@pytest.mark.parametrize("after_a_fit", [False, True])
def test_a_distiller_that_was_compiled_before(given, after_a_fit):
    student = plain()
    distiller = compiled(kd.Distiller(plain(), student, alpha=0.5), "adam")
    if after_a_fit:
        distiller.fit(*data(student), verbose=0)
    report = freeze(student if given == "student" else distiller, until="block_2")
    assert report.frozen == ("dense_1", "norm_1", "dense_2", "norm_2")
    before = weights(student)
    distiller.fit(*data(student), verbose=0)
    assert changed(student, before) == {"dense_3", "norm_3", "head"}
