"""The parts of the benchmark `regimes.py`."""
