"""ATConv-PVT: the Pyramid Vision Transformer with its attention replaced by Attentive Convolution (tables II to VI).

No code of it was released. The form follows the paper's parameter counts: patch embeddings, pre-norms and MLPs of PVT
(arXiv 2102.12122) stay, ATConv takes the place of spatial-reduction attention, and position embeddings and class token
go. The counts cannot tell the two forms of context pooling apart; 'flat' is what all released code uses.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmatconv.backbones.mlp_backbone import MLPBackbone
from mmatconv.backbones.mmengine_parts import register_backbone
from mmatconv.layers import PatchEmbed


@register_backbone
class ATConvPVT(MLPBackbone):
    """ATConv-PVT: four stages of ATConv and MLPs at 1/4, 1/8, 1/16, 1/32.

    With the 1000-way head tiny, small, medium and large have 10.2, 18.3, 31.9 and 43.3 million parameters.

    Args:
        arch: 'tiny', 'small', 'medium', 'large', or a dict with one value for each stage of ``depths`` and optionally
            ``dims`` (64, 128, 320, 512), ``mlp_ratios`` (8, 8, 4, 4), ``kernel_sizes`` (of the token mixer; 3),
            ``positions`` (side of PVT's position embeddings, which ATConv does without; 0, none), and
            ``drop_path_rate`` (0). Default: 'tiny'.

    The other arguments are those of :class:`mmatconv.backbones.base.Backbone`; there is no BatchNorm. In the
    classification form the final LayerNorm precedes the mean over positions.

    Raises:
        UserError: An unknown arch (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]] = {
        'tiny': dict(depths=(2, 2, 2, 2), drop_path_rate=0.1),
        'small': dict(depths=(3, 4, 6, 3), drop_path_rate=0.1),
        'medium': dict(depths=(3, 4, 18, 3), drop_path_rate=0.3),
        'large': dict(depths=(3, 8, 27, 3), drop_path_rate=0.3),
    }
    per_stage: Mapping[str, Any] = dict(
        depths=None, dims=(64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4), kernel_sizes=3, positions=0
    )
    flags: Mapping[str, Any] = dict(drop_path_rate=0.0)
    default_arch = 'tiny'
    norm_eps = 1e-6

    def make_downsample(self, i: int) -> nn.Module:
        in_channels, size = (self.dims[i - 1], 2) if i else (self.in_channels, 4)
        return PatchEmbed(in_channels, self.dims[i], size, self.arch['positions'][i])
