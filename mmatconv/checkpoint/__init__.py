"""Checkpoints: read as data, names of the public ones, loading with a report."""
