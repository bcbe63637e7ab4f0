"""Distillation losses: each measures how far the student is from the teacher."""

from keras_kd.losses.adaptation import KnowledgeAdaptation, adaptation
from keras_kd.losses.affinity import AffinityKD, affinity_kd
from keras_kd.losses.attention import AttentionTransfer, attention_map, attention_transfer
from keras_kd.losses.base import Context, DistillationLoss
from keras_kd.losses.boundaries import ActivationBoundaries, activation_boundaries
from keras_kd.losses.channel_wise import ChannelWiseKD, channel_wise_kd
from keras_kd.losses.congruence import CorrelationCongruence, correlation_congruence
from keras_kd.losses.contrastive import ContrastiveKD, contrastive_kd
from keras_kd.losses.correlation import CorrelationKD, correlation_kd
from keras_kd.losses.decoupled import DecoupledKD, decoupled_kd
from keras_kd.losses.diverse_peers import DiversePeers, attended_logits
from keras_kd.losses.example_weights import confidence_weights, correctness_weights, entropy_weights
from keras_kd.losses.factor_transfer import FactorTransfer, Paraphraser, factor_transfer
from keras_kd.losses.flow import FlowOfSolution, flow_matrix, flow_of_solution
from keras_kd.losses.hints import Hint, hint
from keras_kd.losses.inter_channel import InterChannelCorrelation, inter_channel_correlation
from keras_kd.losses.logit_standardization import LogitStandardization, standardize_logits
from keras_kd.losses.logits import SoftTargets, binary_soft_targets, soft_targets
from keras_kd.losses.overhaul import FeatureOverhaul, feature_overhaul, margins_from_batch_norm, margins_from_features
from keras_kd.losses.prime_aware import PrimeAwareKD, prime_aware
from keras_kd.losses.probabilistic import ProbabilisticTransfer, probabilistic_transfer
from keras_kd.losses.reconstruction import AutoEncoder, reconstruction
from keras_kd.losses.regression import LogitRegression, OutputRegression, logit_regression, output_regression
from keras_kd.losses.relational import RelationalKD, relational_angle, relational_distance
from keras_kd.losses.review import KnowledgeReview, knowledge_review
from keras_kd.losses.selectivity import NeuronSelectivity, neuron_selectivity
from keras_kd.losses.self_supervised import SelfSupervisedKD, contrastive_prediction, self_supervised_kd
from keras_kd.losses.sequence import SequenceLevel, TokenLevel, sequence_level, token_level
from keras_kd.losses.similarity import SimilarityPreserving, similarity_preserving
from keras_kd.losses.single_tap_parts import for_keras
from keras_kd.losses.singular_value import SingularValueKD, singular_value_kd, singular_vectors
from keras_kd.losses.softmax_regression import SoftmaxRegression, softmax_regression
from keras_kd.losses.transformer import TransformerLayers, attention_scores, embeddings, hidden_states, layer_map
from keras_kd.losses.variational import VariationalInformation, variational_information
from keras_kd.losses.weighted import Weighted, get

__all__ = [
    "ActivationBoundaries",
    "AffinityKD",
    "AttentionTransfer",
    "AutoEncoder",
    "ChannelWiseKD",
    "Context",
    "ContrastiveKD",
    "CorrelationCongruence",
    "CorrelationKD",
    "DecoupledKD",
    "DistillationLoss",
    "DiversePeers",
    "FactorTransfer",
    "FeatureOverhaul",
    "FlowOfSolution",
    "Hint",
    "InterChannelCorrelation",
    "KnowledgeAdaptation",
    "KnowledgeReview",
    "LogitRegression",
    "LogitStandardization",
    "NeuronSelectivity",
    "OutputRegression",
    "Paraphraser",
    "PrimeAwareKD",
    "ProbabilisticTransfer",
    "RelationalKD",
    "SelfSupervisedKD",
    "SequenceLevel",
    "SimilarityPreserving",
    "SingularValueKD",
    "SoftTargets",
    "SoftmaxRegression",
    "TokenLevel",
    "TransformerLayers",
    "VariationalInformation",
    "Weighted",
    "activation_boundaries",
    "adaptation",
    "affinity_kd",
    "attended_logits",
    "attention_map",
    "attention_scores",
    "attention_transfer",
    "binary_soft_targets",
    "channel_wise_kd",
    "confidence_weights",
    "contrastive_kd",
    "contrastive_prediction",
    "correctness_weights",
    "correlation_congruence",
    "correlation_kd",
    "decoupled_kd",
    "embeddings",
    "entropy_weights",
    "factor_transfer",
    "feature_overhaul",
    "flow_matrix",
    "flow_of_solution",
    "for_keras",
    "get",
    "hidden_states",
    "hint",
    "inter_channel_correlation",
    "knowledge_review",
    "layer_map",
    "logit_regression",
    "margins_from_batch_norm",
    "margins_from_features",
    "neuron_selectivity",
    "output_regression",
    "prime_aware",
    "probabilistic_transfer",
    "reconstruction",
    "relational_angle",
    "relational_distance",
    "self_supervised_kd",
    "sequence_level",
    "similarity_preserving",
    "singular_value_kd",
    "singular_vectors",
    "soft_targets",
    "softmax_regression",
    "standardize_logits",
    "token_level",
    "variational_information",
]
