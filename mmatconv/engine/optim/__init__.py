"""Optimizer wrappers, gradient clipping and layer-wise decay."""
