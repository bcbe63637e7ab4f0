"""Reads from a running `fit` what Keras does not pass to callbacks: the data and the list of callbacks.

Keras passes a callback the model and three numbers. `Resume` needs the data, to reject different data and to resume in
the right epoch, and the other callbacks, to save their state. Both are read from the calling frames, only here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from keras.callbacks import CallbackList

from keras_kd.keras_private import EpochIterator


class RunningFit(NamedTuple):
    """The `fit` that a callback is called from.

    Attributes:
        adapter: Keras' data adapter, or the `Pipeline` itself.
        initial_epoch: the argument of `fit`.
        steps_per_epoch: the argument of `fit`; None if an epoch is one pass over the data.
    """

    adapter: Any
    initial_epoch: int
    steps_per_epoch: int | None


def calling_list() -> CallbackList | None:
    """The list of callbacks that is calling one of its members."""
    return next((owner for names in _frames() if isinstance(owner := names.get("self"), CallbackList)), None)


def running_fit() -> RunningFit | None:
    """The `fit` around this call; None in a custom training loop."""
    for names in _frames():
        iterator = names.get("epoch_iterator")
        if isinstance(iterator, EpochIterator):
            return RunningFit(iterator.data_adapter, names.get("initial_epoch", 0), iterator.steps_per_epoch)
    return None


def _frames() -> Iterator[dict[str, Any]]:
    """The local names of the calling functions, from the inside out."""
    frame = sys._getframe(2)
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back
