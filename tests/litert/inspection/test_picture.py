"""The drawn graph, against the operators and tensors of the file."""

import re
import xml.etree.ElementTree as ET

import keras
import pytest
from handmade import model, serialized, tensor

from keras_kd.errors import ConfigurationError
from keras_kd.litert import read_file
from keras_kd.litert.inspection import inspect_tflite
from keras_kd.litert.inspection.picture import ROWS

layers = keras.layers
SVG = "{http://www.w3.org/2000/svg}"


class Picture:
    def __init__(self, text):
        root = ET.fromstring(text)
        self.title, self.details = (root.find(f"{SVG}{name}").text for name in ("title", "desc"))
        self.root = root
        groups = [one for one in root.iter(f"{SVG}g") if one.get("class").startswith("box ")]
        self.labels = [[text.text for text in one.iter(f"{SVG}text")] for one in groups]
        self.kinds = [one.get("class").removeprefix("box ") for one in groups]
        self.rects = [[float(one.find(f"{SVG}rect").get(k)) for k in ("x", "y", "width", "height")] for one in groups]
        self.colors = [one.find(f"{SVG}rect").get("stroke") for one in groups]
        paths = [one.get("d") for one in root.iter(f"{SVG}path") if one.get("class") == "edge"]
        self.edges = {(self.box_at(*ends[0]), self.box_at(*ends[1])) for ends in map(ends_of, paths)}
        self.num_edges = len(paths)

    def box_at(self, x, y):
        """The box that a point lies on or a few units beside."""
        (found,) = [
            number
            for number, (left, top, width, height) in enumerate(self.rects)
            if left - 3 <= x <= left + width + 3 and top - 3 <= y <= top + height + 3
        ]
        return found


def ends_of(path):
    """The first and the last point."""
    numbers = [float(one) for one in re.findall(r"-?[\d.]+", path)]
    if "V" in path:
        return (numbers[0], numbers[1]), (numbers[0], numbers[2])
    return tuple(numbers[:2]), tuple(numbers[-2:])


def expected_edges(graph):
    """Pairs of boxes, numbered inputs first, then operators, then outputs."""
    first = len(graph.inputs)
    writers = dict(zip(graph.inputs, range(first), strict=True))
    writers |= {index: first + number for number, one in enumerate(graph.operators) for index in one.outputs}
    reads = [*((),) * first, *(one.inputs for one in graph.operators), *((index,) for index in graph.outputs)]
    return {(writers[index], number) for number, one in enumerate(reads) for index in one if index in writers}


@pytest.fixture(scope="module", params=["float32", "int8"])
def content(request, export_bytes):
    """Wraps into a second column, with a connection across it and one past other boxes."""
    keras.utils.set_random_seed(0)
    image, size = keras.Input((4, 4, 2), name="image"), keras.Input((3,), name="size")
    x = first = layers.Conv2D(2, 1)(image)
    for number in range(ROWS + 4):
        y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
        x = layers.Add()([x, y]) if number == 3 else y
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(layers.Add()([x, first])), size])
    net = keras.Model([image, size], {"sure": layers.Dense(3, activation="softmax")(x), "raw": layers.Dense(2)(x)})
    samples = {"image": keras.random.normal((8, 4, 4, 2), seed=0), "size": keras.random.normal((8, 3), seed=1)}
    return export_bytes(net, format=request.param, calibration=samples)


def test_boxes_are_the_operators_with_their_shapes(content):
    picture, inspection = Picture(inspect_tflite(content).svg()), inspect_tflite(content)
    (graph,) = inspection.graphs
    shapes = ["x".join(map(str, one.outputs[0].shape)) + f" {one.outputs[0].dtype}" for one in graph.operators]
    assert picture.labels[2:-2] == [[one.name, s] for one, s in zip(graph.operators, shapes, strict=True)]
    assert {label for label, _ in picture.labels[:2]} == {"image", "size"}
    assert {label for label, _ in picture.labels[-2:]} == {"sure", "raw"}
    kind = {"float32": "float", "int8": "integer"}
    assert picture.kinds[2:-2] == [kind[one.outputs[0].dtype] for one in graph.operators]
    assert picture.kinds[:2] == picture.kinds[-2:] == ["end", "end"]


