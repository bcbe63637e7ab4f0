"""Imports TFMOT and `tf_keras` without a trace in the process."""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from collections.abc import Iterator
from types import ModuleType


def import_tfmot() -> ModuleType:
    """The package `tensorflow_model_optimization`; its import leaves the process as it was.

    A plain import sets `TF_USE_LEGACY_KERAS=1` for the process and its children. In a script that has not used
    `tf.keras` yet, `tf.keras` then is `tf_keras` instead of Keras 3. Here the environment and the warning filters are
    put back, and `tf.keras` is resolved before. Works with every Keras backend, since TFMOT runs on TensorFlow by
    itself.

        tfmot = kd.compression.import_tfmot()
        legacy = tfmot.sparsity.keras.prune_low_magnitude(kd.compression.to_tf_keras(model))

    Raises:
        ModuleNotFoundError: TFMOT, `tf_keras` or TensorFlow is not installed.
    """
    return _import("tensorflow_model_optimization")


def import_tf_keras() -> ModuleType:
    """The package `tf_keras`; its import leaves the process as it was."""
    return _import("tf_keras")


def _import(name: str) -> ModuleType:
    with _process_unchanged():
        return importlib.import_module(name)


@contextlib.contextmanager
def _process_unchanged() -> Iterator[None]:
    import tensorflow as tf

    getattr(tf.keras, "version", None)  # loads the Keras that the environment asks for, now and not later
    before = dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TFMOT uses distutils
            yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
