"""The forms in which one of our backbones competes, alone or inside a larger model."""

from collections.abc import Callable, Iterator
from copy import deepcopy

from torch import Tensor, nn

from mmatconv.analysis.benchmark.competitors import Competitor, Setting
from mmatconv.analysis.benchmark.released_expression import ReleasedBackbone

RELEASED = 'released'


def variants(
    build: Callable[[dict], nn.Module], backbone_of: Callable[[nn.Module], nn.Module], x: Tensor, setting: Setting
) -> Iterator[Competitor]:
    """Ours, ours folded for inference, the released expression, and a static depthwise convolution as the bound.

    Args:
        build: From options of the backbone to the model, random numbers in its weights.
        backbone_of: Its backbone.
        x: Images.
        setting: Says whether to fold, and whether to mask padding.

    Yields:
        Competitors named 'ours', 'folded', 'masked-whole', 'masked-padded', 'released', 'static'.
    """
    ours = build({})
    yield Competitor('ours', ours.to(setting.device), (x,), equal_to=RELEASED)
    if setting.fold:
        from mmatconv.deploy.folding import fold

        folded = fold(deepcopy(ours).eval())
        yield Competitor('folded', folded, (x,), equal_to=RELEASED)
    if setting.mask_padding:
        masked = build(dict(mask_padding=True))
        masked.load_state_dict(ours.state_dict())
        masked.to(setting.device)
        yield Competitor('masked-whole', masked, (x,), equal_to=RELEASED)
        yield Competitor('masked-padded', masked, (_padded(x),))
    released = _replaced(deepcopy(ours).cpu(), backbone_of)
    yield Competitor(RELEASED, released.to(setting.device), (x,))
    static = build(dict(token_mixer=dict(type='DepthwiseConv')))
    yield Competitor('static', static.to(setting.device), (x,))


def _padded(images: Tensor) -> Tensor:
    """A tenth of each image zero: at the right of the first, at the bottom of the next, and so on."""
    images = images.clone()
    height, width = images.shape[2:]
    images[::2, :, :, width - width // 10 :] = 0
    images[1::2, :, height - height // 10 :] = 0
    return images


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
