"""Hooks of training and testing."""
