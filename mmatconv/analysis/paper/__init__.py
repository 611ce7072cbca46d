"""The figures of the paper's tables beside the counted ones."""
