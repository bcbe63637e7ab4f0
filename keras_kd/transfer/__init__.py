"""Transfer learning: a fresh head on a trained trunk, freezing, gradual unfreezing."""

from keras_kd.transfer.freezing import FreezeReport, LayerState, freeze
from keras_kd.transfer.replacing import replace_head
from keras_kd.transfer.unfreezing import GradualUnfreezing, unfreeze_gradually

__all__ = ["FreezeReport", "GradualUnfreezing", "LayerState", "freeze", "replace_head", "unfreeze_gradually"]
