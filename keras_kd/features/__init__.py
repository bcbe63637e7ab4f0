"""What a model's outputs and inner layers say."""

from keras_kd.features.logits import Head, find_heads, forward
from keras_kd.features.taps import name_outputs, output_shapes

__all__ = ["Head", "find_heads", "forward", "name_outputs", "output_shapes"]
