"""Reduces the overhead of a training: a single trace, and several short steps per execution."""

from __future__ import annotations

import math

import keras
import numpy as np

from keras_kd import data
from keras_kd.features import output_shapes
from keras_kd.teachers import FrozenTeacher

_MULTIPLICATIONS = 2**31  # per execution: some tenths of a second on one core
_MOST_STEPS = 32


def steps_per_execution(model: keras.Model, pipeline: data.Pipeline) -> int:
    """The `steps_per_execution` for `fit`; more than one if steps are short.

    A step of a few milliseconds takes as long to start as to compute. The multiplications per execution are limited;
    the estimate counts each weight at each position of the input, an upper bound for a convolution.
    """
    teacher = getattr(model, "teacher", None)
    models = [model, *([teacher.model] if isinstance(teacher, FrozenTeacher) else [])]
    inputs = keras.tree.flatten(pipeline.batch([0])[0])
    positions = pipeline.batch_size * max(math.prod(np.shape(one)[1:-1]) for one in inputs)
    adversary = getattr(model, "adversary", None)
    positions *= 1 if adversary is None else 1 + 2 * adversary.steps  # each with a pass in both directions
    most = _MULTIPLICATIONS // max(1, positions * sum(known.count_params() for known in models))
    return int(min(max(most, 1), _MOST_STEPS, pipeline.steps_per_epoch))


def build_ahead(model: keras.Model, pipeline: data.Pipeline) -> None:
    """Creates the variables of optimizer and metrics: if the first step creates them, it is traced twice."""
    model.optimizer.build(model.trainable_variables)
    x, y = pipeline.batch([0])[:2]
    shapes = output_shapes(getattr(model, "student", model))
    outputs = {name: np.zeros((1, *shape[1:]), "float32") for name, shape in shapes.items()}
    if len(outputs) == 1:
        (outputs,) = outputs.values()
    else:  # a distiller whose outputs all have the same labels
        y = dict.fromkeys(outputs, y)
    model.compute_metrics(x, y, outputs)
    model.reset_metrics()
