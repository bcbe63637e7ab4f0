"""The order of a curriculum: pacing, and which examples a batch may take."""
