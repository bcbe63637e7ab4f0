"""Entropy coding of weights: how many bytes a pruned and clustered model needs."""
