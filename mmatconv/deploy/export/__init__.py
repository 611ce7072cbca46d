"""Trained models as programs for other runtimes: image in; boxes, masks, class maps or scores out.

``exportable.py`` chooses the form of a model, one file each; ``write.py`` writes it and ``runtime.py`` runs it.
"""
