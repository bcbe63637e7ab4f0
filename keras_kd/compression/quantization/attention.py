"""Rounds the tensors inside multi-head attention."""

from __future__ import annotations

import contextlib

import keras
from keras import ops

from keras_kd.compression.quantization.inside import QuantizedInside
from keras_kd.features.capture import replaced
from keras_kd.keras_private import MASKED_SOFTMAX, attention_parts
from keras_kd.serialization import register


@register
class InsideAttention(QuantizedInside):
    """Rounds the projections, the scores before and after the softmax, and the context of `MultiHeadAttention`.

    The scores are computed one operation after the other, without a fused kernel.
    """

    @classmethod
    def fits(cls, layer):
        return type(layer) is keras.layers.MultiHeadAttention

    @classmethod
    def tensors(cls, layer):
        names = ("query", "key", "value", "scaled_query", "scores", "context")
        return dict.fromkeys(names) | {"probabilities": "softmax"}

    @contextlib.contextmanager
    def around(self, layer, *, training):
        rounded, parts = self.rounding(training), attention_parts(layer)

        def attend(
            query, key, value, attention_mask=None, training=None, return_attention_scores=False, use_causal_mask=False
        ):
            query, key, value = rounded["query"](query), rounded["key"](key), rounded["value"](value)
            if use_causal_mask:
                causal = parts.causal_mask(query, value)
                is_only = attention_mask is None
                attention_mask = causal if is_only else ops.logical_and(ops.cast(attention_mask, "bool"), causal)
            query = rounded["scaled_query"](ops.multiply(query, ops.cast(parts.query_scale, query.dtype)))
            scores = rounded["scores"](ops.einsum(parts.scores_equation, key, query))
            probabilities = rounded["probabilities"](getattr(layer, MASKED_SOFTMAX)(scores, attention_mask))
            kept = parts.dropout(probabilities, training=training)
            context = rounded["context"](ops.einsum(parts.context_equation, kept, value))
            return context, probabilities

        with replaced(layer, parts.method, lambda original: attend):
            yield
