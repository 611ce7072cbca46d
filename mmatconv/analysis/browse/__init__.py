"""tools/analysis_tools/browse_predictions.py: predictions beside the ground truth, as a page for a browser."""
