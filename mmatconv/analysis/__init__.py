"""What a run has to show: curves and tables."""
