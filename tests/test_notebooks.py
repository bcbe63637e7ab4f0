"""The notebooks run from the first to the last cell, with fewer epochs."""

from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
# texts in the output, the number of pictures, and the files left behind
EXPECTED = {
    "compression.ipynb": (("80% zeros", "different values", "pruned, clustered, int8"), 1, ("model_int8.tflite",)),
    "digits.ipynb": (("int8:", "parameters"), 2, ("student_int8.tflite", "student.keras")),
    "export.ipynb": (("int4 by ai-edge", "Edge TPU (by table)", "probabilities"), 1, ("digits_app.tflite",)),
    "losses.ipynb": (("block_1_out", "soft targets", "+ hint"), 1, ()),
    "regimes.ipynb": (
        (
            *("self: ema", "mutual: one", "mutual: okddip", "no data: DAFL", "PGD-20", "4x4 student, 8x8 teacher"),
            *("noisy speech: distilled", "distilled from snapshots"),
        ),
        4,
        ("route/epoch-0003.keras", "snapshots/epoch-0003.keras"),
    ),
}
FEWER_EPOCHS = {"= 40, 60": "= 2, 2", "= 30, 15": "= 3, 3"}
# run after the last cell: the pictures show the data
CHECKS = {
    "regimes.ipynb": """
assert line.get_xdata().tolist() == [point.operations for point in curve.points]
assert line.get_ydata().tolist() == [100 * point.accuracy for point in curve.points]
for number, (above, below) in enumerate(sheet.T):
    assert above.get_title() == str(number)
    assert (above.images[0].get_array() == images[classes == number][0, :, :, 0]).all()
    assert (below.images[0].get_array() == x[y == number][0, :, :, 0]).all()
assert list(columns) == ["distilled", "robust"]
for name, drawn in columns.items():
    assert [column.get_height() for column in drawn] == [100 * value for value in tables[name].values()]
    assert [text.get_text() for text in drawn[0].axes.get_xticklabels()] == list(tables[name])
assert [text.get_text() for text in bars[0].axes.get_yticklabels()] == list(results)
assert [bar.get_width() for bar in bars] == [100 * value for _, value in results.values()]
"""
}


def test_every_notebook_is_run():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(EXPECTED)


def write_tones(folder):
    """A TensorFlow data set like `spoken_digit`, of tones instead of words, since tests download nothing."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    rng, seconds, labels = np.random.default_rng(0), np.arange(4000) / 8000, np.arange(360) % 10
    sounds = 3000 * np.sin(2 * np.pi * 300 * (1 + labels)[:, None] * seconds) + rng.normal(0, 100, (360, 4000))
    features = {"audio": tfds.features.Audio(sample_rate=8000), "label": tfds.features.ClassLabel(num_classes=10)}
    examples = tf.data.Dataset.from_tensor_slices({"audio": sounds.astype(np.int64), "label": labels})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tones",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples},
        data_dir=folder,
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_runs(name, tmp_path):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    replaced = dict(FEWER_EPOCHS)
    if name == "regimes.ipynb":
        write_tones(tmp_path / "tfds")
        replaced['= "spoken_digit", None'] = '= "tones", "tfds"'
    for cell in notebook.cells:
        for many, few in replaced.items():
            cell.source = cell.source.replace(many, few)
    if name in CHECKS:
        notebook.cells.append(nbformat.v4.new_code_cell(CHECKS[name]))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)
    pictures = [output for output in outputs if {"image/svg+xml", "image/png"} & set(output.get("data", {}))]
    printed, num_pictures, files = EXPECTED[name]
    assert all(part in text for part in printed) and len(pictures) == num_pictures
    assert all((tmp_path / file).exists() for file in files)
