"""One row per loss with its inputs, shared by test_contract.py, test_laws.py and test_jax.py."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_kd import schedules
from keras_kd.losses import (
    ActivationBoundaries,
    AffinityKD,
    AttentionTransfer,
    ChannelWiseKD,
    Context,
    ContrastiveKD,
    CorrelationCongruence,
    CorrelationKD,
    DecoupledKD,
    DiversePeers,
    FactorTransfer,
    FeatureOverhaul,
    FlowOfSolution,
    Hint,
    InterChannelCorrelation,
    KnowledgeAdaptation,
    KnowledgeReview,
    LogitRegression,
    LogitStandardization,
    NeuronSelectivity,
    OutputRegression,
    PrimeAwareKD,
    ProbabilisticTransfer,
    RelationalKD,
    SelfSupervisedKD,
    SequenceLevel,
    SimilarityPreserving,
    SingularValueKD,
    SoftmaxRegression,
    SoftTargets,
    TokenLevel,
    TransformerLayers,
    VariationalInformation,
    Weighted,
    get,
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss and its inputs.

    Attributes:
        make: creates a new loss.
        teacher, student: shapes without the batch axis; a list of shapes for a loss that reads several taps.
        is_zero: whether the loss is 0 when the student equals the teacher.
        labels: whether it needs labels.
        positions: whether the axes after the batch axis are positions that a Keras mask or a weight can exclude.
        adds_up: whether the loss of a padded example equals that of the unpadded example.
        kinks: the points of test_laws.py at which the loss is not differentiable.
        name: its key in the table.
        stops_gradient: whether its gradient differs from its derivative by design.
    """

    make: Any
    teacher: Any = (10,)
    student: Any = (10,)
    is_zero: bool = True
    labels: bool = False
    positions: bool = False
    adds_up: bool = True
    kinks: tuple = ()
    stops_gradient: bool = False
    name: str = ""


def transformer_layers():
    return TransformerLayers(attention=("a", "a"), hidden=("b", "b"), embeddings=("c", "c"))


def pair(teacher_shape, student_shape):
    """Standard normal float64 features of the teacher and the student."""
    rng = np.random.default_rng(0)
    return rng.normal(size=teacher_shape), rng.normal(size=student_shape)


def softmax_regression(channels, **settings):
    """With a classifier of 3 classes."""
    kernel, bias = pair((channels, 3), (3,))
    return lambda: SoftmaxRegression((kernel, bias), **settings)


