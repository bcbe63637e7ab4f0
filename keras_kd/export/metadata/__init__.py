"""What an app needs to know about a model, written into its LiteRT file."""

from keras_kd.export.metadata.contents import InputInfo, Metadata, OutputInfo, check_metadata
from keras_kd.export.metadata.embedding import add_metadata, embedded, read_metadata

__all__ = ["InputInfo", "Metadata", "OutputInfo", "add_metadata", "check_metadata", "embedded", "read_metadata"]
