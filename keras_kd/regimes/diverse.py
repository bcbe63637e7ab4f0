"""The default term of peers that weigh each other by attention."""

from __future__ import annotations

from typing import Any

import keras

from keras_kd.distillers.defaults import DefaultTerms, terms_that_follow
from keras_kd.errors import ConfigurationError, explain
from keras_kd.features.outputs import symbolic_outputs
from keras_kd.features.paths import layers_by_path
from keras_kd.losses import DiversePeers, SoftTargets
from keras_kd.transfer.class_layer import find_class_layer, width_of


class DiverseTerms(DefaultTerms):
    """`DiversePeers` between the outputs of a model, of which the first is the leader.

    Raises:
        ConfigurationError: fewer than three outputs, or an output whose features cannot be found.
    """

    def __init__(self, student: keras.Model):
        _, *peers = names = list(symbolic_outputs(student))
        if len(peers) < 2:
            raise ConfigurationError(
                explain(
                    "The method 'okddip' needs a leader and at least two peers.",
                    received=f"{len(names)} peers: {', '.join(names)}",
                    expected="at least three peers",
                )
            )
        taps = [*names, *(_features_of(student, name) for name in peers)]
        self._names, self.kept = names, (DiversePeers(teacher=names, student=taps, name="diverse_peers"),)

    def provisional(self, teacher_shapes, student_shapes, heads):
        return list(self.kept)

    def that_follow(self, loss, terms, heads, student_shapes, ends):
        pairs = [SoftTargets(teacher=name, student=name) for name in self._names]
        for term in terms_that_follow(loss, pairs, heads, student_shapes, ends):
            _check_classes(term)
        return terms


def _check_classes(term: Any) -> None:
    if not isinstance(term, SoftTargets) or term.activation != "softmax":
        raise ConfigurationError(
            explain(
                "The method 'okddip' compares the probabilities of exclusive classes.",
                received=f"a loss and final layers to which {type(term).__name__} fits",
                expected="a categorical cross-entropy, and peers that end in logits or a softmax",
            )
        )


def _features_of(student: keras.Model, output: str) -> str:
    """The path of what the class layer of an output reads."""
    tensor = symbolic_outputs(student)[output]
    layer = find_class_layer(tensor).layer
    if width_of(layer) != tensor.shape[-1]:
        raise ConfigurationError(
            explain(
                f"The features of the peer {output!r} cannot be found.",
                received=f"a peer that ends in {layer.name!r} ({type(layer).__name__})",
                expected="a graph of layers that ends in a dense layer or 1x1 convolution on the features",
            )
        )
    return next(f"{path}:input" for path, found in layers_by_path(student).items() if found is layer)
