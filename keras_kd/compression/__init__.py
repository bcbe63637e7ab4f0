"""Compression of the weights of Keras 3 models, while they are trained or distilled."""

from keras_kd.compression.patterns import Blocks, NOfM, Pattern
from keras_kd.compression.pruning import Pruning, sparsity
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.transform import Report, Row, Transform, strip

__all__ = ["Blocks", "NOfM", "Pattern", "Pruning", "Reparametrized", "Report", "Row", "Transform", "sparsity", "strip"]
