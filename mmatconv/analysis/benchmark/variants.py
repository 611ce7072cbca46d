"""The forms in which one of our backbones competes, alone or inside a larger model."""

from collections.abc import Callable, Iterator
from copy import deepcopy

from torch import Tensor, nn

from .competitors import Competitor, Setting
from .released_expression import ReleasedBackbone

RELEASED = 'released'


def variants(
    build: Callable[[dict], nn.Module], backbone_of: Callable[[nn.Module], nn.Module], x: Tensor, setting: Setting
) -> Iterator[Competitor]:
    """Ours, ours folded for inference, the released expression, and a static depthwise convolution as the bound.

    Args:
        build: From options of the backbone to the model, random numbers in its weights.
        backbone_of: Its backbone.
        x: Images.
        setting: Says whether to fold.

    Yields:
        Competitors named 'ours', 'folded', 'released', 'static'.
    """
    ours = build({})
    yield Competitor('ours', ours.to(setting.device), (x,), equal_to=RELEASED)
    if setting.fold:
        from ...deploy import fold

        folded = fold(deepcopy(ours).eval())
        yield Competitor('folded', folded, (x,), equal_to=RELEASED)
    released = _replaced(deepcopy(ours).cpu(), backbone_of)
    yield Competitor(RELEASED, released.to(setting.device), (x,))
    static = build(dict(token_mixer=dict(type='DepthwiseConv')))
    yield Competitor('static', static.to(setting.device), (x,))


def _replaced(model: nn.Module, backbone_of: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The model with its backbone in the released expression."""
    ours = backbone_of(model)
    released = ReleasedBackbone(ours)
    if ours is model:
        return released
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is ours:
                setattr(parent, name, released)
    return model
