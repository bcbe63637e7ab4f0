"""Pruning of single weights: masks that follow a schedule."""
