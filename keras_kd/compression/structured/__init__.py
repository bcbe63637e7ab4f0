"""Channels, neurons and attention heads leave a model along their dependencies; a smaller plain model comes out."""
