"""Several teachers at once."""
