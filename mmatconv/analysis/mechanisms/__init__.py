"""Adaptive routing and lateral inhibition of token mixers on images: figures 1 and 3 of arXiv 2510.20092."""
