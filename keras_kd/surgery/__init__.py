"""Models as graphs of layers: read, copied with replacements, folded, copied in another precision."""

from keras_kd.features.paths import layers_by_path
from keras_kd.surgery.cloning import clone, copy_layer
from keras_kd.surgery.graph import Graph, GraphNode, read_graph
from keras_kd.surgery.weights import carry_weights

__all__ = ["Graph", "GraphNode", "carry_weights", "clone", "copy_layer", "layers_by_path", "read_graph"]
