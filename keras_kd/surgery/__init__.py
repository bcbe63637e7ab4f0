"""A model read as a graph and built again: folding, copies in another precision."""
