"""The C++ sources of a file."""

import re
import shutil
import subprocess

import keras
import pytest

import keras_kd as kd
from keras_kd.errors import ConfigurationError, ExportError
from keras_kd.export.microcontroller.operators import OPERATORS, resolver_method
from keras_kd.export.microcontroller.text import quote

COMPILER = shutil.which("g++")
LABELS = ('a "cat"', "back\\slash", "Käse 猫", "what??/", "", "tab\there")


@pytest.fixture
def write(tmp_path):
    """Writes the sources of a file's content into `tmp_path / "sources"`."""

    def write(content, metadata=None):
        path = tmp_path / "net.tflite"
        path.write_bytes(content)
        if metadata:
            kd.export.add_metadata(path, metadata)
        return kd.export.microcontroller_sources(path, tmp_path / "sources")

    return write


def metadata(num_labels=5, **normalization):
    labels = [*LABELS, *map(str, range(9))][:num_labels]
    return kd.export.Metadata(inputs=kd.export.InputInfo(**normalization), outputs=kd.export.OutputInfo(labels=labels))


def defined(sources, name):
    """The value of a number in `model.h`."""
    return int(re.search(rf"{name} = (\d+);", sources.files[0].read_text())[1])


def test_the_resolver_has_the_operators_of_the_file(net, write):
    sources = write(net("residual", "int8"))
    expected = ("ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "SOFTMAX")
    assert sources.operators == expected
    text = sources.files[2].read_text()
    calls = re.findall(r"resolver\.(\w+)\(\)", text)
    assert calls == ["AddAdd", "AddAveragePool2D", "AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected"] + [
        "AddMean",
        "AddSoftmax",
    ]
    assert "MicroMutableOpResolver<7>" in text


def test_methods_have_the_names_of_the_published_header():
    """A sample of micro_mutable_op_resolver.h with every kind of exception."""
    published = """
        AddAbs AddAddN AddAveragePool2D AddBatchMatMul AddBatchToSpaceNd AddConv2D AddCumSum
        AddDepthwiseConv2D AddFullyConnected AddHardSwish AddL2Normalization AddL2Pool2D AddLogSoftmax
        AddMaxPool2D AddPad AddPadV2 AddPrelu AddRelu6 AddResizeNearestNeighbor AddReverseV2 AddSelectV2
        AddSplitV AddSquaredDifference AddSvdf AddTransposeConv AddUnidirectionalSequenceLSTM AddZerosLike
    """
    assert len(OPERATORS) == 100
    assert set(published.split()) <= {resolver_method(name) for name in OPERATORS}


@pytest.mark.skipif(COMPILER is None, reason="no g++ on this machine")
def test_the_compiled_array_is_the_file(net, write, tmp_path):
    sources = write(net("residual", "int8"), metadata(mean=[1, 2.5, -3], std=[0.1, 255, 1e-6]))
    content = (tmp_path / "net.tflite").read_bytes()
    reader = """
        #include <cstdio>
        #include "model.h"
        int main() {
          if (reinterpret_cast<std::uintptr_t>(model::kData) % 16) return 3;
          fwrite(model::kData, 1, model::kNumBytes, stdout);
          for (auto* label : model::kLabels) fprintf(stderr, "%s\\n", label);
          for (auto value : model::kInputMean) fprintf(stderr, "%.9g ", value);
          for (auto value : model::kInputStd) fprintf(stderr, "%.9g ", value);
        }"""
    (tmp_path / "reader.cc").write_text(reader)
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", f"-I{tmp_path / 'sources'}"]
    command = [COMPILER, *flags, tmp_path / "reader.cc", sources.files[1], "-o", tmp_path / "reader"]
    subprocess.run([str(part) for part in command], check=True)
    ran = subprocess.run([str(tmp_path / "reader")], check=True, capture_output=True)
    *labels, numbers = ran.stderr.decode().split("\n")
    assert ran.stdout == content
    assert tuple(labels) == LABELS[:5]
    assert list(map(float, numbers.split())) == pytest.approx([1, 2.5, -3, 0.1, 255, 1e-6])
    assert sources.model_bytes == defined(sources, "kNumBytes") == len(content)


def test_a_file_without_metadata_has_no_labels(net, write):
    sources = write(net("student", "int8"))
    header, definitions = (file.read_text() for file in sources.files[:2])
    assert (defined(sources, "kNumLabels"), defined(sources, "kNumInputMeans")) == (0, 1)
    assert "kLabels" not in header.replace("kNumLabels", "") + definitions
    assert "kInputMean[] = {0.0f};" in definitions
    assert "kInputStd[] = {1.0f};" in definitions
    assert (defined(sources, "kArenaBytes"), sources.planned_bytes) == (sources.arena_bytes, 832)


def test_sources_are_replaced(net, write):
    write(net("residual", "int8"))
    sources = write(net("student", "int8"))
    assert [file.name for file in sorted(sources.files[0].parent.iterdir())] == [
        "model.cc",
        "model.h",
        "model_operators.h",
    ]
    assert "AddSoftmax" not in sources.files[2].read_text()


@pytest.mark.parametrize("text", [*LABELS, "\x7f\x1b", "é"], ids=range(len(LABELS) + 2))
def test_quoted_text_has_the_bytes_of_the_text(text):
    """Python reads the same escapes."""
    assert eval(f"b{quote(text)}".replace("\\?", "?")) == text.encode()


@pytest.mark.parametrize(
    ("format", "reason"),
    [("dynamic", "CONV_2D has float inputs and integer weights"), ("float16", "it has float16 tensors")],
)
def test_formats_that_tflm_does_not_have_are_refused(net, write, format, reason):
    with pytest.raises(ExportError, match=f"{reason}.*Export it as int8"):
        write(net("student", format))


def test_operators_that_tflm_does_not_have_are_named(export_bytes, write, tmp_path):
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, activation="gelu"), keras.layers.Dense(2, activation="softsign")]
    )
    with pytest.raises(ExportError, match="it does not have GELU"):
        write(export_bytes(net))
    assert not (tmp_path / "sources").exists()


@pytest.mark.parametrize("content", [b"", b"random", b"\x1c\0\0\0TFL3" + bytes(200)], ids=["empty", "text", "zeros"])
def test_damaged_files_are_refused(write, content):
    with pytest.raises((ConfigurationError, ExportError)):
        write(content)


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for path in (tmp_path / "none.tflite", tmp_path):
        with pytest.raises(ConfigurationError):
            kd.export.microcontroller_sources(path, tmp_path)


def test_a_file_in_place_of_the_folder(net, write, tmp_path):
    (tmp_path / "sources").write_text("")
    with pytest.raises(OSError):
        write(net("student", "int8"))
