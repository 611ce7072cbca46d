"""ATConv-Swin: the Swin Transformer with its window attention replaced by Attentive Convolution (table II).

No code of it was released. Swin's patch embedding, pre-norms and MLPs (arXiv 2103.14030) stay; ATConv on the whole map
takes the place of window attention, and shifts and relative positions go. That alone does not give the parameters
and FLOPs of table II; with 3x3 convolutions of stride 2 in place of Swin's linear patch merging all rows but one
(384 pixels: 84.3 million parameters against 84.2 counted) do. That form is inferred from the counts.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmatconv.backbones.mlp_backbone import MLPBackbone
from mmatconv.backbones.mmengine_parts import register_backbone
from mmatconv.errors import UserError
from mmatconv.layers import ConvBN, PatchEmbed, PatchMerging

MERGINGS: Mapping[str, type[nn.Module]] = {'conv': ConvBN, 'linear': PatchMerging}


@register_backbone
class ATConvSwin(MLPBackbone):
    """ATConv-Swin: four stages of ATConv and MLPs at 1/4, 1/8, 1/16, 1/32.

    With the 1000-way head tiny, small and base have 28.0, 47.6 and 84.2 million parameters.

    Args:
        arch: 'tiny', 'small', 'base', or a dict with one value for each stage of ``depths`` and ``dims`` and
            optionally ``mlp_ratios`` (4), ``kernel_sizes`` (of the token mixer; 3), and ``drop_path_rate`` (0).
            Default: 'tiny'.
        merging: Between stages, 'conv' (3x3 convolution of stride 2 and BatchNorm, which the counts of table II call
            for) or 'linear' (Swin's patch merging: the pure drop-in). Default: 'conv'.
        options: Those of :class:`mmatconv.backbones.base.Backbone`. In the classification form the final LayerNorm
            precedes the mean over positions.

    Raises:
        UserError: An unknown arch or merging (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]] = {
        'tiny': dict(depths=(2, 2, 6, 2), dims=(96, 192, 384, 768), drop_path_rate=0.2),
        'small': dict(depths=(2, 2, 18, 2), dims=(96, 192, 384, 768), drop_path_rate=0.3),
        'base': dict(depths=(2, 2, 18, 2), dims=(128, 256, 512, 1024), drop_path_rate=0.5),
    }
    per_stage: Mapping[str, Any] = dict(depths=None, dims=None, mlp_ratios=4, kernel_sizes=3)
    flags: Mapping[str, Any] = dict(drop_path_rate=0.0)
    default_arch = 'tiny'
    norm_eps = 1e-5

    def __init__(self, arch: str | Mapping[str, Any] | None = None, merging: str = 'conv', **options: Any) -> None:
        if merging not in MERGINGS:
            raise UserError(f'merging must be one of {", ".join(MERGINGS)}, but is {merging!r}.')
        self.merging = merging
        super().__init__(arch, **options)

    def make_downsample(self, i: int) -> nn.Module:
        if i == 0:
            return PatchEmbed(self.in_channels, self.dims[0], 4)
        return MERGINGS[self.merging](self.dims[i - 1], self.dims[i])
