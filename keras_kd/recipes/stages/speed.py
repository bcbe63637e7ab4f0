"""What keeps a training from waiting for anything but arithmetic: one trace, and several short steps at a time."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_kd import data
from keras_kd.features import output_shapes
from keras_kd.teachers import FrozenTeacher

_MULTIPLICATIONS = 2**31  # in one execution: some tenths of a second on a core
_MOST_STEPS = 32


def steps_per_execution(model: keras.Model, pipeline: data.Pipeline) -> int:
    """How many steps `fit` does between two looks at the clock; more than one where steps are short.

    A step of a few milliseconds takes as long to start as to compute. The bound on the multiplications of an execution
    counts each weight at each position of the input, which is the most that a convolution can do.
    """
    teacher = getattr(model, "teacher", None)
    models = [model, *([teacher.model] if isinstance(teacher, FrozenTeacher) else [])]
    shape = np.shape(pipeline.batch([0])[0])
    positions = pipeline.batch_size * math.prod(shape[1:-1])
    most = _MULTIPLICATIONS // max(1, positions * sum(known.count_params() for known in models))
    return int(min(max(most, 1), _MOST_STEPS, pipeline.steps_per_epoch))


def build_ahead(model: keras.Model, pipeline: data.Pipeline) -> None:
    """Makes the variables of the optimizer and the metrics: made within the first step, they have it traced twice."""
    model.optimizer.build(model.trainable_variables)
    x, y = pipeline.batch([0])[:2]
    (output,) = output_shapes(getattr(model, "student", model)).values()
    model.compute_metrics(x, y, np.zeros((1, *output[1:]), "float32"))
    model.reset_metrics()
