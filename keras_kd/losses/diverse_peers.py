"""Online distillation with diverse peers (Chen et al., 2020): every peer weighs the others for targets of its own."""

from __future__ import annotations

from typing import Any

from keras import layers, ops

from keras_kd.errors import ConfigurationError, check_integer, explain
from keras_kd.features.projectors import published_uniform
from keras_kd.features.shapes import same_shape
from keras_kd.losses.base import registry
from keras_kd.losses.logits import LogitsLoss, soft_targets
from keras_kd.losses.numerics import upcast


def attended_logits(logits: Any, queries: Any, keys: Any) -> Any:
    """For each peer, the sum of all peers' logits, weighted by how well their keys fit its query.

        targets[a] = sum over b of softmax over b (queries[a] . keys[b]) * logits[b]

    The paper weighs the peers' probabilities; this function weighs their logits, as the published code does.

    Source: Chen, Mei, Wang, Feng & Chen, "Online Knowledge Distillation with Diverse Peers", AAAI 2020, section 3.

    Args:
        logits: `[batch, peers, classes]`.
        queries, keys: `[batch, peers, size]`.

    Returns:
        `[batch, peers, classes]`.

    >>> logits = ops.array([[[4.0, 0.0], [0.0, 2.0]]])
    >>> zeros = ops.zeros((1, 2, 3))
    >>> ops.convert_to_numpy(attended_logits(logits, zeros, zeros)).tolist()
    [[[2.0, 1.0], [2.0, 1.0]]]
    """
    weights = ops.softmax(ops.einsum("bas,bcs->bac", queries, keys), axis=-1)
    return ops.matmul(weights, logits)


@registry.register
class DiversePeers(LogitsLoss):
    """Trains peers on targets that each weighs for itself, and a leader on their mean (OKDDip).

        loss = KL(mean of the peers' logits || leader) + sum over peers of KL(attended_logits || peer)

    Each divergence is `soft_targets`. Unlike those of other losses, the targets have a gradient, as in the published
    code: it trains the layers that make queries and keys from the features, and the peers that are attended to. Peers
    whose features have the same size share these layers.

    Source: as for `attended_logits`; DefangChen/OKDDip-AAAI2020.

    Args:
        temperature: a number or a schedule; None uses the distiller's (3 in the published code).
        factor: the size of the features, the smallest if they differ, over that of queries and keys.
        options: `student`, what to read: the logits of the leader, those of at least two peers, and the features of
            these peers, in this order; `teacher`, which is not used; `name`, `reduction`, see `DistillationLoss`.
    """

    several_taps = True

    def __init__(self, temperature: Any = None, *, factor: int = 8, **options: Any):
        super().__init__(temperature, **options)
        self.factor = check_integer("factor", factor, at_least=1)
        self._projections: dict[int, tuple[layers.Dense, layers.Dense]] = {}

    def build(self, teacher_shape, student_shape):
        _, features = _parted(self.name, [tuple(shape) for shape in student_shape])
        sizes = sorted({shape[-1] for shape in features})
        units = max(1, sizes[0] // self.factor)
        for size in sizes:
            self._projections[size] = self._projection("query", size, units), self._projection("key", size, units)

    def _projection(self, name: str, size: int, units: int) -> layers.Dense:
        name = f"{name}_{size}"
        dense = layers.Dense(units, use_bias=False, kernel_initializer=published_uniform(), dtype="float32", name=name)
        dense.build((None, size))
        setattr(self, f"_{name}", dense)  # tracked
        return dense

    def call(self, teacher, student, context):
        (leader, *peers), features = _parted(self.name, upcast(*student))
        features = [ops.mean(values, axis=tuple(range(1, len(values.shape) - 1))) for values in features]
        queries, keys = (
            ops.stack([self._projections[values.shape[-1]][which](values) for values in features], axis=1)
            for which in (0, 1)
        )
        logits, temperature = ops.stack(peers, axis=1), self.temperature_in(context)
        diverse = soft_targets(attended_logits(logits, queries, keys), logits, temperature)
        return ops.sum(diverse, axis=1) + soft_targets(ops.mean(logits, axis=1), leader, temperature)

    def validate_outputs(self, teacher_outputs, student_outputs):
        _parted(self.name, [tuple(values.shape) for values in student_outputs])

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def _parted(name: str, values: list[Any]) -> tuple[list[Any], list[Any]]:
    """The logits and the features, from a list of tensors or of their shapes.

    Raises:
        ConfigurationError: too few of them, or logits of different shapes.
    """
    num_peers = (len(values) - 1) // 2
    logits, features = values[: num_peers + 1], values[num_peers + 1 :]
    shapes = [getattr(value, "shape", value) for value in values]
    fit = all(len(shape) == 2 and same_shape(shape, shapes[0]) for shape in shapes[: num_peers + 1])
    if num_peers < 2 or len(values) % 2 == 0 or not fit or any(shape[-1] is None for shape in shapes):
        raise ConfigurationError(
            explain(
                f"The loss {name!r} compares a leader with at least two peers.",
                received=f"shapes {', '.join(map(str, shapes))}",
                expected="logits [batch, classes] of the leader and of each peer, then features [batch, ..., size] of "
                "each peer",
            )
        )
    return logits, features
