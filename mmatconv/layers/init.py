"""The two initialisations of the backbones: the released one, and one for training from scratch."""

import math

from torch import nn

from mmatconv.errors import UserError
from mmatconv.layers.atconv import ATConv
from mmatconv.layers.block import LayerScale
from mmatconv.layers.downsample import PatchEmbed

STYLES = ('released', 'live')


def initialize(model: nn.Module, style: str) -> None:
    """Initialise all convolutions, linear layers and LayerScales of a model in place.

    'released' is the released code's: weights from a truncated normal of deviation 0.02, biases 0, but for those of
    patch embeddings, which it does not have. The pooled
    context of a normalised map is near zero, so every generated kernel starts near zero and, without pretrained
    weights, the token mixer stays silent for hundreds of steps.

    For training from scratch, 'live': weights from a truncated normal of deviation ``1 / sqrt(fan_in)``,
    ``kernel_proj`` biases unit normal so that each channel starts with a kernel of its own, LayerScale at 1.

    Args:
        model: Any module.
        style: 'released' or 'live'.

    Raises:
        UserError: Another ``style``.
    """
    if style not in STYLES:
        raise UserError(f'init must be one of {", ".join(STYLES)}, but is {style!r}.')
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=0.02 if style == 'released' else 1 / math.sqrt(fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, PatchEmbed):
            # As PVT's code leaves it. With biases of 0 the padding of a batch would stay 0 in all layers, where the
            # slope of a LayerNorm is 1 / sqrt(eps): multiplied layer by layer, gradients overflow.
            bound = 1 / math.sqrt(module.proj.weight[0].numel())
            nn.init.uniform_(module.proj.bias, -bound, bound)
    if style == 'live':
        for module in model.modules():
            if isinstance(module, ATConv) and module.kernel_proj.bias is not None:
                nn.init.normal_(module.kernel_proj.bias)
            elif isinstance(module, LayerScale):
                nn.init.ones_(module.gamma)