MAP, SMALL_MAP = (6, 6, 5), (6, 6, 3)
MAPS, SMALL_MAPS = [MAP, (3, 3, 4)], [SMALL_MAP, (3, 3, 4)]
TOKENS, SMALL_TOKENS = (4, 6), (4, 3)
DEAD = ("a dead channel",)  # the direction of a zero vector
ALL_OFF = ("zeros",)  # all inputs of a ReLU are off
NO_DIRECTION = ("zeros",)  # some of the vectors are zeros
PEERS = [*[(10,)] * 3, (16,), (8,)]  # logits of a leader and two peers, features of these
LOGITS = {"teacher": (4, 10), "student": (4, 10), "positions": True}
SAME = {"teacher": TOKENS, "student": TOKENS, "positions": True}
OTHER = {"teacher": TOKENS, "student": SMALL_TOKENS, "positions": True, "is_zero": False}
ROWS = {
    "soft_targets": Row(lambda: SoftTargets(temperature=3.0)),
    "soft_targets, the distiller's temperature": Row(SoftTargets),
    "soft_targets, scheduled": Row(lambda: SoftTargets(temperature=schedules.Linear(8.0, 1.0, steps=10))),
    "soft_targets, sigmoid": Row(lambda: SoftTargets(temperature=3.0, activation="sigmoid")),
    "soft_targets, reverse": Row(lambda: SoftTargets(divergence="reverse_kl")),
    "soft_targets, jensen_shannon": Row(lambda: SoftTargets(divergence="jensen_shannon")),
    "soft_targets, dense": Row(SoftTargets, (3, 2, 10), (3, 2, 10)),
    "weighted": Row(lambda: Weighted(SoftTargets(temperature=2.0), 0.25)),
    "weighted, scheduled": Row(lambda: Weighted(SoftTargets(), schedules.Cosine(1.0, 0.0, steps=10))),
    "weighted, by confidence": Row(lambda: Weighted(SoftTargets(), examples="confidence")),
    "hint": Row(Hint, MAP, MAP),
    "hint, l1": Row(lambda: Hint(metric="l1"), MAP, MAP),
    "hint, cosine": Row(lambda: Hint(metric="cosine"), (7,), (7,)),
    "hint, projected": Row(Hint, MAP, SMALL_MAP, is_zero=False),
    "logit_regression": Row(LogitRegression),
    "output_regression": Row(lambda: OutputRegression(difference="huber")),
    "output_regression, squared": Row(OutputRegression),
    "output_regression, absolute": Row(lambda: OutputRegression(difference="absolute")),
    "logit_standardization": Row(lambda: LogitStandardization(SoftTargets(temperature=2.0))),
    "decoupled_kd": Row(DecoupledKD, labels=True),
    "correlation_kd": Row(lambda: CorrelationKD(temperature=2.0)),
    "diverse_peers": Row(DiversePeers, PEERS, PEERS, is_zero=False),
    "token_level": Row(TokenLevel, (4, 7), (4, 7), is_zero=False),
    "sequence_level": Row(SequenceLevel, (4, 7), (4, 7), is_zero=False),
    "attention_transfer": Row(AttentionTransfer, MAP, MAP),
    "attention_transfer, other size": Row(lambda: AttentionTransfer(power=3), MAP, (4, 4, 3), is_zero=False),
    "neuron_selectivity": Row(NeuronSelectivity, MAP, MAP, kinks=DEAD),
    "neuron_selectivity, other size": Row(NeuronSelectivity, MAP, (4, 4, 3), is_zero=False, kinks=DEAD),
    "flow_of_solution": Row(FlowOfSolution, MAPS, MAPS),
    "flow_of_solution, projected": Row(FlowOfSolution, MAPS, SMALL_MAPS, is_zero=False),
    "feature_overhaul": Row(lambda: FeatureOverhaul(projector="auto"), MAPS, MAPS),
    "feature_overhaul, connected": Row(FeatureOverhaul, MAPS, SMALL_MAPS, is_zero=False),
    "similarity_preserving": Row(SimilarityPreserving, (7,), (7,)),
    "relational_kd": Row(RelationalKD, (7,), (7,)),
    "probabilistic_transfer": Row(ProbabilisticTransfer, (7,), (7,)),
    "contrastive_kd": Row(ContrastiveKD, (7,), (5,), is_zero=False, stops_gradient=True),
    "contrastive_kd, memory": Row(lambda: ContrastiveKD(memory_size=8), (7,), (5,), is_zero=False, stops_gradient=True),
    "variational_information": Row(VariationalInformation, MAP, SMALL_MAP, is_zero=False, kinks=ALL_OFF),
    "knowledge_review": Row(lambda: KnowledgeReview(channels=4), MAPS, SMALL_MAPS, is_zero=False),
    "transformer_layers": Row(transformer_layers, [(2, 4, 4), (4, 6), (4, 6)], [(2, 4, 4), (4, 6), (4, 6)]),
    "transformer_layers, other width": Row(
        transformer_layers, [(2, 4, 4), (4, 6), (4, 6)], [(2, 4, 4), (4, 5), (4, 5)], is_zero=False
    ),
    "channel_wise_kd, projected": Row(ChannelWiseKD, MAP, SMALL_MAP, is_zero=False),
    "singular_value_kd, projected": Row(lambda: SingularValueKD(num_vectors=2), MAPS, SMALL_MAPS, is_zero=False),
    "prime_aware_kd, projected": Row(lambda: PrimeAwareKD(Hint()), MAP, SMALL_MAP, is_zero=False),
    "affinity_kd": Row(AffinityKD, MAP, MAP, kinks=NO_DIRECTION),
    "knowledge_adaptation": Row(KnowledgeAdaptation, MAP, (3, 3, 3), is_zero=False),
    "self_supervised_kd": Row(SelfSupervisedKD, (4, 7), (4, 5), is_zero=False, kinks=NO_DIRECTION),
    # sequences with optional padding
    "soft_targets, tokens": Row(SoftTargets, **LOGITS),
    "weighted, tokens": Row(lambda: Weighted(SoftTargets(), 0.5, examples="confidence"), **LOGITS),
    "logit_regression, tokens": Row(LogitRegression, **LOGITS),
    "logit_standardization, tokens": Row(lambda: LogitStandardization(SoftTargets(temperature=2.0)), **LOGITS),
    "decoupled_kd, tokens": Row(DecoupledKD, **LOGITS),
    "correlation_kd, tokens": Row(lambda: CorrelationKD(temperature=2.0), **LOGITS),
    "token_level, tokens": Row(TokenLevel, **LOGITS, is_zero=False),
    "sequence_level, tokens": Row(SequenceLevel, **LOGITS, is_zero=False),
    "hint, tokens": Row(Hint, **SAME),
    "hint, tokens, weighted": Row(lambda: Weighted(Hint(), 2.0, examples="confidence"), **SAME),
    "hint, tokens, l1": Row(lambda: Hint(metric="l1"), **SAME),
    "hint, tokens, cosine": Row(lambda: Hint(metric="cosine"), **SAME),
    "hint, tokens, projected": Row(Hint, **OTHER),
    "feature_overhaul, tokens": Row(lambda: FeatureOverhaul(projector=None), [TOKENS], [TOKENS], positions=True),
    "feature_overhaul, tokens, connected": Row(
        FeatureOverhaul, [TOKENS], [SMALL_TOKENS], positions=True, is_zero=False
    ),
    "similarity_preserving, tokens": Row(SimilarityPreserving, **SAME),
    "relational_kd, tokens": Row(RelationalKD, **SAME),
    "probabilistic_transfer, tokens": Row(ProbabilisticTransfer, **SAME),
    "contrastive_kd, tokens": Row(lambda: ContrastiveKD(memory_size=8), **OTHER, adds_up=False, stops_gradient=True),
    "variational_information, tokens": Row(VariationalInformation, **OTHER, kinks=ALL_OFF),
    "transformer_layers, tokens": Row(
        lambda: TransformerLayers(hidden=("b", "b"), embeddings=("c", "c")),
        [TOKENS, TOKENS],
        [SMALL_TOKENS, SMALL_TOKENS],
        positions=True,
        is_zero=False,
    ),
    "channel_wise_kd, tokens": Row(ChannelWiseKD, **SAME),
    "singular_value_kd, tokens": Row(SingularValueKD, [TOKENS, TOKENS], [TOKENS, TOKENS], positions=True),
    "prime_aware_kd, tokens": Row(lambda: PrimeAwareKD(SoftTargets()), **LOGITS, is_zero=False),
    "inter_channel_correlation": Row(lambda: InterChannelCorrelation(projector="auto"), MAP, MAP, kinks=DEAD),
    "inter_channel_correlation, grid": Row(lambda: InterChannelCorrelation(grid=2), MAP, SMALL_MAP, is_zero=False),
    "inter_channel_correlation, tokens": Row(
        lambda: InterChannelCorrelation(projector=None), **SAME, kinks=DEAD + ALL_OFF
    ),
    "inter_channel_correlation, tokens, projected": Row(InterChannelCorrelation, **OTHER, kinks=DEAD),
    "correlation_congruence": Row(CorrelationCongruence, (7,), (5,), is_zero=False),
    "correlation_congruence, tokens": Row(CorrelationCongruence, **SAME),
    "correlation_congruence, embedded": Row(lambda: CorrelationCongruence(embedding_size=4), **OTHER, adds_up=False),
    "activation_boundaries": Row(ActivationBoundaries, MAPS, MAPS, is_zero=False),
    "activation_boundaries, connected": Row(ActivationBoundaries, MAPS, SMALL_MAPS, is_zero=False),
    "activation_boundaries, tokens": Row(ActivationBoundaries, [TOKENS], [SMALL_TOKENS], positions=True, is_zero=False),
    "factor_transfer": Row(FactorTransfer, MAP, SMALL_MAP, is_zero=False),
    "factor_transfer, squares": Row(lambda: FactorTransfer(power=2, rate=1.0), MAP, (4, 4, 3), is_zero=False),
    "softmax_regression": Row(softmax_regression(5), (5,), SMALL_MAP, is_zero=False),
    "softmax_regression, tokens": Row(softmax_regression(6, metric="kl"), **OTHER),
    # adapted losses
    "keras loss": Row(lambda: get(keras.losses.MeanSquaredError()), **LOGITS),
    "keras loss, huber": Row(lambda: get(keras.losses.Huber(delta=2.0)), **LOGITS),
    "keras loss, logarithm of cosh": Row(lambda: get(keras.losses.LogCosh()), **LOGITS),
    "keras loss, absolute error": Row(lambda: get(keras.losses.MeanAbsoluteError()), **LOGITS),
    "keras loss, cosine": Row(lambda: get(keras.losses.CosineSimilarity()), **LOGITS, is_zero=False),
    "keras function": Row(lambda: get(keras.losses.mean_squared_error), **LOGITS),
    "keras distillation": Row(
        lambda: get(keras.distillation.LogitsDistillation(temperature=3.0, loss=keras.losses.KLDivergence())), **LOGITS
    ),
    "keras distillation, features": Row(lambda: get(keras.distillation.FeatureDistillation()), **LOGITS),
}


ROWS = {name: dataclasses.replace(row, name=name) for name, row in ROWS.items()}


def draw(shapes, batch=6, seed=0):
    """Standard normal features of these shapes."""
    rng = np.random.default_rng(seed)
    several = isinstance(shapes, list)
    drawn = [(3 * rng.normal(size=(batch, *shape))).astype("float32") for shape in (shapes if several else [shapes])]
    return drawn if several else drawn[0]


def each(function, tensors):
    return [function(tensor) for tensor in tensors] if isinstance(tensors, list) else function(tensors)


def context(row, rows=slice(None), batch=6):
    labels = np.arange(batch)[rows] % 10 if row.labels else None
    return Context(step=4, temperature=2.5, labels=labels, training=False)


def value(loss, row, teacher, student, rows=slice(None), **settings):
    about = context(row, rows, len(teacher[0] if isinstance(teacher, list) else teacher))
    return float(loss(each(lambda x: x[rows], teacher), each(lambda x: x[rows], student), context=about, **settings))
