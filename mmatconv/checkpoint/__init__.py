"""Checkpoints: read as data, names of the public ones, loading with a report."""

from mmatconv.checkpoint.loading import LoadReport, load_pretrained
from mmatconv.checkpoint.reader import read_checkpoint

__all__ = ['LoadReport', 'load_pretrained', 'read_checkpoint']
