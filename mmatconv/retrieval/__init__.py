"""Visible-infrared person re-identification (table VII): head, loss, data sets, sampler, metric; for configs to name.

The models are mmpretrain's ``ImageClassifier`` with :class:`mmatconv.retrieval.head.ReIDHead`.
"""
