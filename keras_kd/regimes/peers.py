"""Several models as one with an output each, and models that share their first layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features import find_place
from keras_kd.features.outputs import is_graph
from keras_kd.regimes.exits import operations_of

ENSEMBLE = "ensemble"


def branches(model: keras.Model, *, at: str, num_branches: int = 3) -> list[keras.Model]:
    """Models that share the layers of `model` up to the layer `at`; each has the rest for itself.

    The first is `model`; the rest of the others has its structure and new initial weights.

    Source: Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", 2018.

    Args:
        model: a Functional or Sequential model with one output.
        at: the path of the last shared layer, a layer of the model itself.
        num_branches: at least 2.

    Raises:
        ConfigurationError: a model without a graph, an unknown layer, or later layers that also read earlier ones.
    """
    check_integer("num_branches", num_branches, at_least=2)
    if not is_graph(model) or len(model.outputs) != 1:
        raise ConfigurationError(
            explain(
                "Branches need a model that is a graph of layers with one output.",
                received=f"a {type(model).__name__}",
                expected="a Functional model, or a Sequential model with an Input",
            )
        )
    place = find_place(model, at)
    if not any(place.operation is operation for operation in operations_of(model)):
        problem = f"The layer {at!r} is inside a nested model."
        raise ConfigurationError(explain(problem, received=at, expected="a layer of the model itself"))
    shared = place.operation.output
    try:
        rest = keras.Model(shared, model.outputs[0])
    except ValueError:
        raise ConfigurationError(
            explain(
                f"Layers after {at!r} also read layers before it, so the model cannot be split there.",
                received=at,
                expected="a layer through which everything passes, such as the end of a stage",
            )
        ) from None
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    made = [keras.Model(inputs, model.outputs[0], name=f"{model.name}_1")]
    for number in range(2, num_branches + 1):
        copy = keras.models.clone_model(rest)
        own = keras.Model(copy.inputs, copy.outputs[0], name=f"branch_{number}")
        made.append(keras.Model(inputs, own(shared), name=f"{model.name}_{number}"))
    return made


def joined(peers: Sequence[keras.Model]) -> keras.Model:
    """A model that returns the output of each peer by its name; peers of the same name are numbered.

    Peers that were built on the same inputs share what they share: it is computed once.

    Raises:
        ConfigurationError: fewer than two peers, a peer that is not built, the same peer twice, several outputs, or
            different inputs or outputs.
    """
    _check(peers)
    names = unique_names([peer.name for peer in peers])
    first = peers[0]
    if all(is_graph(peer) and [*map(id, peer.inputs)] == [*map(id, first.inputs)] for peer in peers):
        inputs = first.inputs
        outputs = {name: peer.outputs[0] for name, peer in zip(names, peers, strict=True)}
    else:
        inputs = [keras.Input(batch_shape=(None, *one.shape[1:]), dtype=one.dtype) for one in _inputs(first)]
        outputs = {}
        for name, peer in zip(names, peers, strict=True):
            own = peer if not is_graph(peer) else keras.Model(peer.inputs, peer.outputs[0], name=name)
            outputs[name] = own(inputs[0] if len(inputs) == 1 else inputs)
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name="peers")


def gated(student: keras.Model) -> keras.Model:
    """The peers of `joined` and their ensemble: the sum of their logits, weighted by a gate on their shared features.

    The gate is a dense layer on the pooled features, followed by batch normalization, ReLU and softmax.

    Source: Lan, Zhu & Gong, "Knowledge Distillation by On-the-Fly Native Ensemble", 2018, section 3.

    Raises:
        ConfigurationError: the peers share no layers.
    """
    outputs = dict(student.output)
    features = _shared_features(student, list(outputs.values()))
    if len(features.shape) > 2:
        pool = {3: layers.GlobalAveragePooling1D, 4: layers.GlobalAveragePooling2D, 5: layers.GlobalAveragePooling3D}
        features = pool[len(features.shape)](name="gate_pool")(features)
    gate = layers.Dense(len(outputs), name="gate_logits")(features)
    gate = layers.ReLU(name="gate_relu")(layers.BatchNormalization(name="gate_norm")(gate))
    gate = layers.Softmax(name="gate")(gate)
    rows = [layers.Reshape((1, logits.shape[-1]), name=f"{name}_row")(logits) for name, logits in outputs.items()]
    stacked = layers.Concatenate(axis=1, name="branch_logits")(rows)
    outputs[ENSEMBLE] = layers.Dot(axes=(1, 1), name=ENSEMBLE)([gate, stacked])
    return keras.Model(student.input, outputs, name=student.name)


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, numbered from 1 where several are equal.

    >>> unique_names(["a", "b", "a"])
    ['a_1', 'b', 'a_2']
    """
    counts: dict[str, int] = {}
    made = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        made.append(f"{name}_{counts[name]}" if names.count(name) > 1 else name)
    return made


def _shared_features(student: keras.Model, outputs: list[Any]) -> Any:
    """The last tensor that all outputs are computed from."""
    graphs = [keras.Model(student.input, output).operations for output in outputs]
    common = set.intersection(*({id(operation) for operation in graph} for graph in graphs))
    shared = [one for one in graphs[0] if id(one) in common and not isinstance(one, layers.InputLayer)]
    if not shared:
        raise ConfigurationError(
            explain(
                "The method 'one' needs peers that share their first layers.",
                received="peers without common layers",
                expected="branches of one model",
                fix="MutualDistiller(kd.regimes.branches(model, at='stage_2', num_branches=3), method='one').",
            )
        )
    return shared[-1].output


def _inputs(peer: Any) -> list[Any]:
    given = getattr(peer, "inputs", None)
    if given:
        return given
    shape = (peer.get_build_config() or {}).get("input_shape")
    return [keras.KerasTensor(shape, dtype=peer.input_dtype)] if isinstance(shape, (list, tuple)) else []


def _check(peers: Any) -> None:
    is_list = isinstance(peers, (list, tuple))
    if not is_list or len(peers) < 2 or not all(isinstance(peer, keras.Model) for peer in peers):
        received = f"a list of {len(peers)}" if is_list else f"a {type(peers).__name__}"
        raise ConfigurationError(
            explain("Mutual learning needs several Keras models.", received=received, expected="at least two peers")
        )
    if len({id(peer) for peer in peers}) < len(peers):
        raise ConfigurationError(
            explain(
                "The same model is given twice: a peer would learn from itself.",
                received=", ".join(peer.name for peer in peers),
                expected="different models",
                fix="Build the model once for each peer.",
            )
        )
    unbuilt = [peer.name for peer in peers if not peer.built or not _inputs(peer)]
    if unbuilt:
        raise ConfigurationError(
            explain(
                "A peer is not built.",
                received=unbuilt[0],
                expected="built models",
                fix="Call it, or give it an Input.",
            )
        )
    shapes = {peer.name: ([tuple(one.shape[1:]) for one in _inputs(peer)], _outputs(peer)) for peer in peers}
    if len({str(shape) for shape in shapes.values()}) > 1 or any(len(outputs) != 1 for _, outputs in shapes.values()):
        listed = "; ".join(f"{name}: {inputs} to {outputs}" for name, (inputs, outputs) in shapes.items())
        raise ConfigurationError(
            explain(
                "Peers need the same inputs and one output of the same shape each.",
                received=listed,
                expected="equal shapes",
            )
        )


def _outputs(peer: keras.Model) -> list[tuple[int | None, ...]]:
    made = getattr(peer, "outputs", None) or keras.tree.flatten(peer.compute_output_spec(*_inputs(peer)))
    return [tuple(one.shape[1:]) for one in made]
