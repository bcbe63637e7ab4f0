"""Models trained for other classes in a recipe: a new head, and layers that are unfrozen in turn."""

import shutil

import keras
import numpy as np
import pytest

from keras_kd.errors import RecipeError
from keras_kd.evaluation.roles import Role

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::keras_kd.errors.Notice")
NEW_HEAD = "student.replace_head=true"
GRADUAL = "student.unfreeze={0: middle, 1: null}"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network for three classes of digits."""
    keras.utils.set_random_seed(5)
    body = [layers.Flatten(), layers.Dense(12, "relu", name="low"), layers.BatchNormalization(name="middle")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *body, layers.Dense(3, name="head")])
    path = tmp_path_factory.mktemp("transfer") / "three.keras"
    model.save(path)
    return path


def low(path):
    return keras.models.load_model(path).get_layer("low").get_weights()[0]


@pytest.mark.usefixtures("eager")
def test_the_frozen_layers_keep_their_weights_until_their_epoch(start_recipe, file, tmp_path):
    student = (f"student.model={file}", NEW_HEAD, "student.epochs=2")
    kept = start_recipe(tmp_path / "kept", *student, "student.unfreeze={0: middle}")
    kept.run(Role.TEACHER, Role.SCRATCH, Role.DISTILLED)
    shutil.copytree(tmp_path / "kept", tmp_path / "freed")
    freed = start_recipe(tmp_path / "freed", *student, GRADUAL)
    freed.run(Role.TEACHER, Role.SCRATCH, Role.DISTILLED)
    assert "student.keras" in freed.said() and "trained again" in freed.said()
    for name in ("student.keras", ".state/scratch.keras"):
        np.testing.assert_array_equal(low(tmp_path / "kept" / name), low(file))
        assert np.abs(low(tmp_path / "freed" / name) - low(file)).max() > 1e-4
        assert keras.models.load_model(tmp_path / "freed" / name).output_shape == (None, 10)
    assert keras.models.load_model(file).output_shape == (None, 3)


@pytest.mark.usefixtures("eager")
def test_a_teacher_is_adapted_to_the_data(start_recipe, file, tmp_path):
    started = start_recipe(tmp_path / "run", f"teacher.model={file}", "teacher.replace_head=true", "teacher.epochs=2")
    artifacts = started.run(Role.TEACHER)
    assert len(artifacts["teacher"].record["history"]["loss"]) == 2
    teacher = keras.models.load_model(tmp_path / "run" / "teacher.keras")
    assert (
        teacher.output_shape == (None, 10)
        and np.abs(teacher.get_layer("low").get_weights()[0] - low(file)).max() > 1e-4
    )


def test_an_interrupted_training_resumes_with_the_same_layers(assert_resumes, file):
    unfreeze = "student.unfreeze={0: middle, 1: low, 2: null}"
    settings = (f"student.model={file}", NEW_HEAD, unfreeze, "student.epochs=3", "teacher.epochs=1")
    assert_resumes("distilled", "student.keras", *settings)


@pytest.mark.usefixtures("eager")
def test_a_peer_keeps_its_own_head(start_recipe, file, tmp_path):
    other = keras.models.load_model(file)
    outputs = layers.Dense(10, name="own")(other.outputs[0])
    keras.Model(other.inputs, outputs).save(peer := tmp_path / "peer.keras")
    settings = (f"student.model={file}", NEW_HEAD, f"distillation={{method: mutual, peers: ['{peer}']}}")
    models = start_recipe(tmp_path / "run", *settings).context.checked.models
    heads = [
        model.get_layer("own").get_weights() for model in (models["peer_2"].build(), keras.models.load_model(peer))
    ]
    np.testing.assert_array_equal(*(kernel for kernel, _ in heads))
    assert models["student"].build().output_shape == (None, 10)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([NEW_HEAD], "student.replace_head: .*a .keras file as the model"),
        (
            ["student.model={file}", NEW_HEAD, "student.epochs=null", "compress=[{name: pruning, epochs: 1}]"],
            "a number of epochs",
        ),
        (
            ["teacher.model={file}", "teacher.replace_head=true", "teacher.epochs=null"],
            "teacher.epochs: this key is missing",
        ),
        (["student.unfreeze={1: null}"], "student.unfreeze: .*from 0 on"),
        (["student.unfreeze={0: null}"], "student.unfreeze: .*from 0 on"),
        (["student.unfreeze={}"], "student.unfreeze: .*from 0 on"),
        (["student.unfreeze=middle"], "student.unfreeze: .*'middle'.*the last frozen layer by epoch"),
        (["student.unfreeze={0: middle, x: null}"], "student.unfreeze: .*the last frozen layer by epoch"),
        (["student.unfreeze={0: middle, -1: null}"], "student.unfreeze: .*the last frozen layer by epoch"),
        (
            ["student.model={file}", NEW_HEAD, "student.unfreeze={0: middle, 2: null}"],
            "never be unfrozen.*epochs below 2",
        ),
        (["student.model={file}", NEW_HEAD, "student.unfreeze={0: midle}"], "student.unfreeze: .*midle"),
        (["student.model={file}", NEW_HEAD, "student.unfreeze={0: low, 1: middle}"], "student.unfreeze: .*not below"),
        (["student.model={file}"], r"student.model: .*\(None, 3\). Expected: shape \(None, 10\).*replace_head: true"),
        (
            ["student.unfreeze={0: dense}", "distillation={method: mutual, peers: 1}", "teacher=null"],
            "student.unfreeze: the layers of several peers",
        ),
        (
            ["student.unfreeze={0: dense}", "distillation={method: data_free, synthesizer: {name: dafl}}"],
            "student.unfreeze: all layers of the student learn from the images of a generator",
        ),
    ],
)
def test_refused(start_recipe, file, tmp_path, overrides, message):
    with pytest.raises(RecipeError, match=message):
        start_recipe(tmp_path / "run", *(one.replace("{file}", str(file)) for one in overrides))
    assert not (tmp_path / "run").exists()
