"""Two distillers that have every kind of loss between them, in one compiled step each, on any backend."""

import warnings

import keras
import numpy as np

import keras_kd as kd
from keras_kd import losses
from keras_kd.errors import Notice

L = keras.layers
NUM_CLASSES, TOKENS, VOCABULARY = 5, 4, 7
NAMES = ("images", "tokens")
STEPS = 3


def image_model(width):
    inputs = keras.Input((6, 6, 1))
    x = L.Conv2D(width, 3, padding="same", name="first")(inputs)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU(name="relu")(x)
    x = L.Conv2D(width, 3, strides=2, padding="same", activation="relu", name="second")(x)
    x = L.Reshape((9, width), name="views")(x)
    x = L.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, L.Dense(NUM_CLASSES, name="head")(x))


def token_model(width):
    """A transformer layer over token ids, of which 0 is padding."""
    ids = keras.Input((TOKENS,), dtype="int32")
    x = L.Embedding(VOCABULARY, width, mask_zero=True, name="embedding")(ids)
    x = L.Add()([x, L.MultiHeadAttention(2, 3, name="attention")(x, x)])
    x = L.LayerNormalization(name="hidden")(x)
    return keras.Model(ids, L.Dense(VOCABULARY, name="head")(x))


def image_terms(teacher):
    names = ("relu", "pool", "views", ["relu", "second"])
    maps, vector, views, pair = ({"teacher": name, "student": name} for name in names)
    entries = {"teacher": ["norm"], "student": ["norm"]}
    decay = kd.schedules.Cosine(1.0, 0.0, steps=10)
    return [
        losses.SoftTargets(),
        losses.DecoupledKD(),
        losses.LogitRegression(),
        losses.LogitStandardization(losses.SoftTargets(name="inner")),
        losses.CorrelationKD(),
        losses.OutputRegression(difference="huber"),
        losses.Weighted(losses.SoftTargets(name="weighted"), decay, examples="confidence"),
        losses.Hint(**maps),
        losses.AttentionTransfer(**maps),
        losses.NeuronSelectivity(**maps),
        losses.VariationalInformation(**maps),
        losses.FlowOfSolution(**pair),
        losses.KnowledgeReview(**pair, channels=4),
        losses.FeatureOverhaul(**entries),
        losses.SimilarityPreserving(**vector),
        losses.RelationalKD(**vector),
        losses.ProbabilisticTransfer(**vector),
        losses.ContrastiveKD(**vector, memory_size=8),
        losses.InterChannelCorrelation(**maps),
        losses.CorrelationCongruence(**vector),
        losses.ActivationBoundaries(**entries),
        losses.FactorTransfer(**maps),
        losses.SoftmaxRegression(teacher.get_layer("head"), student="relu"),
        losses.ChannelWiseKD(**maps),
        losses.SingularValueKD(**pair),
        losses.PrimeAwareKD(losses.Hint(name="weighted_by_variance", **maps)),
        losses.KnowledgeAdaptation(**maps),
        losses.AffinityKD(**maps),
        losses.SelfSupervisedKD(**views),
        keras.distillation.LogitsDistillation(temperature=2.0, loss=keras.losses.KLDivergence()),
        keras.losses.LogCosh(),
        keras.losses.mean_absolute_error,
    ]


def token_terms():
    same = {part: (name, name) for part, name in (("hidden", "hidden"), ("embeddings", "embedding"))}
    return [
        losses.TokenLevel(temperature=2.0),
        losses.SequenceLevel(),
        losses.TransformerLayers(attention=("attention:raw_scores", "attention:raw_scores"), **same),
    ]


def make(name):
    """A compiled distiller, and its data."""
    rng = np.random.default_rng(0)
    if name == "images":
        teacher, student, y = image_model(6), image_model(4), np.arange(8) % NUM_CLASSES
        terms = image_terms(teacher)
        x = rng.normal(size=(8, 6, 6, 1)).astype("float32")
    else:
        teacher, student, terms = token_model(6), token_model(4), token_terms()
        x = y = np.where(
            np.arange(TOKENS) < rng.integers(2, TOKENS + 1, (8, 1)), rng.integers(1, VOCABULARY, (8, 4)), 0
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # about projectors
        distiller = kd.Distiller(teacher, student, losses=terms, temperature=3.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.01), loss=loss)
    return distiller, (x, y)


def weights_of(distiller):
    return [*distiller.teacher.model.get_weights(), *distiller.get_weights()]


def write_weights(folder):
    """Writes the initial weights of teachers, students and losses, from which both backends start."""
    for name in NAMES:
        distiller, _ = make(name)
        np.savez(folder / f"every_loss_{name}.npz", *weights_of(distiller))


def run(folder):
    """The trained weights and the logs of each step, by name."""
    weights, logs = {}, {}
    for name in NAMES:
        distiller, data = make(name)
        with np.load(folder / f"every_loss_{name}.npz") as stored:
            initial = list(stored.values())
        num_of_teacher = len(distiller.teacher.model.weights)
        distiller.teacher.model.set_weights(initial[:num_of_teacher])
        distiller.set_weights(initial[num_of_teacher:])
        steps = [distiller.train_on_batch(*data, return_dict=True) for _ in range(STEPS)]
        logs[name] = [{key: float(value) for key, value in step.items()} for step in steps]
        weights[name] = distiller.get_weights()
    return weights, logs
