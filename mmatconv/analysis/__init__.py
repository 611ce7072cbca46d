"""Benchmarks, parameter and FLOP counts, the paper's tables, studies, and reports of a training."""
