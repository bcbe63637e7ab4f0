"""Stages of a run: the plan, the loop, the stamps in the run folder."""
