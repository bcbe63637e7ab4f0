"""`keras-kd microcontroller`."""

import keras
import pytest

import keras_kd as kd


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, activation in (("net", "relu"), ("gelu", "gelu")):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=activation)])
        kd.export_tflite(model, folder / f"{name}.tflite", isolate=False)
    (folder / "random.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(200)))
    return folder


def test_the_sources_are_written_beside_the_file_or_into_a_folder(invoke, files, tmp_path):
    result = invoke("microcontroller", str(files / "net.tflite"), "--output-dir", str(tmp_path / "new" / "firmware"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "bytes of arena" in result.stdout
    assert "operators FULLY_CONNECTED." in result.stdout
    names = ["model.cc", "model.h", "model_operators.h"]
    assert sorted(path.name for path in (tmp_path / "new" / "firmware").iterdir()) == names
    assert invoke("microcontroller", str(files / "net.tflite")).exit_code == 0
    assert all((files / name).is_file() for name in names)


@pytest.mark.parametrize(
    ("name", "message"),
    [("gelu.tflite", "it does not have GELU"), ("random.tflite", ""), ("missing.tflite", "missing.tflite"), (".", "")],
)
def test_files_that_cannot_run_exit_with_2(invoke, files, tmp_path, name, message):
    result = invoke("microcontroller", str(files / name), "--output-dir", str(tmp_path / "out"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_exits_with_1(invoke, files, tmp_path):
    (tmp_path / "taken").write_text("")
    result = invoke("microcontroller", str(files / "net.tflite"), "--output-dir", str(tmp_path / "taken"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be written" in result.stderr
