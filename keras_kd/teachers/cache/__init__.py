"""A teacher's outputs on disk."""
