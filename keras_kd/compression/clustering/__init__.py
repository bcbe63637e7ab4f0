"""Clustering of weights: the weights of a kernel share a few values."""
