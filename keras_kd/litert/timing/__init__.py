"""Times LiteRT files in child processes: runs, memory, operators."""

from keras_kd.litert.timing.child import FILE_SCRIPT, TimedChild
from keras_kd.litert.timing.cross_check import CrossCheck, litert_benchmark
from keras_kd.litert.timing.inputs import describe, index_limits, input_range, input_shape, random_inputs
from keras_kd.litert.timing.profile import OperatorTime, Profile, profile_file
from keras_kd.litert.timing.serving import Subject, serve, time_runs

__all__ = [
    "FILE_SCRIPT",
    "CrossCheck",
    "OperatorTime",
    "Profile",
    "Subject",
    "TimedChild",
    "describe",
    "index_limits",
    "input_range",
    "input_shape",
    "litert_benchmark",
    "profile_file",
    "random_inputs",
    "serve",
    "time_runs",
]
