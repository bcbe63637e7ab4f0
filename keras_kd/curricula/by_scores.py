"""A curriculum by difficulties that are known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_kd.data.curriculum.curriculum import Curriculum


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ByScores(Curriculum):
    """Examples in the order of given numbers, see `Curriculum`.

    Args:
        difficulties_by_id: `[n]`, the difficulty of each example of the pipeline's source, in its order; the lowest is
            the easiest. Its length and values are checked when a pipeline takes it.

    >>> from keras_kd.data import Pipeline
    >>> x, lengths = np.zeros((4, 2), "float32"), [7, 2, 9, 4]
    >>> curriculum = ByScores(difficulties_by_id=lengths, start=0.5, full_after=2)
    >>> pipeline = Pipeline((x,), batch_size=2, curriculum=curriculum).with_ids()
    >>> sorted(next(pipeline.epoch(0))[0].ids.tolist())
    [1, 3]
    """

    difficulties_by_id: Any

    def difficulties(self, pipeline, teacher=None, inputs=None):
        return np.asarray(self.difficulties_by_id)
