"""One class per token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_kd.tasks import measures
from keras_kd.tasks.base import Inputs, registry
from keras_kd.tasks.measures import Measure
from keras_kd.tasks.members.positions import PositionTask


@registry.register
@dataclass(frozen=True)
class TokenClassification(PositionTask):
    """One class per token. Inputs: token ids `[n, t]`. Labels: class numbers `[n, t]`, -1 (or `ignore_class`) for
    padding and for tokens without a label. A model ends in logits `[n, t, C]`, or in their softmax.

    The outputs at padding are excluded from the supervised loss and from the measures. If the model masks padding
    (`Embedding(mask_zero=True)`), they are excluded from the distillation as well.

    Args:
        ignore_class: the class number that the stored labels give to padding, such as -100.

    >>> outputs = np.eye(2)[[[0, 1, 1]]]
    >>> TokenClassification().measure(outputs, [[0, 0, -1]])["token_accuracy"]
    0.5
    """

    measures = (
        Measure("token_accuracy", "Token accuracy", measures.accuracy, "Tokens", is_share=True),
        Measure("macro_f1", "Macro-F1", measures.macro_f1, "F1"),
    )
    unit, position_unit = "sentences", "tokens"
    num_axes = 2

    @classmethod
    def found_in(cls, inputs: Inputs, labels: np.ndarray) -> str | None:
        is_tags = labels.dtype.kind in "iu" and inputs.are_token_ids and labels.shape == inputs.shape
        return "a class number for each token id" if is_tags else None
