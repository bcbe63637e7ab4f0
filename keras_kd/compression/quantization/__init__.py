"""Quantization-aware training: weights and activations pass through the grid of the integers they will be stored as.

What an export may read of a model made by `QuantizationAware.apply`, after training and before `strip`:

- Every activation that is quantized passes through an `ActivationQuantizer`, a Keras layer. Between layers these are
  layers of the graph (`<layer>_quantizer`, and `<input>_quantizer` for a model's input). Those of tensors inside a
  layer (attention, recurrent cells, separable convolutions) are in `Reparametrized.inside`, which is a Keras layer as
  well, so that `keras_kd.surgery.layers_by_path` finds all of them. `quantizer.range()` is an `IntegerRange`.
- Every weight that is quantized passes through a `FakeQuantizedWeight` (or `LearnedStepWeight`, a subclass of it), the
  last of the functions in `Reparametrized.reparametrizations[name]` (`Composed.functions[-1]` where it is composed).
  `function.range(weight)` is an `IntegerRange` with one minimum and maximum for each channel, or one for the tensor.
- Inside `with quantization.exporting(model):` the quantizers round without a condition; outside, they pass a tensor
  unchanged until they have seen a batch.
- On TensorFlow, what has a single range is computed by `tf.quantization.fake_quant_with_min_max_vars` with exactly this
  range when the model runs with `training=False`, so that the TensorFlow converter reads it off the graph. Weights with
  a range for each channel are rounded by plain arithmetic, in which a converter finds no ranges: an export passes their
  rounded values as constants.
"""

from keras_kd.compression.quantization.activations import ActivationQuantizer, exporting
from keras_kd.compression.quantization.fake_quant import IntegerRange
from keras_kd.compression.quantization.learned_steps import LearnedStepQuantizer, LearnedStepWeight
from keras_kd.compression.quantization.weights import FakeQuantizedWeight

__all__ = [
    "ActivationQuantizer",
    "FakeQuantizedWeight",
    "IntegerRange",
    "LearnedStepQuantizer",
    "LearnedStepWeight",
    "exporting",
]
