"""The schema of the metadata in LiteRT files, which MediaPipe and Android's tools read.

Source: `tensorflow_lite_support/metadata/metadata_schema.fbs` of tensorflow/tflite-support, version 1.1.0. Fields that
are not written here are left out where they come last in their table.
"""

from __future__ import annotations

from keras_kd.export.metadata.layout import BYTE, FLOAT, INT, TEXT, UINT, Table, Union, Vector

IDENTIFIER = b"M001"
ENTRY = "TFLITE_METADATA"  # the name of the buffer in the file
MIN_PARSER_VERSION = "1.0.0"

# AssociatedFileType
DESCRIPTIONS, TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS = 1, 2, 3
# ColorSpaceType
RGB, GRAYSCALE = 1, 2

_FILE = Table("AssociatedFile", {"name": TEXT, "description": TEXT, "type": BYTE, "locale": TEXT})
_SIZE = Table("ImageSize", {"width": UINT, "height": UINT})
_CONTENTS = (
    Table("FeatureProperties"),
    Table("ImageProperties", {"color_space": BYTE, "default_size": _SIZE}),
    Table("BoundingBoxProperties", {"index": Vector(UINT), "type": BYTE, "coordinate_type": BYTE}),
)
_RANGE = Table("ValueRange", {"min": INT, "max": INT})
_CONTENT = Table("Content", {"content_properties": Union(_CONTENTS), "range": _RANGE})
_PROCESSES = (
    Table("NormalizationOptions", {"mean": Vector(FLOAT), "std": Vector(FLOAT)}),
    Table("ScoreCalibrationOptions", {"score_transformation": BYTE, "default_score": FLOAT}),
    Table("ScoreThresholdingOptions", {"global_score_threshold": FLOAT}),
)
_PROCESS = Table("ProcessUnit", {"options": Union(_PROCESSES)})
_STATS = Table("Stats", {"max": Vector(FLOAT), "min": Vector(FLOAT)})
_TENSOR = Table(
    "TensorMetadata",
    {
        "name": TEXT,
        "description": TEXT,
        "dimension_names": Vector(TEXT),
        "content": _CONTENT,
        "process_units": Vector(_PROCESS),
        "stats": _STATS,
        "associated_files": Vector(_FILE),
    },
)
_GRAPH = Table(
    "SubGraphMetadata",
    {
        "name": TEXT,
        "description": TEXT,
        "input_tensor_metadata": Vector(_TENSOR),
        "output_tensor_metadata": Vector(_TENSOR),
        "associated_files": Vector(_FILE),
    },
)
MODEL = Table(
    "ModelMetadata",
    {
        "name": TEXT,
        "description": TEXT,
        "version": TEXT,
        "subgraph_metadata": Vector(_GRAPH),
        "author": TEXT,
        "license": TEXT,
        "associated_files": Vector(_FILE),
        "min_parser_version": TEXT,
    },
)
