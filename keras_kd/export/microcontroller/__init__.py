"""C++ sources of a LiteRT file for LiteRT for Microcontrollers (TFLM)."""

from keras_kd.export.microcontroller.sources import MicrocontrollerSources, microcontroller_sources

__all__ = ["MicrocontrollerSources", "microcontroller_sources"]
