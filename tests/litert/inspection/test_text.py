"""The printed tables: what they say, and that they stay small for any file."""

import keras
import pytest
from handmade import model, serialized, tensor

from keras_kd.litert.inspection import inspect_tflite
from keras_kd.litert.inspection.text import MAX_OPERATORS

layers = keras.layers


def lines_of(text, start):
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(start))
    return lines[first : lines.index("", first) if "" in lines[first:] else None]


def test_a_small_file(int4_file):
    assert str(inspect_tflite(int4_file)).splitlines() == [
        "The content: 616 B, 293 B gzipped",
        'Schema 3, description "by hand".',
        "",
        "signature  tensor  name    shape  dtype    value of integer q",
        "---------  ------  ------  -----  -------  ------------------",
        "(none)     input   image   ?x8    float32  -",
        "(none)     output  scores  ?x3    float32  -",
        "",
        "operator         count  multiply-adds  constants",
        "---------------  -----  -------------  ---------",
        "FULLY_CONNECTED      1             24       24 B",
        "Operators: 1. Multiply-adds: 24.",
        "",
        "Constants: 24 B: 12 B float32, 12 B int4.",
        "Everything else: 592 B.",
        "",
        "#  operator         v  output  dtype    weights           multiply-adds  constants",
        "-  ---------------  -  ------  -------  ----------------  -------------  ---------",
        "0  FULLY_CONNECTED  1  ?x3     float32  int4, 3 channels             24       24 B",
        "",
        "constant  shape  dtype    bytes  tensors",
        "--------  -----  -------  -----  -------",
        "bias      3      float32   12 B  1",
        "weights   3x8    int4      12 B  1",
        "",
        "An open dimension (?) counts as 1 in multiply-adds.",
    ]


def test_operators_are_optional(int4_file):
    text = inspect_tflite(int4_file).text(operators=False)
    assert "\n#  operator" not in text and "FULLY_CONNECTED      1" in text


@pytest.mark.parametrize("sign, zero_point", [("+ 3", -3), ("- 3", 3), ("- 0", 0)])
def test_quantized_ends(sign, zero_point):
    one = tensor("a", [2], dtype="INT8", scales=[0.5], zero_points=[zero_point])
    assert f"0.5 * (q {sign})" in str(inspect_tflite(serialized(model([one], [], inputs=[0]))))


@pytest.fixture(scope="module")
def vast():
    """50,000 operators, long and hostile names, a shape with a thousand dimensions, many inputs and signatures."""
    hostile = "\x1b[31m" + "\n\t\u202e名" * 300
    tensors = [tensor(f"{hostile}{number}", [2**31 - 1] * 1000, scales=[0.1] * 2, dtype="INT8") for number in range(60)]
    tensors += [tensor(hostile, [9], data=bytes([number, 1])) for number in range(50)]
    operators = [(hostile[:300] + str(number % 60), [0], [1]) for number in range(50_000)]
    signatures = [(hostile, 0, {f"{hostile}{number}": number for number in range(60)}, {}) for _ in range(30)]
    metadata = [(f"{number}{hostile}", b"x") for number in range(80)]
    made = model(tensors, operators, inputs=range(60), outputs=[1], signatures=signatures, metadata=metadata)
    return inspect_tflite(serialized(made))


def test_a_vast_file_prints_a_bounded_text(vast):
    lines = str(vast).splitlines()
    assert [line for line in lines if len(line) > 100] == []
    assert all(line.isprintable() for line in lines)
    assert len(lines) < MAX_OPERATORS + 250
    assert "... and 49,000 more" in lines
    assert "Operators: 50,000." in str(vast)


def test_a_vast_file_draws_a_bounded_picture(vast):
    assert len(vast.svg()) < 2_000_000
    assert "The first 1,500 of 50,061 boxes are drawn." in vast.svg()


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_exported_files_fit_a_terminal(form, export_bytes):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((9, 9, 3), name="image" * 30)], name="a_long_name" * 9)
    for number in range(3):
        net.add(layers.Conv2D(12, 3, padding="same", activation="relu", name=f"a_convolution_{number}" * 5))
    net.add(layers.GlobalAveragePooling2D())
    samples = keras.random.normal((4, 9, 9, 3), seed=0)
    inspection = inspect_tflite(export_bytes(net, format=form, calibration=samples))
    assert max(map(len, str(inspection).splitlines())) <= 100
    rows = lines_of(str(inspection), "#")[2:]
    assert len(rows) == len(inspection.graphs[0].operators)
    for row, one in zip(rows, inspection.graphs[0].operators, strict=True):
        assert row.split()[:2] == [str(one.index), one.name] and one.outputs[0].dtype in row
