"""Compression of the weights of Keras 3 models, while they are trained or distilled."""

from keras_kd.compression.chaining import chain
from keras_kd.compression.clustering.clustering import Clustering
from keras_kd.compression.pruning.patterns import Blocks, NOfM, Pattern
from keras_kd.compression.pruning.pruning import Pruning, sparsity
from keras_kd.compression.quantization.quantization_aware import QuantizationAware
from keras_kd.compression.reparametrized import Reparametrized
from keras_kd.compression.report import Report, Row
from keras_kd.compression.sensitivities.choosing import CompressionSettings
from keras_kd.compression.sensitivities.scan import Sensitivity, sensitivity
from keras_kd.compression.sensitivities.table import LayerCosts, SensitivityTable
from keras_kd.compression.sizes import LayerSize, Sizes, sizes
from keras_kd.compression.stripping import strip
from keras_kd.compression.structured.channel_pruning import ChannelPruning, ChannelReport, ChannelRow
from keras_kd.compression.structured.cut import operations
from keras_kd.compression.tfmot.conversion import from_tf_keras, to_tf_keras
from keras_kd.compression.tfmot.importing import import_tfmot
from keras_kd.compression.transform import Transform, WeightTransform
from keras_kd.compression.weight_functions import WeightFunction

__all__ = [
    "Blocks",
    "ChannelPruning",
    "ChannelReport",
    "ChannelRow",
    "Clustering",
    "CompressionSettings",
    "LayerCosts",
    "LayerSize",
    "NOfM",
    "Pattern",
    "Pruning",
    "QuantizationAware",
    "Reparametrized",
    "Report",
    "Row",
    "Sensitivity",
    "SensitivityTable",
    "Sizes",
    "Transform",
    "WeightFunction",
    "WeightTransform",
    "chain",
    "from_tf_keras",
    "import_tfmot",
    "operations",
    "sensitivity",
    "sizes",
    "sparsity",
    "strip",
    "to_tf_keras",
]
