"""Models as graphs of layers: read, copied with replacements, folded, copied in another precision."""

from keras_kd.surgery.cloning import clone
from keras_kd.surgery.graph import Graph, GraphNode, read_graph
from keras_kd.surgery.weights import carry_weights

__all__ = ["Graph", "GraphNode", "carry_weights", "clone", "read_graph"]
