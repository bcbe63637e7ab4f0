"""Exports trained Keras models to TFLite files and compares the files with the models."""

from keras_kd.export import delegates
from keras_kd.export._conversion import Converter
from keras_kd.export.card import model_card
from keras_kd.export.delegates import DelegateCheck, check_delegate
from keras_kd.export.guard import GuardedExport, Try, export_guarded
from keras_kd.export.metadata import InputInfo, Metadata, OutputInfo, add_metadata, read_metadata
from keras_kd.export.microcontroller import MicrocontrollerSources, microcontroller_sources
from keras_kd.export.preparing.in_graph import Pixels, spanning, with_processing
from keras_kd.export.preparing.quantized import has_ranges_for, is_fake_quantized
from keras_kd.export.ranges import Ranges, measure_ranges
from keras_kd.export.signatures import export_signatures
from keras_kd.export.tflite import ExportResult, export_tflite
from keras_kd.litert import formats
from keras_kd.litert.inspection import Inspection, inspect_tflite

__all__ = [
    "Converter",
    "DelegateCheck",
    "ExportResult",
    "GuardedExport",
    "InputInfo",
    "Inspection",
    "Metadata",
    "MicrocontrollerSources",
    "OutputInfo",
    "Pixels",
    "Ranges",
    "Try",
    "add_metadata",
    "check_delegate",
    "delegates",
    "export_guarded",
    "export_signatures",
    "export_tflite",
    "formats",
    "has_ranges_for",
    "inspect_tflite",
    "is_fake_quantized",
    "measure_ranges",
    "microcontroller_sources",
    "model_card",
    "read_metadata",
    "spanning",
    "with_processing",
]
