"""Predictions on a user's own images: which images, the model, pictures and a JSON file."""
