"""The card of a file, against the file."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_kd import litert
from keras_kd.errors import ConfigurationError
from keras_kd.export import InputInfo, Metadata, OutputInfo, export_tflite, model_card

layers = keras.layers
METADATA = Metadata(
    name="pets",
    description="Tells a cat | from a dog.",
    license="MIT",
    inputs=InputInfo("a photo", mean=(127.5,), std=(60.0,), is_image=True),
    outputs=OutputInfo("logits", labels=("a cat", "a dog")),
    provenance={"teacher": "sha256:12"},
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="photo")
    net = keras.Model(image, layers.Dense(2, name="scores")(layers.Flatten()(layers.Conv2D(2, 3)(image))))
    path = tmp_path_factory.mktemp("card") / "net.tflite"
    images = np.random.default_rng(0).random((20, 6, 6, 3), dtype="float32")
    export_tflite(net, path, format="int8", calibration=images, metadata=METADATA, isolate=False)
    return path


def test_what_the_card_says(file):
    lines = model_card(file).splitlines()
    model, details = litert.Model(file), {one["index"]: one["quantization"] for one in _details(file)}
    scale, zero = details[model.inputs["photo"].index]
    ((name, scores),) = model.outputs.items()
    out_scale, out_zero = details[scores.index]
    assert lines[0] == "# pets" and lines[2] == "Tells a cat | from a dog."
    assert "- **license**: MIT" in lines and "- **author**: not given" in lines
    normalized = f"a photo; an image; (raw - 127.5) / 60; then round(x / {scale:.6g}) {'-+'[zero >= 0]} {abs(zero)}"
    assert f"| photo | 1x6x6x3 | int8 | {normalized} |" in lines
    assert (
        f"| {name} | 1x2 | int8 | logits; 2 labels; {out_scale:.6g} * (q {'+-'[out_zero > 0]} {abs(out_zero)}) |"
        in lines
    )
    assert f"Labels of `{name}`, in order: a cat, a dog." in lines
    assert f"{4 * 4 * 2 * 27 + 32 * 2} multiply-adds a run" in "\n".join(lines)
    block = "\n".join(lines).split("```json\n")[1].split("```")[0]
    assert json.loads(block) == METADATA.provenance


def test_without_metadata(pair_file):
    card = model_card(pair_file)
    assert card.startswith("# model\n") and "Origin" not in card and "Labels" not in card
    assert "| ids | 1x3 | int32 |  |" in card.splitlines()


def test_many_labels_and_damage(file, tmp_path):
    with pytest.raises(ConfigurationError, match="damaged|not a LiteRT"):
        model_card(file.read_bytes()[:100])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        model_card(tmp_path / "none.tflite")
    labels = tuple(f"class {number}" for number in range(1000))
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1000)])
    metadata = dataclasses.replace(METADATA, inputs={}, outputs=OutputInfo(labels=labels))
    export_tflite(net, tmp_path / "a.tflite", metadata=metadata, isolate=False)
    assert "class 99 and 900 more." in model_card(tmp_path / "a.tflite")


def _details(file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    return interpreter.get_input_details() + interpreter.get_output_details()
