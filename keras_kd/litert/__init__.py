"""LiteRT (`.tflite`) files: their formats, and the interpreter that runs them."""

from keras_kd.litert.file import File, Graph, Signature, StoredOperator, StoredTensor
from keras_kd.litert.formats import FORMATS, Float32, Format, get_format
from keras_kd.litert.graph import float_operators, named_ends, output_steps, producer
from keras_kd.litert.model import Model, check_examples
from keras_kd.litert.observing import Observer
from keras_kd.litert.placement import GpuRun, Placed, run_on_gpu, xnnpack_placement
from keras_kd.litert.quantizing import quantize
from keras_kd.litert.reading import read_file
from keras_kd.litert.tensors import Tensor
from keras_kd.litert.writing import compacted, same_model, with_metadata

__all__ = [
    "FORMATS",
    "File",
    "Float32",
    "Format",
    "GpuRun",
    "Graph",
    "Model",
    "Observer",
    "Placed",
    "Signature",
    "StoredOperator",
    "StoredTensor",
    "Tensor",
    "check_examples",
    "compacted",
    "float_operators",
    "get_format",
    "named_ends",
    "output_steps",
    "producer",
    "quantize",
    "read_file",
    "run_on_gpu",
    "same_model",
    "with_metadata",
    "xnnpack_placement",
]
