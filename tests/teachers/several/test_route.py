"""A route of checkpoints: which one runs when, without a retrace, resumed, saved, on both backends."""

import keras
import numpy as np
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, TeacherError
from keras_kd.losses import Hint
from keras_kd.serialization import deserialize, serialize
from keras_kd.teachers import AbsentTeacher, Batch, CachedTeacher, Ensemble, Route

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
Y = RNG.integers(0, 3, 24)
KERNELS = [RNG.normal(size=(4, 3)).astype("float32") for _ in range(3)]


def make_model(kernel=None, **settings):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False, name="dense", **settings)])
    if kernel is not None:
        model.set_weights([kernel])
    return model


def make_route(**settings):
    return Route([make_model(kernel) for kernel in KERNELS], **(settings or {"every_epochs": 2}))


def make_distiller(teacher, *, eager=False, **settings):
    distiller = kd.Distiller(teacher, make_model(np.zeros((4, 3), "float32")), alpha=1.0, temperature=1.0)
    distiller.compile(keras.optimizers.SGD(0.5), run_eagerly=eager, **settings)
    return distiller


def pipeline():
    return kd.data.Pipeline((X,), batch_size=8, seed=1)  # three steps an epoch


def softmax(z):
    powers = np.exp(z - z.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def expected(number_at, epochs):
    """The student's kernel after plain gradient descent on the cross-entropy to the selected checkpoint."""
    kernel, step = np.zeros((4, 3)), 0
    for epoch in range(epochs):
        for (x,) in pipeline().epoch(epoch):
            x = x.astype("float64")
            difference = softmax(x @ kernel) - softmax(x @ KERNELS[number_at(epoch, step)])
            kernel -= 0.5 * x.T @ difference / len(x)
            step += 1
    return kernel


BY_STEP = (lambda epoch, step: int(step >= 4) + int(step >= 10), {"boundaries": [4, 10]})
BY_EPOCH = (lambda epoch, step: min(epoch // 2, 2), {"every_epochs": 2})


@pytest.mark.parametrize(("number_at", "settings"), [BY_STEP, BY_EPOCH], ids=["steps", "epochs"])
def test_the_student_follows_the_route(number_at, settings):
    """4 and 10 are inside of epochs."""
    route = make_route(**settings)
    distiller = make_distiller(route)
    traces = []
    original = distiller.teach
    distiller.teach = lambda batch: traces.append(1) or original(batch)
    distiller.fit(pipeline(), epochs=5, verbose=0)
    np.testing.assert_allclose(distiller.student.get_weights()[0], expected(number_at, 5), rtol=1e-4, atol=1e-5)
    assert route.current == 2
    assert len(traces) == 1 if keras.backend.backend() == "tensorflow" else len(traces) <= 2


def trained():
    """The students' kernels and those expected; `tests/curricula/test_on_jax.py` runs this on JAX."""
    kernels = []
    for number_at, settings in (BY_STEP, BY_EPOCH):
        distiller = make_distiller(make_route(**settings))
        distiller.fit(pipeline(), epochs=5, verbose=0)
        kernels.append([distiller.student.get_weights()[0].tolist(), expected(number_at, 5).tolist()])
    return kernels


class Killed(BaseException):
    pass


class KillAt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise Killed


@pytest.mark.parametrize("settings", [BY_STEP[1], BY_EPOCH[1]], ids=["steps", "epochs"])
def test_a_resumed_training_continues_the_route(tmp_path, settings):
    def run(*callbacks):
        distiller = make_distiller(make_route(**settings))
        distiller.fit(pipeline(), epochs=5, verbose=0, callbacks=list(callbacks))
        return distiller.student.get_weights()[0]

    unbroken = run()
    with pytest.raises(Killed):
        run(KillAt(), kd.callbacks.Resume(tmp_path, every_seconds=0))
    np.testing.assert_array_equal(run(kd.callbacks.Resume(tmp_path, every_seconds=0)), unbroken)


def test_the_models_of_the_user_stay_as_they_are():
    models = [make_model(kernel) for kernel in KERNELS]
    route = Route(models, every_epochs=1)
    route.go_to(2)
    for model, kernel in zip(models, KERNELS, strict=True):
        np.testing.assert_array_equal(model.get_weights()[0], kernel)
    np.testing.assert_allclose(route(Batch(X)).outputs["output"], X @ KERNELS[2], rtol=1e-5, atol=1e-6)


def test_without_a_selection_it_refuses_to_run():
    """A custom loop would otherwise train on the first checkpoint alone."""
    distiller = make_distiller(make_route(), eager=True)
    with pytest.raises(TeacherError, match="go_to"):
        distiller.train_on_batch(X)
    distiller.teacher.go_to(1)
    distiller.train_on_batch(X)


def test_inside_of_an_ensemble():
    ensemble = Ensemble([make_route(every_epochs=1), make_model(KERNELS[0])])
    make_distiller(ensemble, eager=True).fit(pipeline(), epochs=2, verbose=0)
    assert ensemble.members[0].current == 1


def test_inner_layers_and_probabilities():
    route = Route([make_model(kernel, activation="softmax") for kernel in KERNELS], every_epochs=1)
    route.go_to(1)
    outputs, taps = route(Batch(X), ["dense"])
    np.testing.assert_allclose(outputs["output"], X @ KERNELS[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(taps["dense"], softmax(X @ KERNELS[1]), rtol=1e-4, atol=1e-6)
    assert route.activations == {"output": "softmax"} and route.output_shapes == {"output": (None, 3)}
    distiller = kd.Distiller(make_route(), make_model(), losses=Hint(teacher="dense", student="dense"))
    assert distiller.teacher.inner_taps(["dense"]) == {"dense": (None, 3)}


def test_saving(tmp_path):
    paths = [tmp_path / f"{number}.keras" for number in range(3)]
    for path, kernel in zip(paths, KERNELS, strict=True):
        make_model(kernel).save(path)
    route = Route(paths, boundaries=[4, 10], batch_size=5)
    again = deserialize(serialize(route))
    assert again.fingerprint == route.fingerprint and again.boundaries == (4, 10) and len(again) == 3
    assert Route(paths, boundaries=[4, 11]).fingerprint != route.fingerprint
    assert make_route(boundaries=[4, 10]).fingerprint == route.fingerprint
    config = serialize(route)
    make_model(KERNELS[0]).save(paths[2])
    with pytest.raises(TeacherError, match="unexpected fingerprint"):
        deserialize(config)
    paths[1].unlink()
    absent = deserialize(config)
    assert isinstance(absent, AbsentTeacher) and absent.fingerprint == route.fingerprint
    with pytest.raises(TeacherError, match=r"1\.keras"):
        absent(Batch(X))
    assert isinstance(deserialize(serialize(make_route())), AbsentTeacher)


def wider():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    ("checkpoints", "settings", "message"),
    [
        ([], {"every_epochs": 1}, "at least two"),
        ([KERNELS[0]], {"every_epochs": 1}, "at least two"),
        ("folder", {"every_epochs": 1}, "at least two"),
        ([None, None], {"every_epochs": 1}, "must be a model"),
        ([make_model(), wider()], {"every_epochs": 1}, "one architecture.*checkpoint 1"),
        ([make_model(), make_model(activation="relu")], {"every_epochs": 1, "outputs": "logits"}, "one architecture"),
        ([make_model(), make_model()], {}, "one of the two"),
        ([make_model(), make_model()], {"every_epochs": 1, "boundaries": [3]}, "one of the two"),
        ([make_model(), make_model()], {"every_epochs": 0}, "every_epochs"),
        ([make_model(), make_model()], {"boundaries": [3, 5]}, "1 increasing steps"),
        ([make_model(), make_model()], {"boundaries": [0]}, "boundaries"),
        ([make_model(), make_model()], {"boundaries": 5}, "boundaries"),
    ],
)
def test_refusals(checkpoints, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Route(checkpoints, **settings)


def test_a_missing_file(tmp_path):
    with pytest.raises(TeacherError, match="does not exist"):
        Route([tmp_path / "a.keras", tmp_path / "b.keras"], every_epochs=1)
    with pytest.raises(ConfigurationError, match="'number'"):
        make_route().go_to(3)


def test_cached_checkpoints_take_turns_by_hand(tmp_path):
    """One distiller, so the optimizer keeps its state; the result is that of the route."""
    caches = [
        CachedTeacher.build(make_model(kernel), pipeline(), tmp_path / str(n), dtype="float32", progress=False)
        for n, kernel in enumerate(KERNELS)
    ]
    distiller = make_distiller(caches[0], eager=True)
    for number, cached in enumerate(caches):
        distiller.teacher = cached
        first, end = 2 * number, 2 * number + 2
        data = pipeline().with_teacher(cached).from_epoch(first)
        distiller.fit(data, initial_epoch=first, epochs=end, verbose=0)
    np.testing.assert_allclose(distiller.student.get_weights()[0], expected(BY_EPOCH[0], 6), rtol=1e-4, atol=1e-5)
