"""What happens to a Keras model before its conversion, and what to tell about one that cannot be converted."""
