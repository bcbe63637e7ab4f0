"""Whether a delegate of a phone takes a LiteRT file: operator by operator, and why not."""
