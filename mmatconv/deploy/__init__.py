"""What is done to a trained model before it is used: exact folds, publishing, converting."""

from mmatconv.deploy.folding import FoldReport, fold

__all__ = ['FoldReport', 'fold']
