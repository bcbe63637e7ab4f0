"""Reads a YAML file into a validated recipe, without Keras."""
