"""The variants of one of our backbones that are compared, alone or inside a detector."""

from collections.abc import Callable, Iterator
from copy import deepcopy

from torch import Tensor, nn

from mmatconv.analysis.benchmark.case import Candidate, Setting
from mmatconv.analysis.benchmark.released_baseline import ReleasedBackbone

RELEASED = 'released'


def variants(
    build: Callable[[dict], nn.Module], backbone_of: Callable[[nn.Module], nn.Module], x: Tensor, setting: Setting
) -> Iterator[Candidate]:
    """Ours, ours folded for inference, the released baseline, and a static depthwise convolution as the bound.

    Args:
        build: From options of the backbone to the model, random numbers in its weights.
        backbone_of: Its backbone.
        x: Images.
        setting: Says whether to fold, and whether to mask padding.

    Yields:
        Candidates named 'ours', 'folded', 'masked-whole', 'masked-padded', 'released', 'static'.
    """
    ours = build({})
    yield Candidate('ours', ours.to(setting.device), (x,), equal_to=RELEASED)
    if setting.fold:
        from mmatconv.deploy.folding import fold

        folded = fold(deepcopy(ours).eval())
        yield Candidate('folded', folded, (x,), equal_to=RELEASED)
    if setting.mask_padding:
        masked = build(dict(mask_padding=True))
        masked.load_state_dict(ours.state_dict())
        masked.to(setting.device)
        yield Candidate('masked-whole', masked, (x,), equal_to=RELEASED)
        yield Candidate('masked-padded', masked, (_padded(x),))
    released = _replaced(deepcopy(ours).cpu(), backbone_of)
    yield Candidate(RELEASED, released.to(setting.device), (x,))
    static = build(dict(token_mixer=dict(type='DepthwiseConv')))
    yield Candidate('static', static.to(setting.device), (x,))


def _padded(images: Tensor) -> Tensor:
    """A tenth of each image zero: at the right of the first, at the bottom of the next, and so on."""
    images = images.clone()
    height, width = images.shape[2:]
    images[::2, :, :, width - width // 10 :] = 0
    images[1::2, :, height - height // 10 :] = 0
    return images


def _replaced(model: nn.Module, backbone_of: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The model with the released baseline as its backbone."""
    ours = backbone_of(model)
    released = ReleasedBackbone(ours)
    if ours is model:
        return released
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is ours:
                setattr(parent, name, released)
    return model
