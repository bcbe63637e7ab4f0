"""`.keras` files that were damaged or made to harm: each is refused with one message, or exported as what it is."""

import contextlib
import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_kd.errors import ConfigurationError, ExportError
from keras_kd.export import Converter, export_tflite
from keras_kd.model_files import load_file
from keras_kd.recipes import export_files, exporting
from keras_kd.recipes.models import identity

from .mutations import ELSEWHERE, mutated

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore")  # Keras warns about some mutations before it fails


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    keras.utils.set_random_seed(0)
    parts = [layers.Conv2D(2, 3, activation="relu"), layers.Flatten(), layers.Dense(3, activation="softmax")]
    path = tmp_path_factory.mktemp("original") / "net.keras"
    keras.Sequential([keras.Input((6, 6, 1), name="image"), *parts]).save(path)
    return path.read_bytes()


@pytest.fixture
def examine(original, tmp_path, monkeypatch):
    """Exports the mutation of a number and returns what it became: "exported" or "refused"; each model only once."""
    known, reference = {}, identity(_loaded(original, tmp_path))

    def once(model, path, **settings):
        key = identity(model)
        if key not in known:
            known[key] = settings.pop("isolated")(model, path, **settings)
        return known[key]

    def export(number, isolated):
        content, kind = mutated(original, number)
        folder = tmp_path / "out"
        path = tmp_path / "net.keras"
        path.write_bytes(content)
        monkeypatch.setattr(
            exporting, "export_tflite", lambda *args, **settings: once(*args, **settings, isolated=isolated)
        )
        before = dict(known)
        try:
            list(export_files(path, ["float32"], folder=folder))
        except (ConfigurationError, ExportError) as error:
            message = str(error)
            assert len(message) < 3000 and "Traceback" not in message and "\x1b" not in message, message
            assert not folder.exists() or not list(folder.iterdir())
            return kind, "refused" if isinstance(error, ConfigurationError) else "rejected by the converter"
        for file in folder.glob("*") if folder.exists() else ():
            assert file.name == "net_float32.tflite" and len(known) == len(before) + 1
            file.unlink()
        if kind in ("bytes", "names", "metadata"):  # what loads is the model itself
            assert identity(load_file(path)) == reference
        return kind, "exported"

    return export


def _loaded(content, folder):
    path = Path(folder) / "loaded.keras"
    path.write_bytes(content)
    return load_file(path)


def _nothing_elsewhere(folder):
    places = [folder, folder.parent, Path("/tmp"), Path.cwd(), Path.cwd().parent]
    assert not [place for place in places if (place / ELSEWHERE).exists()]


def test_some_mutations(examine, tmp_path):
    def here(*args, **settings):
        return export_tflite(*args, **{**settings, "isolate": False})

    found = [examine(number, here) for number in range(24)]
    assert {kind for kind, _ in found} == {"bytes", "config", "names", "metadata", "weights"}
    assert [end for _, end in found].count("refused") >= 12
    _nothing_elsewhere(tmp_path)


@pytest.mark.long
def test_five_hundred_mutations(examine, tmp_path, monkeypatch):
    with Converter() as converter:
        monkeypatch.setattr(exporting, "Converter", lambda: contextlib.nullcontext(converter))
        found = [examine(number, export_tflite) for number in range(500)]
    assert [end for _, end in found].count("refused") > 250
    _nothing_elsewhere(tmp_path)


def _with(original, **replaced):
    """The file with some members replaced, by their names up to the first dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name.partition(".")[0], old.read(name)))
    return file.getvalue()


def _changed(original, change):
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        config = json.loads(archive.read("config.json"))
    change(config["config"]["layers"])
    return _with(original, config=json.dumps(config))


def _grow(parts):
    parts[-1]["config"]["units"] = 10**12


def _insert_code(parts):
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    parts.insert(1, {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l", "function": code}})


def _name_a_command(parts):
    parts[1] |= {"module": "os", "class_name": "system"}


@pytest.mark.parametrize(
    "change, message",
    [
        (_grow, "larger than the stored weights"),
        (_insert_code, "write a registered layer"),
        (_name_a_command, "Could not locate class 'system'"),
    ],
)
def test_configurations(original, tmp_path, change, message):
    with pytest.raises(ConfigurationError, match=message):
        _loaded(_changed(original, change), tmp_path)


def test_an_input_of_any_size(tmp_path):
    image = keras.Input((10**6, 10**6, 1))
    keras.Model(image, layers.GlobalAveragePooling2D()(image)).save(tmp_path / "large.keras")
    with pytest.raises(ConfigurationError, match="too large"):
        list(export_files(tmp_path / "large.keras", ["float32"]))


def test_a_changed_weight_is_found(original, tmp_path):
    weight = _loaded(original, tmp_path).layers[-1].get_weights()[0].tobytes()[:16]
    place = original.index(weight)
    with pytest.raises(ConfigurationError, match="checksum"):
        _loaded(original[:place] + b"\1" + original[place + 1 :], tmp_path)


def test_a_layer_is_not_a_model(original, tmp_path):
    config = keras.saving.serialize_keras_object(layers.Flatten())
    with pytest.raises(ConfigurationError, match="contains a Flatten|cannot be loaded"):
        _loaded(_with(original, config=json.dumps(config)), tmp_path)


def test_the_whole_file_still_loads(original, tmp_path):
    model = _loaded(original, tmp_path)
    np.testing.assert_allclose(np.asarray(model(np.ones((1, 6, 6, 1)))).sum(), 1, rtol=1e-5)