def test_edges_are_the_tensors_between_boxes(content):
    picture, (graph,) = Picture(inspect_tflite(content).svg()), read_file(content).graphs
    assert picture.edges == expected_edges(graph) and picture.num_edges == len(picture.edges)
    assert len(picture.edges) > len(graph.operators)


def test_boxes_do_not_overlap_and_lie_in_the_picture(content):
    picture = Picture(inspect_tflite(content).svg())
    _, _, width, height = map(float, picture.root.get("viewBox").split())
    places = [(x, y) for x, y, _, _ in picture.rects]
    assert len(set(places)) == len(places) and len({x for x, _ in places}) == 2
    for x, y, w, h in picture.rects:
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height
    for (x, y), (other_x, other_y) in zip(places, places[1:], strict=False):
        assert (other_x == x and other_y >= y + 38) or other_x >= x + 196


def test_float_and_integer_operators_differ_in_color():
    tensors = [tensor("a", [2]), tensor("b", [2], dtype="INT8", scales=[0.1]), tensor("c", [2], dtype="BOOL")]
    operators = [("QUANTIZE", [0], [1]), ("DEQUANTIZE", [1], [0]), ("EQUAL", [1, 1], [2])]
    picture = Picture(inspect_tflite(serialized(model(tensors, operators))).svg())
    assert picture.kinds == ["integer", "float", "other"] and len(set(picture.colors)) == 3
    legend = [one for one in picture.root.iter(f"{SVG}g") if one.get("class") == "legend"]
    assert [one.find(f"{SVG}text").text for one in legend] == ["float output", "integer output", "other output"]
    fills = [one.find(f"{SVG}rect").get("fill") for one in legend]
    assert fills == [picture.colors[1], picture.colors[0], picture.colors[2]]


def test_texts_for_screen_readers(content):
    inspection = inspect_tflite(content)
    picture = Picture(inspection.svg())
    assert picture.root.get("role") == "img" and picture.title == "Graph 0 of The content"
    assert f"{len(inspection.graphs[0].operators)} operators" in picture.details
    ids = {one.get("id") for one in picture.root.iter() if one.get("id")}
    assert {picture.root.get("aria-labelledby"), picture.root.get("aria-describedby")} <= ids


def test_two_pictures_share_no_id(content, int4_file):
    pictures = [inspect_tflite(one).svg() for one in (content, int4_file)]
    first, second = ({one.get("id") for one in ET.fromstring(text).iter() if one.get("id")} for text in pictures)
    assert len(first) == len(second) == 3 and not first & second
    for text, ids in zip(pictures, (first, second), strict=True):
        assert set(re.findall(r"url\(#([^)]*)\)", text)) <= ids
    assert pictures[0] == inspect_tflite(content).svg()


def test_names_are_escaped():
    one = tensor('<script>"&\x00\x1b', [2])
    picture = Picture(inspect_tflite(serialized(model([one], [], inputs=[0]))).svg())
    assert picture.labels[0][0] == '<script>"&??'


def test_many_connections_end_early():
    """1,400 operators, each of which reads the outputs of all others."""
    tensors = [tensor(str(number), [1]) for number in range(1400)]
    operators = [("ADD_N", range(20), [number]) for number in range(1400)]
    assert len(edges_of(tensors, operators)) == 20_000
    assert len(edges_of(tensors, operators[:500])) < 20_000


def edges_of(tensors, operators):
    text = inspect_tflite(serialized(model(tensors, operators))).svg()
    found = re.findall('class="edge"', text)
    assert ("Only the first 20,000 connections" in text) == (len(found) == 20_000)
    return found


def test_a_graph_that_is_not_there(int4_file):
    with pytest.raises(ConfigurationError, match="graph"):
        inspect_tflite(int4_file).svg(graph=1)
