"""From a YAML file to a validated recipe, without Keras."""
