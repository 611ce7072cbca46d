"""What the released code calls the tensors of an AttNet classifier and of SiT, and what they are called here."""

from collections.abc import Mapping

from torch import Tensor

# A released classifier has these at the root; mmpretrain has the backbone under 'backbone.' and a layer in its head.
RELEASED_ROOTS = ('downsample_layers.', 'stages.', 'norm.', 'head.')
SIT_ROOTS = ('x_embedder.', 't_embedder.', 'y_embedder.', 'pos_embed', 'blocks.', 'final_layer.')
# What the names begin with, there and here; the first rule that fits counts.
RULES = (('head.', 'head.fc.'), ('', 'backbone.'))


def is_released(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of the released code, with or without its head.

    ConvNeXt's classifiers share the roots, so a token mixer must be there too.
    """
    named = all(name.startswith(RELEASED_ROOTS) for name in state)
    return named and any(name.startswith('stages.0.0.token_mixer.') for name in state)


def is_released_sit(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of the released SiT, which are also those of github.com/willisma/SiT."""
    return 'x_embedder.proj.weight' in state and all(name.startswith(SIT_ROOTS) for name in state)


def to_classifier(name: str) -> str:
    """The name in mmpretrain's ImageClassifier with LinearClsHead of a tensor that the released code calls `name`."""
    released, ours = next(rule for rule in RULES if name.startswith(rule[0]))
    return ours + name[len(released) :]


def to_released(name: str) -> str | None:
    """The opposite of :func:`to_classifier`; None where the released classifier has nothing of the kind."""
    return next((released + name[len(ours) :] for released, ours in RULES if name.startswith(ours)), None)
