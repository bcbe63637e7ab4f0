"""Multiple teachers."""
