"""Reading models: logits, inner layers by path, shapes, and projectors between them."""

from keras_kd.features.heads import Head, find_heads
from keras_kd.features.logits import forward
from keras_kd.features.matching import LayerPair, PairTable, match_layers
from keras_kd.features.outputs import ModelOutputs, name_outputs, output_shapes
from keras_kd.features.paths import Place, find_place
from keras_kd.features.projectors import Projector, plan_projection
from keras_kd.features.table import Tap, TapTable, inner_taps, taps
from keras_kd.features.views import Rotations, with_rotations

__all__ = [
    "Head",
    "LayerPair",
    "ModelOutputs",
    "PairTable",
    "Place",
    "Projector",
    "Rotations",
    "Tap",
    "TapTable",
    "find_heads",
    "find_place",
    "forward",
    "inner_taps",
    "match_layers",
    "name_outputs",
    "output_shapes",
    "plan_projection",
    "taps",
    "with_rotations",
]
