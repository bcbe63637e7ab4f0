"""Ways to teach other than by one fixed teacher: a model by itself, and models by each other."""

from keras_kd.features.exit_curve import ExitCurve, ExitPoint
from keras_kd.regimes.data_free import DataFreeDistiller
from keras_kd.regimes.early_exits import early_exits
from keras_kd.regimes.exits import with_exits
from keras_kd.regimes.grouped_optimizer import GroupedOptimizer
from keras_kd.regimes.mutual import MutualDistiller
from keras_kd.regimes.peers import branches
from keras_kd.regimes.self_distiller import SelfDistiller

__all__ = [
    "DataFreeDistiller",
    "ExitCurve",
    "ExitPoint",
    "GroupedOptimizer",
    "MutualDistiller",
    "SelfDistiller",
    "branches",
    "early_exits",
    "with_exits",
]
